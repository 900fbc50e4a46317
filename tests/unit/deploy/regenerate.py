"""Write deploy/ anew from what the commands write by default: `python tests/unit/deploy/regenerate.py`."""

from __future__ import annotations

from pathlib import Path

from ironclad.ops.install import compose, files, units
from ironclad.ops.install.services import Host

ROOT = Path(__file__).parents[3]


def main() -> None:
    for name, text in compose.render(compose.Project()).items():
        target = ROOT / "deploy" / "compose" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files.sealed(text), encoding="utf-8")
    folder = ROOT / "deploy" / "systemd"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    host = Host(Path("/opt/ironclad/bin/ironclad"), Path("/var/lib/ironclad"), pools=("cpu", "gpu"))
    for path, text in units.render(host).items():
        name = path.name if path.parts[1] == "systemd" else f"{path.parts[1].removesuffix('.d')}.conf"
        (folder / name).write_text(files.sealed(text), encoding="utf-8")


if __name__ == "__main__":
    main()
