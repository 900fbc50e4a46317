"""The checks of how an engine behaves while it works: progress, cancelling, memory, death, what it prints."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ironclad.engines.separation import SAMPLE_BYTES
from ironclad.errors import Cancelled, EngineDied
from ironclad.testing import inside
from ironclad.testing.bench import SHORT_FRAMES
from ironclad.testing.verdict import Broken, Check, NotJudged, beyond

if TYPE_CHECKING:
    from ironclad.engines.separation import Progress
    from ironclad.testing.bench import Bench, Outcome

CANCEL_SECONDS: Final = 2.0
_ATTEMPTS: Final = 3
"""Of cancelling, on a machine that is too busy."""
_LOOK_SECONDS: Final = 0.05
_STANDSTILL_SECONDS: Final = 0.3
"""Who looks twenty times a second and is as late as this was not let."""
_SONGS: Final = 8
_SLACK: Final = 12 << 20
"""Bytes by which memory may differ for no reason: arenas of allocators."""
_SHARE: Final = 0.03
"""The same, of what the host holds."""
_STEP: Final = 0.4
"""The same, of the mixture's own bytes, where it is looked at twice: less than one copy of it, in any format."""


def progress(bench: Bench) -> None:
    """It goes forward, from 0 to its end."""
    base = bench.sound()
    advice = (
        "call progress(done, total) often, with a fixed total, never going back, and at last progress(total, total)"
    )
    if problem := base.notes.get("progress"):
        raise Broken(str(problem), advice)
    if base.notes.get("steps", 0) < 2:  # noqa: PLR2004  # one is no progress
        raise Broken("it is called less than twice in six seconds of music", f"{advice}: without it, it counts as hung")


def cancel(bench: Bench) -> None:
    """A separation that is cancelled ends within two seconds, leaves nothing, and the host goes on."""
    bench.sound()
    long = bench.long(bench.long_frames)
    for _ in range(_ATTEMPTS):
        host = bench.host("plain")
        stop = _Stop(host.pid)
        made = bench.separate(long, "plain", progress=stop)
        if made.error is None:
            raise Broken("it made no progress to cancel it at", "call progress(done, total) several times a second")
        if not isinstance(made.error, Cancelled):
            raise Broken(f"{long.frames / long.rate:.0f} s of music: {made.said()}", "make long recordings work first")
        left = sorted(path.name for path in made.folder.iterdir())
        bench.forget(made)
        if host.alive and stop.seconds() <= CANCEL_SECONDS and not left:
            bench.figures["cancelled in"] = f"{stop.seconds():.3f} s"
            return
        if stop.seconds() > CANCEL_SECONDS or left:
            ended = f"it took {stop.seconds():.1f} s" if host.alive else "it had to be killed"
            raise Broken(
                f"cancelled, {ended}; {len(left)} files are left",
                "call progress (which raises then) or look at cancelled() several times a second, inside a long "
                "computation too; catch no BaseException",
            )
    raise NotJudged("this machine is too busy to say how long cancelling takes")


class _Stop:
    """Cancels at the first progress, and measures how long the host (process `pid`) takes to stop.

    What the machine makes it wait for a processor does not count, nor the time in which the machine stood still.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._at = self._seconds = 0.0
        self._waits: list[float] = []
        self._stood = 0.0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __call__(self, _step: Progress) -> None:
        self._at = time.monotonic()
        self._waits.append(_waited(self._pid))
        self._watcher.start()
        raise Cancelled

    def _watch(self) -> None:
        """The figures of a process go with it, so they are looked at while it is there."""
        over, looked = False, time.monotonic()
        while not over and Path(f"/proc/{self._pid}/schedstat").exists():
            self._waits.append(max(self._waits[-1], _waited(self._pid)))
            over = self._over.wait(_LOOK_SECONDS)
            late, looked = time.monotonic() - looked - _LOOK_SECONDS, time.monotonic()
            self._stood += late if late > _STANDSTILL_SECONDS else 0.0

    def seconds(self) -> float:
        """Seconds from then to the first call of this."""
        if not self._seconds:
            self._over.set()
            if self._watcher.ident is not None:
                self._watcher.join()
            waits = max(self._waits[-1], _waited(self._pid)) - self._waits[0]
            self._seconds = max(1e-3, time.monotonic() - self._at - max(waits, self._stood))
        return self._seconds


def _waited(pid: int) -> float:
    """Seconds that the main thread of a process was ready to run and was not let (proc(5)); 0 where it is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    return 0.0


def flat_in_length(bench: Bench) -> None:
    """Memory does not grow with the length, or as declared."""
    bench.sound()
    target = bench.target
    memory = target.spec.model(target.model).memory or target.spec.memory
    medium, long = bench.long_frames // 3, bench.long_frames
    short = max(_peak(bench, medium), _peak(bench, medium))
    peak = _peak(bench, long)
    mixture = target.spec.channels * target.rate * SAMPLE_BYTES
    allowed = _allowed(short)
    if peak - short > allowed + memory.per_second * (long - medium) / target.rate:
        # An allocator's arenas grow by a step, once; what grows with the length goes on growing.
        medium, long, short = long, 3 * long, peak
        peak = _peak(bench, long)
        allowed = max(allowed, _STEP * mixture * (long - medium) / target.rate)
    seconds = (long - medium) / target.rate
    slope = (peak - short) / seconds
    bench.figures["memory"] = (
        f"{peak / 1e6:.0f} MB at its peak; {slope / 1e3:+.1f} kB for a second of music, which is {mixture / 1e3:.0f} kB"
    )
    if peak - short > allowed + memory.per_second * seconds:
        raise Broken(
            f"{seconds:.0f} s more of music took {(peak - short) / 1e6:.0f} MB more, {slope / 1e3:.0f} kB a second "
            f"(declared: {memory.per_second / 1e3:.0f} kB)",
            "read, separate and write block by block, and keep no list of blocks; an engine that needs the whole "
            "recording declares it: MemoryModel(per_second=…)",
        )


def _peak(bench: Bench, frames: int) -> int:
    """Peak memory in bytes for so much music. Raises `Broken` if it fails, `NotJudged` where it is not known."""
    made = bench.separate(bench.long(frames), "plain")
    bench.forget(made)
    if made.error is not None:
        raise Broken(
            f"{frames / bench.target.rate:.0f} s of music: {made.said()}", "recordings of any length must work"
        )
    if not made.used.peak_rss:
        raise NotJudged("this system does not tell how much memory a process has")
    return made.used.peak_rss


def _allowed(held: float) -> float:
    """Bytes by which memory may differ for no reason."""
    return max(_SLACK, _SHARE * held)


def flat_over_songs(bench: Bench) -> None:
    """Memory does not grow from recording to recording: hosts live for days."""
    bench.sound()
    held = _held(bench, _SONGS)
    before, after, songs = min(held[1:4]), min(held[-3:]), _SONGS - 4
    allowed = _allowed(before)
    if after - before > allowed:
        # What an allocator keeps goes up and down by more than that; what is never let go of only goes on growing.
        songs += _SONGS
        after = min(_held(bench, _SONGS)[-3:])
        allowed *= 2
    bench.figures["memory held"] = f"{after / 1e6:.0f} MB; {(after - before) / songs / 1e3:+.1f} kB for a song"
    if after - before > allowed:
        raise Broken(
            f"the host holds {(after - before) / 1e6:.0f} MB more after {songs} songs of ten seconds",
            "let go of everything of a recording when `separate` returns: lists, caches, graphs that grow",
        )


def _held(bench: Bench, songs: int) -> list[int]:
    """Bytes that the host holds after each of so many songs. Raises as `_peak`."""
    held: list[int] = []
    for number in range(1, songs + 1):
        made = bench.separate(bench.long(SHORT_FRAMES), "plain")
        bench.forget(made)
        if made.error is not None:
            raise Broken(f"{number} recordings one after the other: {made.said()}", "each must work")
        held.append(made.used.rss)
    if not all(held):
        raise NotJudged("this system does not tell how much memory a process has")
    return held


def killed(bench: Bench) -> None:
    """A host that is killed midway fails that call with the right error; another one makes the same stems of it."""
    base = bench.sound()
    if bench.first().digests != base.digests:
        raise NotJudged("the engine is not deterministic; see `deterministic`")
    broken_off = _killed_midway(bench, base)
    if not isinstance(broken_off.error, EngineDied):
        raise Broken(
            f"the host was killed while it separated: {broken_off.said()}",
            "leave the process alone: no signal handlers",
        )
    frames = _written(broken_off)
    made = bench.separate(base.recording, into=broken_off.folder, keep=True, resume=frames)
    advice = (
        "an engine with `resumes = True` goes on at frame `sinks.frames`, with the samples that it would have made in "
        "one go; without that line it begins anew"
    )
    if made.error is not None:
        raise Broken(f"killed after {frames} frames and gone on with: {made.said()}", advice)
    if made.digests != base.digests:
        wrong = sorted(stem for stem, digest in made.digests.items() if digest != base.digests[stem])
        raise Broken(f"killed after {frames} frames and gone on with: {', '.join(wrong)} became another one", advice)
    bench.figures["resumed after a kill"] = f"at frame {frames} of {base.recording.frames}"


def _written(outcome: Outcome) -> int:
    """Frames that every stem has in its unfinished file."""
    width = outcome.recording.channels * SAMPLE_BYTES
    return min((part.stat().st_size // width for part in outcome.folder.glob("*.f32.part")), default=0)


def _killed_midway(bench: Bench, base: Outcome) -> Outcome:
    """Kill the watched host when it has written a block and is about to write the next one."""
    frozen, freeze = bench.folder / inside.FROZEN, bench.folder / inside.FREEZE
    frozen.unlink(missing_ok=True)
    host = bench.host()
    freeze.touch()

    def kill() -> None:
        if frozen.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(host.pid, signal.SIGKILL)

    try:
        return bench.separate(base.recording, keep=True, check=kill)
    finally:
        freeze.unlink(missing_ok=True)


def quiet(bench: Bench) -> None:
    """It prints nothing on standard output."""
    bench.sound()
    if said := bench.printed():
        raise Broken(
            f"it printed on standard output: {beyond(said.strip(), 300)!r}",
            "remove the prints, switch a framework's progress bar off, log to standard error: standard output is the "
            "protocol's (the host keeps it safe)",
        )


CHECKS: Final = (
    Check("progress", progress),
    Check("cancelled-within-2-seconds", cancel),
    Check("memory-flat-in-length", flat_in_length),
    Check("memory-flat-over-songs", flat_over_songs),
    Check("host-killed-midway", killed),
    Check("quiet", quiet),
)
