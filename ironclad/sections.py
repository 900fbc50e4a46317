"""Groups of settings: what all of them have in common, and those about tags and media servers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

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


class MetadataSettings(Section):
    """Where tags come from, beside the file. Nothing leaves the machine unless it is enabled here."""

    musicbrainz: MusicBrainzSettings = Field(
        default_factory=MusicBrainzSettings, description="Tracks whose tags are missing or wrong."
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
