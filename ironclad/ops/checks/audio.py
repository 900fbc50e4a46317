"""Decoder and engines."""

from __future__ import annotations

import math
import struct
import tempfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING

from ironclad.errors import IroncladError
from ironclad.ops.checks.outcome import fail, ok, warn

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.engines.contract import EngineSpec
    from ironclad.ops.checks.outcome import Outcome

_RATE = 44_100
_BUILT_IN = "center"


def _tone(seconds: float, channels: int = 2) -> list[tuple[float, ...]]:
    """A tone per channel, each at its own pitch: enough stereo for any engine."""
    count = int(seconds * _RATE)
    pitches = [220.0 * (1 + channel / 2) for channel in range(channels)]
    return [tuple(0.3 * math.sin(2 * math.pi * pitch * n / _RATE) for pitch in pitches) for n in range(count)]


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
    """Every engine that is registered, every plugin that is broken, and one second through the built-in engine."""
    from ironclad.engines.registry import installed_engines  # noqa: PLC0415 - loads the plugins

    registry = installed_engines()
    found = [
        warn(state.error, "Update or uninstall the plugin.", about=state.name)
        for state in registry.plugins()
        if state.error
    ]
    names = [spec.name for spec in registry]
    if settings.engine.name not in names:
        detail = f"engine.name is {settings.engine.name}, installed: {', '.join(names) or 'none'}"
        found.append(fail(detail, "Install the engine, or set engine.name to one that is there."))
    for spec in registry:
        if spec.name == _BUILT_IN:
            found.append(_separate_a_second(spec))
        else:
            found.append(_usable(settings, spec))
    return found


def _usable(settings: Settings, spec: EngineSpec) -> Outcome:
    """Whether its environment and its model are there; what the settings' engine lacks stops every job."""
    from ironclad.engines import choice  # noqa: PLC0415 - loads the plugins

    chosen = spec.name == settings.engine.name
    parameters = {choice.MODEL: settings.engine.model} if chosen and settings.engine.model else {}
    try:
        choice.ready(settings.layout, choice.of_job(settings.layout, spec.name, parameters))
    except IroncladError as exc:
        return (fail if chosen else warn)(exc.detail or exc.what(), exc.hint, about=spec.name)
    return ok(f"{spec.title} {spec.version}, {'/'.join(spec.devices)}", about=spec.name)


def _separate_a_second(spec: EngineSpec) -> Outcome:
    from ironclad.engines.client import EngineHost  # noqa: PLC0415 - only here
    from ironclad.engines.separation import SeparationRequest  # noqa: PLC0415

    frames = _tone(1.0)
    with tempfile.TemporaryDirectory(prefix="ironclad-doctor-") as folder:
        source = Path(folder, "mixture.f32")
        source.write_bytes(b"".join(struct.pack("<2f", *frame) for frame in frames))
        output = Path(folder, "stems")
        output.mkdir()
        request = SeparationRequest(input=source, frames=len(frames), channels=2, rate=_RATE, output=output)
        try:
            with EngineHost(spec) as host:
                done = host.separate(request)
        except IroncladError as exc:
            return fail(str(exc), exc.hint, about=spec.name)
    return ok(f"separated 1 s into {', '.join(done.stems)} in {done.seconds:.2f} s", about=spec.name)
