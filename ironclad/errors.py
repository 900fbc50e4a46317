"""The error catalogue: every failure an operator can meet, with what happened and what to do.

A class is one entry. Its docstring's first line is what happened (and the default message), `hint` is what to do,
`kind` decides the retry policy. Libraries' errors are translated to these at the edge where they occur; what is not
in here ends as `Unexpected`.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar
from uuid import UUID


class ErrorKind(enum.StrEnum):
    """Why something failed, as far as retrying is concerned."""

    INPUT = "input"
    """The file is the problem: trying again changes nothing."""
    CONFIG = "config"
    """A setting or an installation is the problem: an operator must act."""
    RESOURCE = "resource"
    """Disk, memory or time ran short: try again later."""
    DEPENDENCY = "dependency"
    """The database, Prefect or a network service does not answer: try again soon."""
    WORKER = "worker"
    """The process that did the work died or lost its lease: try again."""
    ENGINE = "engine"
    """The engine failed on this file: try again, then give up."""
    CONTROL = "control"
    """Not a failure of work: cancelled, or moved by somebody else."""
    INTERNAL = "internal"
    """A bug of ours."""


CATALOGUE: dict[str, type[IroncladError]] = {}
"""Every catalogue entry by its code; filled as the classes below are defined and constant afterwards."""


class IroncladError(Exception):
    """Something went wrong in Ironclad."""

    code: ClassVar[str] = "E_IRONCLAD"
    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = "See the log lines of this job."
    links: ClassVar[tuple[str, ...]] = ("runbooks.md",)
    """Pages of the documents that say more, below docs/."""

    def __init__(self, detail: str = "", **context: Any) -> None:
        self.detail = detail
        self.context = context
        super().__init__(detail or self.what())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            if cls.code in CATALOGUE:
                raise TypeError(f"error code {cls.code} is defined twice")
            CATALOGUE[cls.code] = cls

    @classmethod
    def what(cls) -> str:
        """What happened, in one sentence: the first line of the docstring."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0]

    def __str__(self) -> str:
        return f"{self.what()} {self.detail}" if self.detail else self.what()

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data: code, kind, retryable, what, detail, hint, context."""
        return {
            "code": self.code,
            "kind": self.kind.value,
            "retryable": self.retryable,
            "what": self.what(),
            "detail": self.detail,
            "hint": self.hint,
            "context": {k: v if isinstance(v, int | float | bool | None) else str(v) for k, v in self.context.items()},
        }

    @classmethod
    def from_code(cls, code: str, detail: str = "", **context: Any) -> IroncladError:
        """The catalogue entry of a code, for errors that crossed a process border; `Unexpected` if it is unknown."""
        return CATALOGUE.get(code, Unexpected)(detail, **context)


# --- the file is the problem ---------------------------------------------------------------------------------------


class InputError(IroncladError):
    """The file cannot be used."""

    kind = ErrorKind.INPUT
    hint = "Check the file; the original is kept in archive/ or error/."
    links: ClassVar[tuple[str, ...]] = ("operations.md#find-out-about-a-file-do-it-again",)


class EmptyFile(InputError):
    """The file is empty."""

    code = "E_EMPTY_FILE"
    hint = "Copy the file again: the sender probably stopped before writing anything."


class NotAudio(InputError):
    """The file holds no audio that Ironclad can read."""

    code = "E_NOT_AUDIO"
    hint = "Check that it is a music file and not, say, a web page or a playlist saved under a music name."


class CorruptAudio(InputError):
    """The audio is damaged."""

    code = "E_CORRUPT_AUDIO"
    hint = "Copy or rip the file again; a player may still play the undamaged part."


class TruncatedAudio(InputError):
    """The audio ends before its declared length."""

    code = "E_TRUNCATED"
    hint = "Copy the file again: a part is missing. Set limits.allow_truncated to process what is there."


class NoSamples(InputError):
    """The file declares audio but holds no samples."""

    code = "E_NO_SAMPLES"
    hint = "The recording has length zero; remove it or rip it again."


class TooLong(InputError):
    """The audio is longer than the limit."""

    code = "E_TOO_LONG"
    hint = "Raise limits.max_seconds, or split the file."


class TooShort(InputError):
    """The audio is too short to be worth separating."""

    code = "E_TOO_SHORT"
    hint = "Lower limits.min_seconds, or use `ironclad submit --force`."


class SilentAudio(InputError):
    """The recording is silent."""

    code = "E_SILENT"
    hint = "There is nothing to separate; check the recording."


class SpeechAudio(InputError):
    """The recording sounds like speech, and output.skip_speech is set."""

    code = "E_SPEECH"
    hint = "Use `ironclad submit --force` to process it all the same."


class Infected(InputError):
    """The virus scanner found something in the file."""

    code = "E_INFECTED"
    hint = "Do not open it. If it is a false alarm, teach the scanner so and run `ironclad jobs retry JOB`."
    links = ("security.md#viruses",)


class BeyondScanner(InputError):
    """The file is too large for the virus scanner."""

    code = "E_BEYOND_SCANNER"
    hint = "Raise the limits in clamd.conf (MaxFileSize …) and virus.max_bytes, or set virus.beyond to pass."
    links = ("security.md#viruses",)


class TooLarge(InputError):
    """The file is larger than the limit."""

    code = "E_TOO_LARGE"
    hint = "Raise limits.max_bytes if this size is expected."


class DecodedTooLarge(InputError):
    """Decoded, the audio would be larger than the limit."""

    code = "E_DECODED_TOO_LARGE"
    hint = "A small file that decodes to hours is usually a mistake or an attack; else raise limits.max_decoded_bytes."


class TooManyChannels(InputError):
    """The audio has more channels than the limit."""

    code = "E_TOO_MANY_CHANNELS"
    hint = "Mix the file down first, or raise limits.max_channels."


class SampleRateUnsupported(InputError):
    """The sample rate is outside the limits."""

    code = "E_SAMPLE_RATE"
    hint = "Resample the file, or change limits.min_sample_rate and limits.max_sample_rate."


class MonoInput(InputError):
    """The engine needs a stereo mix, and both channels are the same."""

    code = "E_MONO_INPUT"
    hint = "The centre engine separates by stereo position. Use another engine (Demucs, Spleeter) for mono recordings."
    links = ("engines.md",)


class EngineRefused(InputError):
    """The engine cannot work on this recording."""

    code = "E_ENGINE_REFUSED"
    hint = "The detail says why; choose another engine for it with replay --from separate."
    links = ("engines.md",)


class SourceMissing(InputError):
    """The source file is gone."""

    code = "E_SOURCE_MISSING"
    hint = "Somebody deleted or moved it while it was queued; submit it again."
    links = ("operations.md#find-out-about-a-file-do-it-again",)


class SourceUnreadable(InputError):
    """The source file may not be read."""

    code = "E_SOURCE_UNREADABLE"
    hint = "Give the Ironclad user read permission on the file and write permission on its folder, then submit it."
    links = ("failures.md", "install.md")


class UnsafePath(InputError):
    """The path leads out of its folder."""

    code = "E_UNSAFE_PATH"
    hint = "Symbolic links out of a watch root are not followed; copy the file itself."
    links = ("security.md",)


class DuplicateContent(InputError):
    """The same recording was processed before with the same engine and parameters."""

    code = "E_DUPLICATE"
    hint = "Nothing to do; use `ironclad submit --force` to process it again."


class AlreadyInstrumental(InputError):
    """The file is an instrumental already, says its tags."""

    code = "E_ALREADY_INSTRUMENTAL"
    hint = "Nothing to do; use `ironclad submit --force` to process it all the same."


# --- an operator must act --------------------------------------------------------------------------------------------


class ConfigError(IroncladError):
    """The settings are wrong."""

    code = "E_CONFIG"
    kind = ErrorKind.CONFIG
    hint = "Run `ironclad config validate`; it names each setting and where its value came from."
    links = ("settings.md", "path-templates.md")


class EngineMissing(IroncladError):
    """The engine is not installed."""

    code = "E_ENGINE_MISSING"
    kind = ErrorKind.CONFIG
    hint = "Run `ironclad doctor` to see which engines are there, or choose another with --engine."
    links = ("engines.md",)


class EngineNotBuilt(EngineMissing):
    """The engine's environment is not there."""

    code = "E_ENGINE_ENVIRONMENT"
    hint = "Run `ironclad engines install ENGINE` (the detail has the exact command), then retry the job."


class EngineInstallFailed(IroncladError):
    """The engine's environment could not be built."""

    code = "E_ENGINE_INSTALL"
    kind = ErrorKind.CONFIG
    hint = "The detail has the installer's last words; run the same command again, it goes on where it stopped."
    links = ("engines.md",)


class ModelMissing(IroncladError):
    """The model is not in the store."""

    code = "E_MODEL_MISSING"
    kind = ErrorKind.CONFIG
    hint = "Run the command that the detail names (`ironclad models pull` or `import`), then retry the job."
    links = ("engines.md",)


class ModelMismatch(IroncladError):
    """A model's files are not the ones that are pinned."""

    code = "E_MODEL_DIGEST"
    kind = ErrorKind.CONFIG
    hint = "Get the files again: they are damaged or others. `ironclad models verify` names each."
    links = ("engines.md",)


class LicenceNotAccepted(IroncladError):
    """The model's licence was not accepted."""

    code = "E_LICENCE"
    kind = ErrorKind.CONFIG
    hint = "Read it (`ironclad models licences`), then repeat the command with --accept-licence."
    links = ("engines.md",)


class ModelUnreachable(IroncladError):
    """The model's source does not answer."""

    code = "E_MODEL_SOURCE"
    kind = ErrorKind.DEPENDENCY
    retryable = True
    hint = "Try again later (what came is kept), or bring the files and use `ironclad models import`."
    links = ("engines.md",)


class ModelBroken(IroncladError):
    """The engine could not load its model."""

    code = "E_MODEL"
    kind = ErrorKind.CONFIG
    hint = "The detail says why; check the model's files and that they belong to this engine."
    links = ("engines.md",)


class PluginBroken(IroncladError):
    """A plugin could not be loaded."""

    code = "E_PLUGIN"
    kind = ErrorKind.CONFIG
    hint = "Update or uninstall the plugin; everything else goes on without it."


class SchemaMismatch(IroncladError):
    """The database schema does not fit this version of Ironclad."""

    code = "E_SCHEMA"
    kind = ErrorKind.CONFIG
    hint = "Run `ironclad db upgrade` (or install the Ironclad version that wrote the database)."
    links = ("upgrading.md",)


class BackupBroken(IroncladError):
    """A backup does not give back what it should hold."""

    code = "E_BACKUP"
    kind = ErrorKind.CONFIG
    hint = "Make a new one at once (`ironclad backup create`), keep this one aside, check the disk that it is on."


class AlreadyRunning(IroncladError):
    """Another process holds this role already."""

    code = "E_ALREADY_RUNNING"
    kind = ErrorKind.CONFIG
    hint = "Stop the other one first, or use another data folder."


class AlreadyReceived(IroncladError):
    """The same file is a job already."""

    code = "E_ALREADY_RECEIVED"
    kind = ErrorKind.CONFIG
    hint = "Nothing to do; see `ironclad why FILE`."

    @property
    def job_uuid(self) -> UUID:
        """The other job."""
        return UUID(str(self.context["job_uuid"]))


class PortInUse(IroncladError):
    """A port that a service needs is taken."""

    code = "E_PORT_IN_USE"
    kind = ErrorKind.CONFIG
    hint = "Stop what listens there, or change the port in the settings."
    links = ("settings.md",)


class NotFound(IroncladError):
    """There is no such thing."""

    code = "E_NOT_FOUND"
    kind = ErrorKind.CONFIG
    hint = "Look at what there is: `ironclad jobs list`, `ironclad notify list` or `ironclad engines list`."
    links = ("cli.md",)


class LibraryConflict(IroncladError):
    """Media servers would merge, split or mistake albums, so nothing was published."""

    code = "E_LIBRARY_CONFLICT"
    kind = ErrorKind.CONFIG
    hint = "Correct what the detail names (docs/lint.md), or set library.lint to warn; then `ironclad jobs retry JOB`."
    links = ("lint.md",)


class FileChanged(IroncladError):
    """A published file was changed by somebody else."""

    code = "E_FILE_CHANGED"
    kind = ErrorKind.CONFIG
    hint = "Ironclad leaves it alone. `ironclad verify` says which; replay the job to publish it anew."


class NoInstallation(NotFound):
    """There is no installation here yet."""

    code = "E_NO_INSTALLATION"
    hint = "`ironclad up`, `ironclad process` and `ironclad db upgrade` make one; --data-dir chooses another folder."
    links = ("quickstart.md",)


class BadRequest(IroncladError):
    """The request cannot be carried out as given."""

    code = "E_BAD_REQUEST"
    kind = ErrorKind.CONFIG
    hint = "See the command's --help; of the control API, docs/api-reference.md."
    links: ClassVar[tuple[str, ...]] = ("cli.md", "api-reference.md")


class Unauthorised(IroncladError):
    """The request carries no valid token."""

    code = "E_UNAUTHORISED"
    kind = ErrorKind.CONFIG
    hint = "`ironclad api tokens create` makes one; send it as `Authorization: Bearer …`."
    links = ("api.md",)


class Forbidden(IroncladError):
    """The token does not allow this."""

    code = "E_FORBIDDEN"
    kind = ErrorKind.CONFIG
    hint = "Use a token of another role; `ironclad api tokens list` shows which there are."
    links = ("api.md#roles",)


class HostRefused(BadRequest):
    """The request asks for a host that is not this one."""

    code = "E_HOST"
    hint = "Add the name to api.allowed_hosts if clients are meant to use it."
    links = ("api.md#put-it-behind-a-proxy",)


class DigestMismatch(BadRequest):
    """What arrived is not what was sent."""

    code = "E_UPLOAD_DIGEST"
    hint = "Send it again; if it happens again, check how the sender makes the digest."
    links = ("api.md#send-a-song",)


class RangeOutside(BadRequest):
    """The file is shorter than the part that was asked for."""

    code = "E_RANGE"
    hint = "Ask for its size first (HEAD)."
    links = ("api.md#fetch-the-results",)


class RequestTimeout(BadRequest):
    """The client fell silent in the middle of its request."""

    code = "E_REQUEST_TIMEOUT"
    hint = "Send it again; nothing is left of what had arrived."
    links = ("api.md#send-a-song",)


# --- try again later -------------------------------------------------------------------------------------------------


class DiskFull(IroncladError):
    """There is not enough free disk space."""

    code = "E_DISK_FULL"
    kind = ErrorKind.RESOURCE
    retryable = True
    hint = "Free some space; work resumes by itself. disk.min_free_bytes sets the floor."
    links = ("operations.md#the-disk-is-full",)


class StorageError(IroncladError):
    """The file system refused an operation."""

    code = "E_STORAGE"
    kind = ErrorKind.RESOURCE
    retryable = True
    hint = "Check the disk, the mount and the permissions of the data folder."


class TooBusy(IroncladError):
    """As many clients as allowed are connected."""

    code = "E_TOO_BUSY"
    kind = ErrorKind.RESOURCE
    retryable = True
    hint = "Come again in a few seconds, or raise api.connections or api.listeners."
    links = ("api.md",)


class Stopping(IroncladError):
    """The service is being stopped."""

    code = "E_STOPPING"
    kind = ErrorKind.RESOURCE
    retryable = True
    hint = "Come again in a few seconds: it is probably being started again."
    links = ("api.md",)


class OutOfMemory(IroncladError):
    """The work ran out of memory."""

    code = "E_OUT_OF_MEMORY"
    kind = ErrorKind.RESOURCE
    retryable = True
    hint = "Lower the number of slots of the pool, use a smaller model, or raise engine.memory_bytes if you set it."
    links = ("scaling.md", "runbooks.md")


class DecodeLimit(IroncladError):
    """The decoder ran into its time or memory limit."""

    code = "E_DECODE_LIMIT"
    kind = ErrorKind.RESOURCE
    retryable = True
    hint = "If the file is sound, raise limits.decode_seconds or limits.decode_memory_bytes."


class DatabaseUnavailable(IroncladError):
    """The database does not answer."""

    code = "E_DATABASE"
    kind = ErrorKind.DEPENDENCY
    retryable = True
    hint = "Ironclad waits and goes on by itself. Check PostgreSQL with `ironclad doctor`."


class PrefectUnavailable(IroncladError):
    """The Prefect server does not answer."""

    code = "E_PREFECT"
    kind = ErrorKind.DEPENDENCY
    retryable = True
    hint = "Ironclad waits and goes on by itself. Check it with `ironclad doctor`."


class SecretsUnavailable(IroncladError):
    """The Vault that holds secret settings does not answer."""

    code = "E_SECRETS"
    kind = ErrorKind.DEPENDENCY
    retryable = True
    hint = "Services wait and try again by themselves. Check VAULT_ADDR, the network, and whether the Vault is sealed."


class PrefectRefused(PrefectUnavailable):
    """The Prefect server refuses to run the job."""

    code = "E_PREFECT_REFUSED"
    kind = ErrorKind.CONFIG
    retryable = False
    hint = "See the server's answer; a Prefect of another version is the usual cause. Then `ironclad retry`."


class MetadataServiceUnavailable(IroncladError):
    """MusicBrainz, AcoustID or the Cover Art Archive does not answer."""

    code = "E_MUSICBRAINZ"
    kind = ErrorKind.DEPENDENCY
    retryable = True
    hint = "The track was processed with the tags it has; complete them later with `ironclad retag`."
    links = ("metadata.md",)


class ScannerUnavailable(IroncladError):
    """The virus scanner does not answer as it should."""

    code = "E_SCANNER"
    kind = ErrorKind.DEPENDENCY
    retryable = True
    hint = "Start clamd, or check virus.socket; `ironclad doctor` tries it. Songs wait and go on by themselves."
    links = ("security.md#viruses",)


class ChannelFailed(IroncladError):
    """A notification channel did not take the message."""

    code = "E_CHANNEL"
    kind = ErrorKind.DEPENDENCY
    retryable = True
    hint = "The detail has what came back. Check the channel's URL and secret, then `ironclad notify test CHANNEL`."


class WorkerLost(IroncladError):
    """The worker stopped answering while it worked on the job."""

    code = "E_WORKER_LOST"
    kind = ErrorKind.WORKER
    retryable = True
    hint = "It was killed or its machine went away; the job is tried again by itself."
    links = ("failures.md", "reliability.md")


class EngineFailed(IroncladError):
    """The engine failed."""

    code = "E_ENGINE_FAILED"
    kind = ErrorKind.ENGINE
    retryable = True
    hint = "See the log lines of the engine host in this job's log; try another engine with replay --from separate."
    links = ("engines.md",)


class EngineDied(IroncladError):
    """The engine's process died."""

    code = "E_ENGINE_DIED"
    kind = ErrorKind.ENGINE
    retryable = True
    hint = "It crashed or was killed (often: out of memory). The job is tried again by itself."
    links = ("engines.md",)


class EngineStalled(IroncladError):
    """The engine made no progress for too long and was stopped."""

    code = "E_STALLED"
    kind = ErrorKind.ENGINE
    retryable = True
    hint = "Raise engine.stall_seconds or jobs.stall_seconds for very slow machines; else see the job's log."
    links = ("failures.md", "runbooks.md")


class EngineProtocol(IroncladError):
    """The engine's process said something that is not in the protocol."""

    code = "E_ENGINE_PROTOCOL"
    kind = ErrorKind.ENGINE
    retryable = True
    hint = "The plugin is broken or does not fit this version of Ironclad."
    links = ("engines.md",)


class OutputInvalid(IroncladError):
    """A result failed its check and was not published."""

    code = "E_OUTPUT_INVALID"
    kind = ErrorKind.ENGINE
    retryable = True
    hint = "The length, the samples or the written file are not what they must be; see the detail."
    links = ("engines.md",)


# --- control ---------------------------------------------------------------------------------------------------------


class LeaseLost(IroncladError):
    """This attempt no longer owns the job; its write was refused."""

    code = "E_LEASE_LOST"
    kind = ErrorKind.CONTROL
    retryable = True
    hint = "Nothing to do: another attempt has taken over."
    links = ("reliability.md",)


class IllegalTransition(IroncladError):
    """The job cannot go from its state to the one asked for."""

    code = "E_ILLEGAL_TRANSITION"
    kind = ErrorKind.CONTROL
    hint = "See `ironclad jobs show JOB` for its state and what can be done in it."


class Cancelled(IroncladError):
    """The job was cancelled."""

    code = "E_CANCELLED"
    kind = ErrorKind.CONTROL
    hint = "Use `ironclad jobs retry JOB` to run it after all."


class Drained(IroncladError):
    """The worker was asked to stop; the job goes back to the queue."""

    code = "E_DRAINED"
    kind = ErrorKind.CONTROL
    retryable = True
    hint = "Nothing to do: another worker takes it."
    links = ("operations.md#pause-resume-drain",)


class Paused(IroncladError):
    """Nothing new may start now."""

    code = "E_PAUSED"
    kind = ErrorKind.CONTROL
    retryable = True
    hint = "Run `ironclad resume`; `ironclad status` says what is paused."
    links = ("operations.md#pause-resume-drain",)


# --- ours ------------------------------------------------------------------------------------------------------------


class Unexpected(IroncladError):
    """Something happened that Ironclad does not know."""

    code = "E_UNEXPECTED"
    kind = ErrorKind.INTERNAL
    retryable = True
    hint = "Please report it with the job's log; the job is tried again, then kept as failed."
