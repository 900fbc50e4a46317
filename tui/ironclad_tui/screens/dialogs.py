"""Dialogs: yes or no, one of a list, a line of text, the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from ironclad_tui.text import Line, Span
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer]):
    """On top of everything, until it is answered."""

    def on_mount(self) -> None:
        """There, with its widgets: unless the cockpit is about to end, when Textual gives a screen none."""
        if self.children:
            self.furnish()

    def furnish(self) -> None:
        """Fill the widgets, once."""


class Confirm(Dialog[bool]):
    """Asks before something that is not easily undone, and names what will happen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, details: Sequence[str] = ()) -> None:
        super().__init__()
        self._question = question
        self._details = tuple(details)

    def compose(self) -> ComposeResult:
        """The question, what will happen, the keys."""
        with Vertical(classes="dialog"):
            yield Lines(wrap=True, id="question")

    def furnish(self) -> None:
        """Fill it."""
        keys: Line = (Span(" y", "mark"), Span(" yes   "), Span("n", "mark"), Span(" no"))
        lines: list[Line] = [(Span(f" {self._question}", "strong"),), *((Span(f" {line}"),) for line in self._details)]
        self.query_one("#question", Lines).show([*lines, (), keys])

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001 - an action's argument
        """Close with the answer."""
        self.dismiss(answer)


class Choose(Dialog[str | None]):
    """One of a list, or none."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "cancel", "Cancel")]

    def __init__(self, title: str, options: Sequence[tuple[str, str]], help_: str = "", chosen: str = "") -> None:
        super().__init__()
        self._title = title
        self._options = tuple(options)
        self._help = help_
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical(classes="dialog"):
            yield Grid([Column("name", self._title, 24), Column("help", self._help)], id="options")

    def furnish(self) -> None:
        """Fill it."""
        grid = self.query_one(Grid)
        grid.styles.height = min(len(self._options), 16) + 1
        rows = [Row(name, (Span(name, "strong"), Span(text))) for name, text in self._options]
        grid.set_rows(rows, cursor=self._chosen or None)
        grid.focus()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Enter."""
        message.stop()
        self.dismiss(str(message.key))

    def action_cancel(self) -> None:
        """Nothing."""
        self.dismiss(None)


class Ask(Dialog[str | None]):
    """A line of text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, title: str, value: str = "") -> None:
        super().__init__()
        self._title = title
        self._value = value

    def compose(self) -> ComposeResult:
        """Title and line."""
        with Vertical(classes="dialog"):
            yield Lines(id="question")
            yield Input(self._value, id="answer", compact=True)

    def furnish(self) -> None:
        """Ready to type."""
        self.query_one("#question", Lines).show([(Span(f" {self._title}", "strong"),)])
        self.query_one(Input).focus()

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Enter."""
        self.dismiss(message.value.strip() or None)

    def action_cancel(self) -> None:
        """Nothing."""
        self.dismiss(None)


class Help(Dialog[None]):
    """Every key that does something now, from the bindings themselves."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "close", "Close")]

    def __init__(self, groups: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> None:
        super().__init__()
        self._groups = tuple(groups)

    def compose(self) -> ComposeResult:
        """The keys."""
        with Vertical(classes="dialog -tall"):
            yield Lines(id="keys", classes="-main")

    def furnish(self) -> None:
        """Fill it."""
        lines: list[Line] = []
        for title, keys in self._groups:
            lines.append((Span(f" {title}", "title"),))
            lines += [(Span(f"   {key:<22}", "mark"), Span(text)) for key, text in keys]
            lines.append(())
        widget = self.query_one("#keys", Lines)
        widget.show(lines[:-1])
        widget.focus()

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
