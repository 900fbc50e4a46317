"""`ironclad demo`: the whole pipeline on three songs whose stems are known. `make demo` calls it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from ironclad import durable
from ironclad.audio.synth import write_demo_songs
from ironclad.cli import display, exits, output, text
from ironclad.cli.demo_installation import DemoInstallation
from ironclad.cli.demo_measure import Measured, measure
from ironclad.cli.follow import follow
from ironclad.cli.named import named
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import BadRequest, IroncladError
from ironclad.jobs import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.audio.synth import DemoSong
    from ironclad.cli.results import Result

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "demo": {
        "ok": "Whether everything is as it must be.",
        "songs": "Each with title, state, path, receipt, mixture_sdr_db, sdr_db, problems.",
        "problems": "What is short; empty if ok.",
        "seconds": "How long it took.",
        "folder": "Where everything is, with --keep; else null.",
    }
}
_SECONDS: Final = 180.0
_USER: Final = "demo"


class _TimeIsUp(Exception):
    """The demo takes too long."""


@app.command()
def demo(
    *,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", parser=named, metavar="DIR", help="Do it in this new or empty folder, and keep it."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Give up then.")] = _SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take three songs with known stems through everything.

    Starts a whole installation on a folder of its own, drops the songs into it, and measures what comes out. Ends with
    exit code 1 if anything is short: an output, its tags or cover art, its length, or its quality.
    """
    began = time.monotonic()
    with _folder(keep) as folder:
        songs = write_demo_songs(folder / "demo")
        measured, problems = _run(folder, songs, began + timeout, as_json=as_json)
        problems += [f"{one.title}: {problem}" for one in measured for problem in one.problems]
        seconds = round(time.monotonic() - began, 1)
        if as_json:
            _print_json(measured, problems, seconds, keep)
        else:
            _print(folder, measured, problems, seconds, keep)
    if problems:
        raise typer.Exit(exits.FAILED)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ironclad-demo-") as folder:
            yield Path(folder)
        return
    durable.make_dirs(keep.absolute())
    if any(keep.iterdir()):
        raise BadRequest(f"{keep} is not empty.")
    yield keep.absolute()


def _run(
    folder: Path, songs: Sequence[DemoSong], deadline: float, *, as_json: bool
) -> tuple[list[Measured], list[str]]:
    console = output.stderr() if as_json else output.stdout()
    problems: list[str] = []
    done: list[Result] = []

    def say(line: str) -> None:
        if not as_json:
            console.print(Text(text.printable(line), style="dim"))

    up = DemoInstallation(folder, say)
    try:
        with up:
            done = _process(up, songs, deadline, as_json=as_json)
    except _TimeIsUp:
        problems.append("it took too long")
    except IroncladError as exc:
        problems.append(str(exc))
    if problems:
        for line in up.log_ends():
            output.remark(line)
    elif up.exit_code != 0:
        problems.append(f"`ironclad up` ended with exit code {up.exit_code}")
    by_name = {Path(one.file).name: one for one in done}
    with tempfile.TemporaryDirectory(prefix="ironclad-measure-") as scratch:
        return [measure(song, by_name.get(song.path.name), Path(scratch)) for song in songs], problems


def _process(up: DemoInstallation, songs: Sequence[DemoSong], deadline: float, *, as_json: bool) -> list[Result]:
    up.wait_for_watcher(deadline - time.monotonic())
    _drop(songs, up.settings.layout.input)

    def find(session: Session) -> list[UUID]:
        return [job.job_uuid for job in query.jobs(session, query.JobFilter(limit=len(songs)))]

    def check() -> None:
        up.check()
        if time.monotonic() > deadline:
            raise _TimeIsUp

    # Not Database.open: the server is the installation's own, and must stop with it.
    database = Database(EmbeddedServer(up.settings.layout.postgres).url())
    try:
        with display.watching(len(songs), as_json=as_json) as shown:
            return list(follow(database, find, len(songs), shown, check=check).values())
    finally:
        database.close()


def _drop(songs: Sequence[DemoSong], root: Path) -> None:
    """As a user would: copy an album folder into the watch root."""
    album = root / _USER / songs[0].tags.album
    album.mkdir(parents=True)
    for song in songs:
        shutil.copyfile(song.path, album / song.path.name)


def _print_json(measured: Sequence[Measured], problems: Sequence[str], seconds: float, keep: Path | None) -> None:
    data: dict[str, Any] = {
        "ok": not problems, "songs": [one.to_dict() for one in measured], "problems": list(problems),
        "seconds": seconds, "folder": None if keep is None else str(keep.absolute()),
    }  # fmt: skip
    output.print_json(data)


def _print(
    folder: Path, measured: Sequence[Measured], problems: Sequence[str], seconds: float, keep: Path | None
) -> None:
    output.say("")
    for line in tree(folder / "data" / "output"):
        output.say(line)
    output.say("")
    _receipts(measured).print()
    output.say("")
    _quality(measured).print()
    output.say("")
    for problem in problems:
        output.say(f"short: {problem}", style="red")
    if keep is not None:
        output.say(f"Everything is in {keep.absolute()}.")
    verdict = f"{len(problems)} things are short" if problems else "everything is as it must be"
    output.say(f"The demo took {text.duration(seconds)}; {verdict}.", style="red" if problems else "green")


def tree(folder: Path) -> Iterator[str]:
    """The files below a folder, indented, with their sizes."""
    yield f"{folder.name}/"
    for path in sorted(folder.rglob("*")):
        indent = "  " * len(path.relative_to(folder).parts)
        yield f"{indent}{path.name}/" if path.is_dir() else f"{indent}{path.name}  {text.size(path.stat().st_size)}"


def _receipts(measured: Sequence[Measured]) -> output.Grid:
    headings = ("RECEIPT", "FORMAT", "SAMPLES", "OFFSET", "TRUE PEAK", "GAIN", "LOUDNESS", "RESIDUAL", "ENGINE")
    grid = output.Grid(headings, right=frozenset(headings[2:8]), wide="RECEIPT")
    for one in measured:
        receipt = one.receipt or {}
        grid.add(
            one.path.name if one.path else one.title, receipt.get("format"), receipt.get("samples"),
            receipt.get("offset_samples"), _unit(receipt.get("true_peak_db"), "dB"),
            _unit(receipt.get("gain_db"), "dB"), _unit(receipt.get("lufs"), "LUFS"),
            _unit(receipt.get("residual_db"), "dB"), receipt.get("engine"),
        )  # fmt: skip
    return grid


def _quality(measured: Sequence[Measured]) -> output.Grid:
    headings = ("SONG", "STATE", "SDR OF THE MIXTURE", "SDR OF THE INSTRUMENTAL", "BETTER BY")
    grid = output.Grid(headings, states="STATE", right=frozenset(headings[2:]), wide="SONG")
    for one in measured:
        before, after = one.mixture_sdr_db, one.sdr_db
        better = None if before is None or after is None else after - before
        grid.add(one.title, one.state, _unit(before, "dB"), _unit(after, "dB"), _unit(better, "dB"))
    return grid


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.1f} {unit}"
