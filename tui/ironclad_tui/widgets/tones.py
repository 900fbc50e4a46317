"""How spans of text become strips on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from textual.geometry import Region

    from ironclad_tui.text import Span

# Variable of the theme and style of each tone. Looked up here and not as component classes of CSS: with a dozen tones
# on a dozen widgets, matching their rules costs more than everything else when a screen is opened.
_TONES: Final[Mapping[str, tuple[str, Style]]] = {
    "good": ("text-success", Style()),
    "bad": ("text-error", Style(bold=True)),
    "warn": ("text-warning", Style()),
    "run": ("text-accent", Style()),
    "strong": ("foreground", Style(bold=True)),
    "title": ("text-primary", Style(bold=True)),
    "head": ("foreground", Style(bold=True, underline=True)),
    "mark": ("text-accent", Style(bold=True)),
}
_DIM: Final = 0.3
"""How far dimmed text moves towards the background; more would be hard to read."""
CURSOR: Final = Style(reverse=True)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Text in exactly `width` cells; what is cut off is shown by an ellipsis."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""
    space = " " * (width - length)
    return space + text if right else text + space


class Toned(Widget):
    """A widget that draws lines of toned spans; the theme decides what a tone looks like."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._styles_of: tuple[object, dict[str, Style]] = (None, {})

    def render_lines(self, crop: Region) -> list[Strip]:
        """Look at the theme once for all lines."""
        base = self.rich_style
        key = (self.app.theme, base)
        if self._styles_of[0] != key:
            self._styles_of = (key, self._make_styles(base))
        return super().render_lines(crop)

    def _make_styles(self, base: Style) -> dict[str, Style]:
        variables = self.app.theme_variables
        styles = {"": base}
        for tone, (variable, style) in _TONES.items():
            color = Color.parse(variables[variable])
            styles[tone] = base + style + Style(color=color.rich_color)
        foreground = Color.parse(variables["foreground"])
        background = Color.from_rich_color(base.bgcolor) if base.bgcolor is not None else Color.parse("#000000")
        styles["dim"] = base + Style(color=foreground.blend(background, _DIM).rich_color)
        return styles

    @property
    def base_style(self) -> Style:
        """Of this widget's own text."""
        return self._styles_of[1].get("") or self.rich_style

    def tone(self, name: str) -> Style:
        """The style of a tone on this widget's background; `#rrggbb/#rrggbb` is a colour on a colour, for pictures."""
        found = self._styles_of[1].get(name)
        if found is None and name.startswith("#"):
            color, _, background = name.partition("/")
            return Style(color=color, bgcolor=background)
        return found or self.base_style

    def strip(self, spans: Iterable[Span], width: int, over: Style | None = None) -> Strip:
        """One line; `over` is laid over every span (the cursor)."""
        base = self.base_style if over is None else self.base_style + over
        segments = [
            Segment(text, self.tone(tone) if over is None else self.tone(tone) + over) for text, tone in spans if text
        ]
        return Strip(segments).adjust_cell_length(width, base)
