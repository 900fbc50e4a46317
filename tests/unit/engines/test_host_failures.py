from __future__ import annotations

import pytest

from ironclad import errors
from ironclad.engines.child import clean_environment
from ironclad.engines.failures import death, named
from ironclad.engines.host.protocol import KINDS, Failure


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("oom", "", errors.OutOfMemory),
        ("model", "", errors.ModelBroken),
        ("input", "", errors.EngineRefused),
        ("input", "E_MONO_INPUT", errors.MonoInput),
        ("input", "E_TOO_MANY_CHANNELS", errors.TooManyChannels),
        ("storage", "", errors.StorageError),
        ("storage", "E_DISK_FULL", errors.DiskFull),
        ("engine", "", errors.EngineFailed),
        ("engine", "E_OUTPUT_INVALID", errors.OutputInvalid),
        ("engine", "E_PLUGIN", errors.PluginBroken),
        # A host runs foreign code: it does not decide that a job was cancelled or that the database is gone.
        ("engine", "E_CANCELLED", errors.EngineFailed),
        ("engine", "E_DATABASE", errors.EngineFailed),
        ("input", "E_DISK_FULL", errors.EngineRefused),
        ("oom", "E_MONO_INPUT", errors.OutOfMemory),
        ("engine", "E_NO_SUCH_CODE", errors.EngineFailed),
    ],
)
def test_what_a_host_reports_becomes_an_error_of_the_catalogue(
    kind: str, code: str, expected: type[errors.IroncladError]
) -> None:
    error = named(Failure(1, kind, code, "because"))
    assert type(error) is expected
    assert error.detail == "because"


def test_every_kind_has_an_error() -> None:
    assert all(named(Failure(1, kind, "", "")) for kind in KINDS)


@pytest.mark.parametrize(
    ("status", "kernel", "expected", "text"),
    [
        (None, False, errors.EngineDied, "does not exit"),
        (75, False, errors.OutOfMemory, "gave up"),
        (-9, True, errors.OutOfMemory, "the kernel killed"),
        (-9, False, errors.EngineDied, "signal 9 (SIGKILL)"),
        (-11, True, errors.EngineDied, "SIGSEGV"),
        (-200, False, errors.EngineDied, "signal 200"),
        (0, False, errors.EngineDied, "exit status 0"),
        (255, False, errors.EngineDied, "exit status 255"),
    ],
)
def test_a_death_is_explained(
    status: int | None, kernel: bool, expected: type[errors.IroncladError], text: str  # noqa: FBT001  # a table
) -> None:  # fmt: skip
    error = death(status, kernel_killed=kernel)
    assert type(error) is expected
    assert text in str(error)


def test_a_host_knows_no_secrets_and_how_many_threads_it_may_use() -> None:
    environ = {
        "PATH": "/bin", "IRONCLAD_DATABASE_URL": "secret", "AWS_SECRET_ACCESS_KEY": "secret", "PYTHONPATH": "/x",
        "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "64",
    }  # fmt: skip
    clean = clean_environment(environ, threads=2)
    assert "secret" not in clean.values()
    assert "PYTHONPATH" not in clean
    assert (clean["PATH"], clean["CUDA_VISIBLE_DEVICES"]) == ("/bin", "1")
    assert {clean[name] for name in clean if name.endswith("_THREADS")} == {"2"}
