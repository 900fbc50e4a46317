"""Progress of files on their way: bars on a terminal, a line for each finished file elsewhere."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from ironclad.cli import output, text
from ironclad.jobs import pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from ironclad.cli.results import Result

_TITLE_WIDTH = 40


def lines_of(result: Result) -> list[Text]:
    """A finished file for people: its state and name, then its outputs, or what went wrong and what to do."""
    head = Text(result.state, style=output.STATE_STYLES.get(result.state, "red"))
    head.append(f"  {text.printable(result.title)}", style="default")
    if result.seconds is not None and result.good:
        head.append(f"  ({text.duration(result.seconds)})", style="dim")
    lines = [head]
    if result.error is not None:
        error = result.error
        what = " ".join(part for part in (error.get("what"), error.get("detail")) if part)
        lines.append(Text(f"  {error.get('code')}: {text.printable(what)}"))
        if not result.good:
            lines.append(Text(f"  {text.printable(result.file)}", style="dim"))
            lines.append(Text(f"  {text.printable(error.get('hint') or '')}", style="dim"))
    lines += [Text(f"  {text.printable(one.path)}") for one in result.outputs]
    return lines


def tally(summary: dict[str, Any]) -> str:
    """One sentence about many files."""
    parts = [f"{summary[name]} {name}" for name in ("succeeded", "skipped", "failed") if summary[name]]
    return f"{text.counted(len(summary['jobs']), 'file')}: {', '.join(parts)}."


class Plain:
    """For files and pipes: a line for each finished file on standard output; nothing with --json."""

    def __init__(self, console: Console, *, silent: bool) -> None:
        self._console = console
        self._silent = silent
        self._lock = threading.Lock()

    def stage(self, job_uuid: str, title: str, stage: str) -> None:
        """Not shown."""

    def progress(self, job_uuid: str, fraction: float) -> None:
        """Not shown."""

    def finished(self, result: Result) -> None:
        """Print it."""
        with self._lock:
            for line in [] if self._silent else lines_of(result):
                self._console.print(line)


class Bars:
    """For a terminal: one bar over all files, one for the stage of each file that is being worked on."""

    def __init__(self, progress: Progress, total: int, *, silent: bool) -> None:
        self._progress = progress
        self._silent = silent
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._all = progress.add_task("files", total=total, unit="") if total > 1 else None

    def stage(self, job_uuid: str, title: str, stage: str) -> None:
        """Show the job's bar at the beginning of a stage."""
        shown = text.printable(title)
        shown = shown if len(shown) <= _TITLE_WIDTH else f"{shown[: _TITLE_WIDTH - 1]}…"
        label = f"{shown}  {pipeline.STAGES.index(stage) + 1}/{len(pipeline.STAGES)} {stage}"
        with self._lock:
            if job_uuid not in self._tasks:
                self._tasks[job_uuid] = self._progress.add_task(label, total=1.0)
            self._progress.update(self._tasks[job_uuid], description=label, completed=0.0)

    def progress(self, job_uuid: str, fraction: float) -> None:
        """Move the job's bar."""
        with self._lock:
            task = self._tasks.get(job_uuid)
            if task is not None:
                self._progress.update(task, completed=fraction)

    def finished(self, result: Result) -> None:
        """Replace the bar by the result."""
        with self._lock:
            task = self._tasks.pop(str(result.job_uuid), None)
            if task is not None:
                self._progress.remove_task(task)
            if self._all is not None:
                self._progress.advance(self._all)
            for line in [] if self._silent else lines_of(result):
                self._progress.console.print(line)


class _Count(MofNCompleteColumn):
    """`3/12` for the bar over all files, a percentage for the others."""

    def render(self, task: Any) -> Text:
        """One cell."""
        return super().render(task) if "unit" in task.fields else Text(f"{task.percentage:>3.0f} %")


@contextlib.contextmanager
def watching(total: int, *, as_json: bool) -> Iterator[Plain | Bars]:
    """A display for `total` files. With JSON, only bars are shown, and only on a terminal (on standard error)."""
    console = output.stderr() if as_json else output.stdout()
    if not console.is_terminal:
        yield Plain(console, silent=as_json)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Count(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress, total, silent=as_json)


@contextlib.contextmanager
def counting(what: str, items: list[Path]) -> Iterator[Iterator[Path]]:
    """Iterate over items under a bar (on standard error, on a terminal only)."""
    console = output.stderr()
    if not console.is_terminal or len(items) == 1:
        yield iter(items)
        return
    with Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), console=console, transient=True) as progress:
        yield iter(progress.track(items))
