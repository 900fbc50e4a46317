"""Groups of settings: what all of them have in common, and those about tags, media servers and notifications."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A group of settings; unknown names are errors, so that a typo is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MusicBrainzSettings(Section):
    """Looking up tracks whose tags are missing or wrong."""

    enabled: bool = Field(
        False, description="Ask MusicBrainz about tracks without title, artist or album. Sends what is known of them."
    )
    url: str = Field("https://musicbrainz.org", description="The service, or a mirror of it.")
    contact: str = Field("", description="Your address or page, for the User-Agent: MusicBrainz asks for one.")
    interval_seconds: float = Field(
        1.0, ge=0, description="Time between two requests of the whole installation; 0 is for a mirror of your own."
    )
    threshold: float = Field(85.0, ge=0, le=100, description="Points that a match needs; below, you pick.")
    timeout_seconds: Positive = Field(15.0, description="Silence after which an attempt is given up.")
    attempts: PositiveInt = Field(4, description="Attempts at one question.")
    outage_seconds: float = Field(
        300.0,
        ge=0,
        description="After a question without an answer, jobs do not ask for so long (retag does it later).",
    )


class CoverArtSettings(Section):
    """Covers for tracks that have none."""

    enabled: bool = Field(False, description="Ask the Cover Art Archive about releases whose id is known.")
    url: str = Field("https://coverartarchive.org", description="The service, or a mirror of it.")
    size: Literal[250, 500, 1200] = Field(1200, description="Longest side in pixels.")


class AcoustIdSettings(Section):
    """Recognising tracks by their sound where MusicBrainz does not find them by their tags."""

    enabled: bool = Field(
        False,
        description="Ask AcoustID about tracks that MusicBrainz (which must be enabled too) does not find by words. "
        "Sends fingerprints.",
    )
    url: str = Field("https://api.acoustid.org", description="The service, or one with the same interface.")
    client_key: SecretStr | None = Field(
        None, description="The application key that acoustid.org/new-application gave you."
    )
    interval_seconds: float = Field(
        0.34, ge=0, description="Time between two requests of the whole installation: AcoustID allows 3 a second."
    )


class MetadataSettings(Section):
    """Where tags come from, beside the file. Nothing leaves the machine unless it is enabled here."""

    musicbrainz: MusicBrainzSettings = Field(
        default_factory=MusicBrainzSettings, description="Tracks whose tags are missing or wrong."
    )
    acoustid: AcoustIdSettings = Field(
        default_factory=AcoustIdSettings, description="Tracks that are recognised by their sound."
    )
    cover_art: CoverArtSettings = Field(
        default_factory=CoverArtSettings, description="Covers for tracks that have none."
    )


class JellyfinSettings(Section):
    """A Jellyfin server (Emby has the same interface)."""

    url: str = Field("", description="Its address, as http://jellyfin:8096; empty is none.")
    api_key: SecretStr | None = Field(None, description="An API key (Dashboard, API Keys).")
    folder: str = Field("", description="The library's folder as the server sees it; empty if it is the same there.")


class PlexSettings(Section):
    """A Plex Media Server."""

    url: str = Field("", description="Its address, as http://plex:32400; empty is none.")
    token: SecretStr | None = Field(None, description="Its X-Plex-Token.")
    section: PositiveInt | None = Field(
        None, description="The number of the music library: only the new folders are looked at. None looks at all."
    )
    folder: str = Field("", description="The library's folder as the server sees it; empty if it is the same there.")


class SubsonicSettings(Section):
    """A server with the Subsonic API (Navidrome, Gonic …)."""

    url: str = Field("", description="Its address, as http://navidrome:4533; empty is none.")
    user: str = Field("", description="A user that may start a scan (in Navidrome, an administrator).")
    password: SecretStr | None = Field(None, description="The user's password; only a salted digest of it is sent.")


class ScanSettings(Section):
    """Telling media servers that there is something new."""

    enabled: bool = Field(False, description="After each job, tell the servers below, and those that plugins bring.")
    timeout_seconds: Positive = Field(5.0, description="How long a job waits for their answers.")
    outage_seconds: float = Field(60.0, ge=0, description="How long a server that failed is left alone.")
    jellyfin: JellyfinSettings = Field(default_factory=JellyfinSettings, description="A Jellyfin server.")
    plex: PlexSettings = Field(default_factory=PlexSettings, description="A Plex Media Server.")
    subsonic: SubsonicSettings = Field(default_factory=SubsonicSettings, description="A server with the Subsonic API.")


class LibrarySettings(Section):
    """What media servers see."""

    scan: ScanSettings = Field(default_factory=ScanSettings, description="Telling media servers.")

    lint: Literal["warn", "quarantine", "off"] = Field(
        "warn",
        description="When a media server would merge, split or mistake albums: publish and say so, or keep it back.",
    )


class BackupSettings(Section):
    """Dumps of the database in backups/."""

    keep_days: float = Field(
        30.0, ge=0, description="Delete older dumps, but never the newest one that a drill restored; 0 keeps all."
    )
    keep_at_least: PositiveInt = Field(7, description="So many of the newest dumps stay, however old they are.")
    max_age_hours: float = Field(
        30.0,
        ge=0,
        description="The dispatcher makes a dump when the newest is older (a daily timer is first); 0: never.",
    )


_HOURS = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
_CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"
SeverityName = Literal["info", "warning", "error", "critical"]
Matchers = dict[str, str]


class ChannelSettings(Section):
    """One way to reach somebody."""

    type: str = Field("apprise", description="apprise, or a kind of notifier that a plugin brings (webhook …).")
    url: SecretStr | None = Field(
        None, description="Where: for apprise, one of its service URLs (mailto://, slack://)."
    )
    secret: SecretStr | None = Field(None, description="For notifiers that sign or log in; see theirs.")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="More for a plugin's notifier."
    )
    rate_per_minute: Positive = Field(20.0, description="Messages a minute; more of them wait.")
    burst: PositiveInt = Field(5, description="Messages that may go out at once before the rate counts.")
    timeout_seconds: Positive = Field(30.0, description="An attempt without an answer for so long has failed.")
    quiet_hours: str = Field(
        "", pattern=f"{_HOURS}|^$", description="22:00-07:00: only critical alerts go out then; others wait."
    )
    resolved: bool = Field(True, description="Tell also when something is well again.")


class RouteSettings(Section):
    """Who is told of what, and how soon."""

    name: str = Field("", description="For people; the number of the route by default.")
    kinds: tuple[str, ...] = Field((), description="Glob patterns of kinds (job_*, disk_low …); none is every kind.")
    severity: SeverityName = Field("info", description="At least so bad.")
    labels: Matchers = Field(default_factory=dict, description="Glob patterns of labels (code, stage, user …).")
    channels: tuple[str, ...] = Field((), description="Names of channels; must be given unless mute is set.")
    mute: bool = Field(False, description="Tell nobody, on purpose.")
    group_by: tuple[str, ...] | None = Field(
        None, description="Labels that make a message of its own; `...` is every event; by default notify.group_by."
    )
    group_wait_seconds: float | None = Field(None, ge=0, description="Instead of notify.group_wait_seconds.")
    group_interval_seconds: float | None = Field(None, ge=0, description="Instead of notify.group_interval_seconds.")
    repeat_interval_seconds: float | None = Field(None, gt=0, description="Instead of notify.repeat_interval_seconds.")
    threshold: PositiveInt = Field(1, description="Tell only of so many within threshold_minutes.")
    threshold_minutes: Positive = Field(10.0, description="The time for threshold.")
    digest: Literal["off", "hourly", "daily"] = Field("off", description="Collect, and tell once an hour or a day.")
    digest_at: str = Field("08:00", pattern=_CLOCK, description="When a daily digest goes out.")
    escalate_to: tuple[str, ...] = Field((), description="Channels that hear of what nobody acknowledged.")
    escalate_minutes: Positive = Field(30.0, description="How long an alert may stay without acknowledgement.")


class InhibitSettings(Section):
    """While one thing fires, others are not told; they are told afterwards if they still fire."""

    source: Matchers = Field(description="What fires: kind, severity and labels, as glob patterns.")
    target: Matchers = Field(description="What is kept back.")
    equal: tuple[str, ...] = Field((), description="Labels that must be the same in both.")


def _usual_inhibitions() -> tuple[InhibitSettings, ...]:
    """What a cause explains is not told beside it."""
    return (
        InhibitSettings(source={"kind": "disk_low"}, target={"kind": "job_failed"}),
        InhibitSettings(
            source={"kind": "dependency_down"}, target={"kind": "job_failed", "error_kind": "dependency"}
        ),
        InhibitSettings(source={"kind": "disk_low"}, target={"kind": "dependency_down", "dependency": "storage"}),
        InhibitSettings(
            source={"kind": "dependency_down"}, target={"kind": "service_lost"}, equal=("dependency",)
        ),
    )  # fmt: skip


class NotifySettings(Section):
    """Telling people. Nothing is sent unless there is a channel."""

    channels: dict[str, ChannelSettings] = Field(
        default_factory=dict, description="Channels by name; keep each `url` in the secrets folder or the environment."
    )
    routes: tuple[RouteSettings, ...] = Field(
        (), description="All that match apply; a failure that none matches goes to every channel."
    )
    inhibit: tuple[InhibitSettings, ...] = Field(
        default_factory=_usual_inhibitions,
        description="What is not told while something else fires; by default what its cause explains.",
    )
    group_by: tuple[str, ...] = Field(("kind",), description="Labels that make a message of its own.")
    group_wait_seconds: float = Field(30.0, ge=0, description="How long a new group waits for more.")
    group_interval_seconds: float = Field(300.0, ge=0, description="Time between two messages of a group with news.")
    repeat_interval_seconds: Positive = Field(4 * 3600.0, description="What lasts is told again after so long.")
    succeeded: bool = Field(False, description="Tell of jobs that succeeded, too.")
    timezone: str = Field("", description="For quiet hours and digests, as Europe/Berlin; empty is the machine's.")
    attempts: PositiveInt = Field(12, description="Attempts at a message before it is a dead letter.")
    backoff_seconds: Positive = Field(5.0, description="First delay before a further attempt; doubles each time.")
    backoff_max_seconds: Positive = Field(3600.0, description="Longest such delay.")
    silent_seconds: Positive = Field(90.0, description="A service that did not report for so long is lost.")
    keep_days: Positive = Field(90.0, description="How long what was told is remembered.")

    @model_validator(mode="after")
    def _channels_exist(self) -> NotifySettings:
        """A wrong or empty list of channels would silence failures: it is an error, not a choice."""
        for number, route in enumerate(self.routes, start=1):
            name = f"route {route.name or number}"
            if not route.channels and not route.mute:
                raise ValueError(f"{name} has no channels; set mute = true if nobody shall be told")
            wrong = sorted({*route.channels, *route.escalate_to} - set(self.channels))
            if wrong:
                known = ", ".join(self.channels) or "none"
                raise ValueError(f"{name} names {', '.join(wrong)}, which is no channel; there is {known}")
        if self.timezone:
            try:
                ZoneInfo(self.timezone)
            except (OSError, ValueError, KeyError) as exc:  # a name that is none, or of no zone
                raise ValueError(f"timezone {self.timezone!r} is not known") from exc
        return self


class PruneRule(Section):
    """How long, and how much of, a class of files is kept."""

    days: float = Field(0.0, ge=0, description="Delete what is older; 0 keeps it.")
    max_bytes: int = Field(0, ge=0, description="Delete the oldest beyond so many bytes; 0 is no limit.")


class PruneSettings(Section):
    """What is deleted after a while. Files of jobs that are not settled are never touched."""

    every_hours: Positive = Field(24.0, description="How often the scheduled flow `maintenance` prunes.")
    work: PruneRule = Field(PruneRule(days=7), description="Stage folders of settled jobs.")
    orphaned: PruneRule = Field(PruneRule(days=30), description="What `ironclad orphans --fix` has set aside.")
    logs: PruneRule = Field(PruneRule(days=90), description="Logs of jobs that did not fail.")
    error: PruneRule = Field(PruneRule(), description="Originals of failed jobs, with error.json.")
    archive: PruneRule = Field(PruneRule(), description="Originals of jobs that succeeded or were skipped.")


class LogSettings(Section):
    """Logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is written.")
    format: Literal["auto", "json", "human"] = Field("auto", description="auto: human on a terminal, else JSON.")
    burst: int = Field(100, ge=0, description="Lines of one event that a service writes in ten seconds; 0 is no limit.")
    sample: PositiveInt = Field(100, description="Beyond the burst, one line in so many, with a count of the others.")


class TraceSettings(Section):
    """OpenTelemetry spans; needs `pip install ironclad-audio[otel]`."""

    otlp_endpoint: str = Field(
        "", description="Where spans go by OTLP over HTTP, as http://127.0.0.1:4318; empty exports nothing."
    )
    timeout_seconds: Positive = Field(5.0, description="How long a job's end may wait for its spans to be taken.")
