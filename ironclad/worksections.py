"""Groups of settings about what is done with a file, and by which services."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path  # noqa: TC003 - pydantic evaluates annotations
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from ironclad.sections import Positive, PositiveInt, Section


class WatchRoot(Section):
    """One watched folder."""

    path: Path = Field(description="The folder to watch; its sub-folders are users.")
    mode: Literal["move", "copy", "link"] = Field(
        "move", description="What claiming does: move the file into archive/, copy it, or hard-link it."
    )
    watch: Literal["auto", "events", "polling"] = Field(
        "auto", description="How changes are seen; auto tries file-system events with a probe file, else polls."
    )
    user: str | None = Field(None, description="The user of files here; by default the first sub-folder's name.")


class IngestSettings(Section):
    """Watching folders for new files."""

    roots: tuple[WatchRoot, ...] = Field((), description="Watched folders; none means input/ of the data folder.")
    stability_seconds: Positive = Field(5.0, description="How long size and mtime must stay the same, without events.")
    rescan_seconds: Positive = Field(
        300.0, description="How often every root is listed again, in case events got lost."
    )
    poll_seconds: Positive = Field(2.0, description="How often a polled root is listed.")
    ignore: tuple[str, ...] = Field((), description="More glob patterns of names to ignore.")
    max_path_bytes: PositiveInt = Field(4000, description="Longest path that is accepted, in bytes.")


class LimitSettings(Section):
    """What a file may be; everything beyond is refused with its own error code."""

    max_bytes: PositiveInt = Field(4 << 30, description="Largest file, in bytes.")
    max_seconds: Positive = Field(4 * 3600.0, description="Longest audio, in seconds.")
    min_seconds: Positive = Field(1.0, description="Shortest audio worth separating, in seconds; shorter is skipped.")
    max_decoded_bytes: PositiveInt = Field(16 << 30, description="Largest decoded size (32-bit float), in bytes.")
    max_channels: PositiveInt = Field(6, description="Most channels.")
    min_sample_rate: PositiveInt = Field(8_000, description="Lowest sample rate, in hertz.")
    max_sample_rate: PositiveInt = Field(192_000, description="Highest sample rate, in hertz.")
    allow_truncated: bool = Field(False, description="Process what is there of a file that ends too early.")
    decode_seconds: PositiveInt = Field(1800, description="Processor seconds that decoding one file may take.")
    decode_wall_seconds: Positive = Field(3600.0, description="Seconds that decoding one file may take.")
    decode_memory_bytes: PositiveInt = Field(2 << 30, description="Address space of the decoding process, in bytes.")


class VirusSettings(Section):
    """Asking ClamAV about each file before anything else reads it."""

    socket: Path | None = Field(None, description="The Unix socket of clamd; none asks nobody.")
    seconds: Positive = Field(120.0, description="How long one file may take.")
    max_bytes: PositiveInt = Field(
        100 << 20, description="The largest file, in bytes, of which clamd's answer is believed; see its MaxFileSize."
    )
    beyond: Literal["refuse", "pass"] = Field(
        "refuse", description="What becomes of a file that is too large to be scanned."
    )


class EngineRule(Section):
    """Which songs get which engine. All patterns given must match, whatever the case (`*`, `?`); none matches all."""

    genre: str = Field("", description="A genre of the song's tags.")
    artist: str = Field("", description="An artist or album artist.")
    album: str = Field("", description="The album.")
    path: str = Field("", description="The path below the user's folder.")
    user: str = Field("", description="The user.")
    root: str = Field("", description="The watched folder.")
    engine: str = Field(description="The engine; `auto` is the best that is installed.")
    model: str = Field("", description="Its model; empty is its default.")
    parameters: dict[str, float | int | str | bool] = Field(default_factory=dict, description="Its parameters.")


class EngineSettings(Section):
    """Separation."""

    name: str = Field(
        "center", description="The engine used unless a job or a rule says otherwise; auto: the best that is installed."
    )
    model: str = Field("", description="That engine's model (`ironclad models list`); empty is its default.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
        description="cpu, cuda, cuda:N or mps; auto: the GPU where a gpu pool is set and the engine can, else the CPU.",
    )
    parameters: dict[str, float | int | str | bool] = Field(
        default_factory=dict, description="Parameters for the engine; see `ironclad engines show`."
    )
    rules: tuple[EngineRule, ...] = Field(
        (),
        description="Other engines for some songs; the first rule that matches decides. A job's own choice goes first.",
    )
    stall_seconds: Positive = Field(120.0, description="An engine without progress for so long is stopped.")
    memory_bytes: int = Field(0, ge=0, description="Memory limit of an engine host, in bytes; 0 is none.")
    threads: int = Field(0, ge=0, description="Threads of an engine host; 0 divides the cores among the pool's slots.")
    hosts: int = Field(
        0, ge=0, description="Engine processes kept warm at a time, on each worker; 0 is one for each slot."
    )
    idle_seconds: Positive = Field(600.0, description="A warm engine that nobody used for so long is ended.")
    recycle_bytes: int = Field(
        0, ge=0, description="A warm engine that keeps more memory than this after a song is ended; 0: none is."
    )
    recycle_device_bytes: int = Field(0, ge=0, description="The same for memory on its GPU.")
    reserve_bytes: int = Field(
        256 << 20, ge=0, description="Memory that engines are not started into: a song waits until there is more."
    )
    memory_wait_seconds: Positive = Field(
        600.0, description="A song waits so long for memory that nothing of ours holds; then it is tried again later."
    )
    step_down: tuple[Literal["segment", "batch", "cpu", "model"], ...] = Field(
        ("segment", "batch"),
        description="What may be tried when memory runs out, in this order: shorter segments, fewer at a time, the CPU "
        "instead of the GPU, the engine's smaller model.",
    )


class OutputSettings(Section):
    """The library."""

    format: Literal["auto", "flac", "mp3", "m4a", "opus", "ogg", "wav"] = Field(
        "auto", description="auto: FLAC for lossless sources, the source's own family for lossy ones."
    )
    stems: tuple[str, ...] = Field(("instrumental",), description="What is published: instrumental, karaoke, stems.")
    album_policy: Literal["own-album", "same-album"] = Field(
        "own-album", description="own-album: tags say `Album (Instrumentals)`; same-album: only the title tells."
    )
    template: str = Field("", description="Path template below output/; empty is the built-in one.")
    receipts: bool = Field(True, description="Write a .receipt.json beside each file; the database has it anyhow.")
    cover: bool = Field(True, description="Put the front cover into the album folder as cover.jpg or cover.png.")
    skip_instrumentals: bool = Field(True, description="Skip files whose tags say they are instrumentals already.")
    skip_speech: bool = Field(False, description="Skip recordings that sound like speech.")


class RecombineSettings(Section):
    """What is made of the stems, and how loud."""

    instrumental: Literal["mixture-minus-vocals", "sum-of-stems"] = Field(
        "mixture-minus-vocals",
        description="How the instrumental is made: the mixture minus the vocals, or the sum of all other stems (the "
        "engine's own accompaniment, where it makes one).",
    )
    karaoke_db: float = Field(-12.0, ge=-60, le=0, description="Level of the vocals in the karaoke mix, in dB.")
    peak: Literal["sample", "true"] = Field(
        "sample",
        description="What is kept from clipping, by one gain for all files of a song: sample: samples stay below "
        "-0.1 dBFS; true: true peaks below -1 dBTP (for lossy formats and players without headroom).",
    )


class JobSettings(Section):
    """Leases and retries."""

    lease_seconds: Positive = Field(30.0, description="A worker silent for so long has lost its job.")
    max_failures: PositiveInt = Field(3, description="Retryable failures before a job is failed for good.")
    quarantine_after: PositiveInt = Field(
        5, description="The same failure of the same file so often sets it aside, across retries by hand."
    )
    stall_seconds: Positive = Field(300.0, description="A stage that shows no sign of life for so long is stopped.")
    backoff_seconds: Positive = Field(5.0, description="First delay before a retry; doubles each time.")
    keep_work: bool = Field(False, description="Keep the stage folders of jobs that succeeded (replay is faster).")
    deadline_seconds: Positive = Field(
        86_400.0, description="A job should end so long after it was received; metrics count those that do not."
    )
    backoff_max_seconds: Positive = Field(900.0, description="Longest delay before a retry.")


class PoolSettings(Section):
    """One work pool on this machine."""

    slots: PositiveInt = Field(default_factory=lambda: max(1, os.cpu_count() or 1), description="Jobs at a time.")


class DispatchSettings(Section):
    """From the queue to Prefect."""

    in_flight_factor: Positive = Field(2.0, description="Flow runs handed to Prefect per slot; keeps priorities sharp.")
    tick_seconds: Positive = Field(5.0, description="Longest pause between two looks at the queue (events wake it).")
    unclaimed_seconds: Positive = Field(60.0, description="A flow run that nobody started by then is looked into.")


class PrefectSettings(Section):
    """The Prefect server."""

    host: str = Field("127.0.0.1", description="Where `ironclad run prefect` listens.")
    port: int = Field(4200, ge=0, le=65535, description="Its port; 0 takes a free one.")
    api_url: str | None = Field(None, description="An existing server's API URL; none starts our own.")
    database: Literal["auto", "postgresql", "sqlite"] = Field("auto", description="auto: PostgreSQL, beside ours.")
    redis_url: SecretStr | None = Field(
        None,
        description="Redis (redis://…) through which several Prefect servers share their messages; none: one server.",
    )
    query_seconds: Positive = Field(
        5.0, description="How often a worker asks for new runs; on the dispatcher's host it is woken at once."
    )
    drain_seconds: Positive = Field(60.0, description="How long a stopping worker lets runs finish.")

    @field_validator("redis_url")
    @classmethod
    def _empty_is_none(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is not None and value.get_secret_value() else None


class ServiceSettings(Section):
    """Health and metrics endpoints."""

    host: str = Field("127.0.0.1", description="Where services answer /health and /metrics.")
    base_port: int = Field(9640, ge=0, le=65000, description="First port of the services; 0 takes free ones.")
    stop_seconds: Positive = Field(105.0, description="How long `ironclad up` waits for a service to stop.")


class ApiSettings(Section):
    """The control API."""

    enabled: bool = Field(False, description="Whether `ironclad up` starts it; `ironclad run api` does in any case.")
    host: str = Field("127.0.0.1", description="Where it listens. Other machines belong behind a proxy with TLS.")
    port: int = Field(9700, ge=0, le=65535, description="Its port; 0 takes a free one.")
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names, beside loopback ones, under which clients may ask for it (`music.example.org`, "
        "`*.example.org`; `*` is any). Needed where it listens on more than loopback.",
    )
    connections: PositiveInt = Field(100, description="Clients at a time; more are told to come again.")
    listeners: PositiveInt = Field(20, description="Clients that follow its events at a time.")
    stop_seconds: Positive = Field(
        20.0, description="How long downloads may go on when it stops; uploads and listeners end at once."
    )

    @model_validator(mode="after")
    def _exposed_knowingly(self) -> Self:
        if not is_loopback(self.host) and not self.allowed_hosts:
            raise ValueError(f"host {self.host!r} is more than loopback: name in allowed_hosts what clients call it by")
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class DiskSettings(Section):
    """The disk floor."""

    min_free_bytes: int = Field(1 << 30, ge=0, description="Below this nothing new starts; work resumes by itself.")
