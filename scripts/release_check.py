"""`make release-check`: is what would be released complete, reproducible and accounted for?

Builds wheel and source distribution twice in copies of the committed tree, compares them byte by byte, looks into them,
asks for known vulnerabilities where that can be done, and writes into dist/: both files, `licences.txt`,
`sbom.cdx.json` (CycloneDX), `SHA256SUMS` and, with a key, its signature. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
NAME = "ironclad-audio"
PACKAGES = {"ironclad", "ironclad_flows", "ironclad_tui"}
IN_SDIST = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "docs/index.md", "deploy/systemd/ironclad.target",
            "deploy/compose/compose.yaml", "tests/conftest.py")  # fmt: skip
AUDIT_SECONDS = 120.0
NAMESPACE = "ironclad-release"
NEVER = re.compile(r"\.(pyc|env|pem|key|dump|th|onnx|ckpt)$|(^|/)(\.git|\.venv|__pycache__|secrets)(/|$)")


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)


def committed(target: Path) -> str:
    """Put the committed tree into a folder; returns the time of the commit, as SOURCE_DATE_EPOCH has it."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    target.mkdir()
    subprocess.run(["tar", "-x", "-C", target], input=archive, check=True)
    when = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(when, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def built(source: Path, out: Path, epoch: str) -> dict[str, str]:
    """Build both distributions; returns their SHA-256 by name."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        check=True, capture_output=True, timeout=300,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


def problems_of_wheel(path: Path) -> list[str]:
    """What is wrong with the wheel's contents."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (record,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        described = wheel.read(record).decode()
        points = wheel.read(record.replace("METADATA", "entry_points.txt")).decode()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    found = [f"top-level names {sorted(tops)}"] if tops != PACKAGES else []
    found += [f"{package} has no py.typed" for package in PACKAGES if f"{package}/py.typed" not in names]
    found += [f"holds {name}" for name in names if NEVER.search(name)]
    found += [
        f"METADATA has no {field}"
        for field in ("License-Expression: MIT", "Requires-Python:")
        if field not in described
    ]
    if not any(name.endswith("licenses/LICENSE") for name in names):
        found.append("has no licence file")
    if "ironclad = ironclad.cli.main:main" not in points:
        found.append("has no console script")
    return [f"wheel: {one}" for one in found]


def problems_of_sdist(path: Path) -> list[str]:
    """What is wrong with the source distribution's contents."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    found = [f"lacks {name}" for name in IN_SDIST if name not in names]
    found += [f"holds {name}" for name in sorted(names) if NEVER.search(name)]
    return [f"sdist: {one}" for one in found]


def dependencies() -> list[metadata.Distribution]:
    """Everything that the installed distribution needs, and what that needs, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [NAME]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    del found[NAME]
    return [found[name] for name in sorted(found)]


def licence(distribution: metadata.Distribution) -> str:
    """The licence as its metadata names it: expression, classifiers, or the first line of the text."""
    described: Any = distribution.metadata
    if described.get("License-Expression"):
        return str(described["License-Expression"])
    classified = [c.rpartition(" :: ")[2] for c in described.get_all("Classifier") or () if c.startswith("License ::")]
    text = (described.get("License") or "").strip().splitlines()
    return ", ".join(classified) or (text[0][:60] if text else "not named")


def sbom(version: str, found: list[metadata.Distribution]) -> dict[str, Any]:
    """A CycloneDX 1.6 bill of materials of the environment that the tests ran in."""

    def component(name: str, at: str, named: str) -> dict[str, Any]:
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{at}"
        return {"type": "library", "bom-ref": purl, "name": name, "version": at, "purl": purl,
                "licenses": [{"license": {"name": named}}]}  # fmt: skip

    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {**component(NAME, version, "MIT"), "type": "application"}},
        "components": [component(one.name, one.version, licence(one)) for one in found],
    }  # fmt: skip


def audit(found: list[metadata.Distribution], program: list[str]) -> tuple[list[str], str]:
    """Known vulnerabilities of the dependencies, and words about how that was found out (or why it was not).

    Args:
        found: the dependencies.
        program: pip-audit, as it is started here.
    """
    with tempfile.TemporaryDirectory() as name:
        pinned = Path(name) / "requirements.txt"
        pinned.write_text("".join(f"{one.name}=={one.version}\n" for one in found), encoding="utf-8")
        command = [
            *program,
            "--format",
            "json",
            "--progress-spinner",
            "off",
            "--no-deps",
            "--disable-pip",
            "-r",
            pinned,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=AUDIT_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as exc:
            return [], f"NOT AUDITED: pip-audit cannot be run here ({type(exc).__name__})"
    try:
        asked = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return [], f"NOT AUDITED: pip-audit has no answer from its source: {last[:160]}"
    known = [one for one in asked if "vulns" in one]  # of the others pip-audit says why it skipped them, and is content
    if not known:
        return [], f"NOT AUDITED: pip-audit's source knows none of {len(asked)} dependencies"
    bad = [
        f"{one['name']} {one['version']} has {each['id']} (fixed in {', '.join(each['fix_versions']) or 'none yet'})"
        for one in known
        for each in one["vulns"]
    ]
    words = f"pip-audit asked about {len(known)} dependencies"
    if skipped := [one["name"] for one in asked if "vulns" not in one]:
        words += f"; NOT AUDITED: {', '.join(skipped)}"
    return bad, words


def sign(sums: Path, key: Path) -> Path:
    """Sign the checksums with an SSH key (ssh-keygen asks for its passphrase), and check the signature.

    Args:
        sums: SHA256SUMS.
        key: the private key; its public half is beside it.
    """
    signature = sums.with_name(f"{sums.name}.sig")
    signature.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE, sums], check=True, capture_output=True)
    signers = sums.with_name("allowed_signers")
    public = key.with_name(f"{key.name}.pub").read_text(encoding="utf-8").split()
    signers.write_text(f'release namespaces="{NAMESPACE}" {public[0]} {public[1]}\n', encoding="utf-8")
    verified = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "release", "-n", NAMESPACE, "-s", signature]
    subprocess.run(verified, input=sums.read_bytes(), check=True, capture_output=True)
    return signature


def main(arguments: list[str] | None = None) -> int:
    """Check, and write dist/. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign SHA256SUMS with this SSH key")
    options = parser.parse_args(arguments)
    out: Path = options.out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        epoch = committed(folder / "first")
        committed(folder / "second")
        one, two = (built(folder / which, folder / f"out-{which}", epoch) for which in ("first", "second"))
        problems = [f"{file} differs between two builds" for file in one if one[file] != two.get(file)]
        (wheel,) = (folder / "out-first").glob("*.whl")
        (source,) = (folder / "out-first").glob("*.tar.gz")
        problems += problems_of_wheel(wheel) + problems_of_sdist(source)
        found = dependencies()
        problems += [f"{each.name} names no licence" for each in found if licence(each) == "not named"]
        vulnerable, audited = audit(found, [sys.executable, "-m", "pip_audit"])
        problems += vulnerable
        out.mkdir(exist_ok=True, parents=True)
        for path in (wheel, source):
            shutil.copyfile(path, out / path.name)
    listed = "".join(f"{each.name} {each.version}: {licence(each)}\n" for each in found)
    (out / "licences.txt").write_text(listed, encoding="utf-8")
    (out / "sbom.cdx.json").write_text(
        json.dumps(sbom(wheel.name.split("-")[1], found), indent=1) + "\n", encoding="utf-8"
    )
    names = [*sorted(one), "licences.txt", "sbom.cdx.json"]
    sums = "".join(f"{hashlib.sha256((out / file).read_bytes()).hexdigest()}  {file}\n" for file in names)
    (out / "SHA256SUMS").write_text(sums, encoding="utf-8")
    for file, digest in one.items():
        say(f"{digest[:16]}  {file}")
    say(audited)
    if options.sign is not None:
        say(f"signed and verified: {sign(out / 'SHA256SUMS', options.sign)}")
    else:
        say("NOT SIGNED: give --sign KEY")
    say(f"{len(found)} dependencies, all with a licence named" if not problems else "")
    for problem in problems:
        say(f"PROBLEM  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
