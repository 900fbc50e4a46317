"""Decoder and engines."""

from __future__ import annotations

import math
import shutil
import struct
import subprocess
import tempfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING

from ironclad.errors import IroncladError
from ironclad.ops.checks.outcome import fail, ok, warn

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.engines.choice import Engine, Ready
    from ironclad.engines.contract import EngineSpec
    from ironclad.ops.checks.outcome import Outcome

_RATE = 44_100
_ENGINE_SECONDS = 100.0


def _tone(seconds: float, channels: int = 2, rate: int = _RATE) -> list[tuple[float, ...]]:
    """A tone per channel, each at its own pitch: enough stereo for any engine."""
    count = int(seconds * rate)
    pitches = [220.0 * (1 + channel / 2) for channel in range(channels)]
    return [tuple(0.3 * math.sin(2 * math.pi * pitch * n / rate) for pitch in pitches) for n in range(count)]


def _recording(folder: str, frames: list[tuple[float, ...]]) -> Path:
    path = Path(folder, "tone.wav")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(b"".join(struct.pack("<2h", *(int(x * 32767) for x in frame)) for frame in frames))
    return path


def decoder(_settings: Settings) -> list[Outcome]:
    """A tiny recording through the sandboxed decoder."""
    from ironclad.audio.decode import decode  # noqa: PLC0415 - heavy, and only here
    from ironclad.audio.info import AudioLimits  # noqa: PLC0415

    frames = _tone(0.1)
    with tempfile.TemporaryDirectory(prefix="ironclad-doctor-") as folder:
        path = _recording(folder, frames)
        try:
            decoded = decode(path, None, AudioLimits())
        except IroncladError as exc:
            return [fail(str(exc), "Install again (the packages av and soundfile carry the decoders).")]
    if decoded.frames != len(frames):
        detail = f"{decoded.frames} samples came back of {len(frames)}"
        return [fail(detail, "Install the packages av and numpy again.")]
    return [ok("decodes in its sandbox, to the sample")]


def fingerprints(settings: Settings) -> list[Outcome]:
    """Whether tracks can be recognised by their sound, where that is wanted."""
    from ironclad.audio.fingerprint import PROGRAM, fingerprint, program  # noqa: PLC0415 - only here
    from ironclad.audio.info import AudioLimits  # noqa: PLC0415

    service = settings.metadata.acoustid
    if not service.enabled:
        return [ok("not wanted (metadata.acoustid.enabled)")]
    if not settings.metadata.musicbrainz.enabled:
        return [warn("AcoustID is never asked without MusicBrainz", "Set metadata.musicbrainz.enabled too.")]
    if service.client_key is None:
        remedy = "Get one at acoustid.org/new-application; it is a secret: see docs/metadata.md, AcoustID."
        return [warn("AcoustID is never asked without a client key", remedy)]
    where = program()
    if where is None:
        remedy = f"Install {PROGRAM} (Debian, Ubuntu: libchromaprint-tools); until then tracks are tagged without it."
        return [warn(f"{PROGRAM} is not installed, so no track is recognised by its sound", remedy)]
    with tempfile.TemporaryDirectory(prefix="ironclad-doctor-") as folder:
        heard = fingerprint(_recording(folder, _tone(5.0)), AudioLimits())
    if not heard.text:
        return [warn(f"{where} gives no fingerprint: {heard.problem}", f"Install {PROGRAM} again.")]
    return [ok(f"{where} works in its sandbox")]


def engines(settings: Settings) -> list[Outcome]:
    """Every plugin that is broken, and one second of sound through every engine that is registered."""
    from ironclad.engines.registry import installed_engines  # noqa: PLC0415 - loads the plugins

    registry = installed_engines()
    found = [
        warn(state.error, "Update or uninstall the plugin.", about=state.name)
        for state in registry.plugins()
        if state.error
    ]
    names = [spec.name for spec in registry]
    if settings.engine.name not in {"auto", *names}:
        detail = f"engine.name is {settings.engine.name}, installed: {', '.join(names) or 'none'}"
        found.append(fail(detail, "Install the engine, or set engine.name to one that is there."))
    found += [_tried(settings, spec) for spec in registry]
    return found


def _tried(settings: Settings, spec: EngineSpec) -> Outcome:
    """Its environment and its model (every byte of it), then a second of sound.

    What the settings' engine lacks stops every job; what others lack stops theirs only.
    """
    from ironclad.engines import choice, environments  # noqa: PLC0415 - loads the plugins

    chosen = spec.name == settings.engine.name
    wrong = fail if chosen else warn
    parameters = {choice.MODEL: settings.engine.model} if chosen and settings.engine.model else {}
    try:
        engine = choice.of_job(settings.layout, spec.name, parameters)
        ready = choice.ready(settings.layout, engine)
        built = environments.current(settings.layout, spec.name)
        pool = choice.engine_pool(settings, spec)
        device = choice.device(settings.engine, spec, pool, here=() if built is None else built.devices)
        return _separate_a_second(settings, engine, ready, device)
    except IroncladError as exc:
        return wrong(exc.detail or exc.what(), exc.hint, about=spec.name)


def _separate_a_second(settings: Settings, engine: Engine, ready: Ready, device: str) -> Outcome:
    from ironclad.engines.client import EngineHost  # noqa: PLC0415 - only here
    from ironclad.engines.separation import HostSettings, SeparationRequest  # noqa: PLC0415

    spec = engine.spec
    rate = engine.sample_rate or _RATE
    frames = _tone(1.0, rate=rate)
    with tempfile.TemporaryDirectory(prefix="ironclad-doctor-") as folder:
        source = Path(folder, "mixture.f32")
        source.write_bytes(b"".join(struct.pack("<2f", *frame) for frame in frames))
        output = Path(folder, "stems")
        output.mkdir()
        request = SeparationRequest(input=source, frames=len(frames), channels=2, rate=rate, output=output)
        host = EngineHost(
            spec, model=engine.model, device=device, interpreter=ready.interpreter, model_folder=ready.folder,
            settings=HostSettings(
                load_seconds=_ENGINE_SECONDS, stall_seconds=_ENGINE_SECONDS, threads=settings.engine.threads or 1
            ),
        )  # fmt: skip
        with host:
            done = host.separate(request)
    detail = f"{spec.title} {spec.version} on {device}: 1 s into {', '.join(done.stems)} in {done.seconds:.2f} s"
    return ok(detail, about=spec.name)


def gpu(settings: Settings) -> list[Outcome]:
    """A GPU that is configured is there, the engine can use it, and while jobs run something is on it."""
    from ironclad.engines import environments  # noqa: PLC0415 - only here

    wanted = "gpu" in settings.pools or settings.engine.device.startswith("cuda")
    if not wanted:
        return [ok("no GPU is configured")]
    if settings.engine.device == "mps":
        return [ok("Apple's GPU; nothing to ask here")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return [fail("a GPU is configured and there is no nvidia-smi", "Install the driver, or remove pools.gpu.")]
    command = [program, "--query-gpu=name,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        return [fail(f"nvidia-smi fails: {exc}", "Check the driver; the Ironclad user needs /dev/nvidia*.")]
    found = [_card(line) for line in done.stdout.splitlines() if line.strip()]
    built = environments.current(settings.layout, settings.engine.name)
    if built is not None and "cuda" not in built.devices:
        detail = f"the environment of {settings.engine.name} cannot use it ({', '.join(built.devices) or 'nothing'})"
        remedy = f"`ironclad engines install {settings.engine.name}` on this machine, with the driver in place."
        found.append(fail(detail, remedy, about="engine"))
    return found or [fail("nvidia-smi lists none", "Check the driver and the card.")]


def _card(line: str) -> Outcome:
    name, used, total, busy = (part.strip() for part in [*line.split(","), "", "", ""][:4])
    return ok(f"{name}: {used} of {total} MiB used, {busy} % busy")
