"""Looks: dark, light, high contrast, and one without any colour."""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

_PLAIN: Final = {"footer-key-foreground": "#ffffff", "block-cursor-text-style": "reverse", "border": "#ffffff"}

MONO: Final = "ironclad-mono"
"""The look without colours."""
THEMES: Final = (
    Theme(
        name="ironclad-dark", primary="#7aa2f7", secondary="#9ece6a", accent="#7dcfff", warning="#e0af68",
        error="#f7768e", success="#9ece6a", foreground="#d5d9e6", background="#16161e", surface="#1a1b26",
        panel="#24283b", dark=True,
    ),
    Theme(
        name="ironclad-light", primary="#1f4b99", secondary="#33691e", accent="#00639c", warning="#8a5200",
        error="#b00020", success="#1b6e20", foreground="#1a1a1a", background="#fafafa", surface="#ffffff",
        panel="#e8eaf0", dark=False,
    ),
    Theme(
        name="ironclad-contrast", primary="#ffff00", secondary="#00ffff", accent="#00ffff", warning="#ffff00",
        error="#ff5555", success="#55ff55", foreground="#ffffff", background="#000000", surface="#000000",
        panel="#000000", dark=True, variables={"border": "#ffffff", "footer-key-foreground": "#ffff00"},
    ),
    Theme(
        name=MONO, primary="#ffffff", secondary="#ffffff", accent="#ffffff", warning="#ffffff",
        error="#ffffff", success="#ffffff", foreground="#ffffff", background="#000000", surface="#000000",
        panel="#000000", dark=True,
        variables={
            **_PLAIN, "text-primary": "#ffffff", "text-accent": "#ffffff", "text-warning": "#ffffff",
            "text-error": "#ffffff", "text-success": "#ffffff",
        },
    ),
)  # fmt: skip
"""In the order in which the key steps through them; the first is the default."""
