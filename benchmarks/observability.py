"""A real Prometheus scrapes a real installation under load; every query of every dashboard must return data.

Starts `ironclad up` on a temporary folder, the notifier with a real HTTP sink included, and the `prometheus` program
beside it, drops songs (and every fifth time something that is none) for about a minute, then asks Prometheus each query
of `scripts/dashboards.py` and each expression of the rules. Exit status 1 if a query returns nothing, a rule fails, a
target is down, or nobody was told of the failures.

    python benchmarks/observability.py [--seconds 60] [--songs 20]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from installation import Installation, until
from sinks import HttpSink

from ironclad.audio import synth
from ironclad.ops import directory

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "observability" / "prometheus"


def dashboards() -> dict[str, list[str]]:
    """The queries of each dashboard."""
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "scripts" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: dict[str, list[str]] = module.queries()
    return found


def configuration(up: Installation, folder: Path) -> Path:
    """The shipped configuration, with the ports of this installation and a scrape every second."""
    shipped = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "2s"}
    shipped["rule_files"] = [str(RULES / name) for name in shipped["rule_files"]]
    del shipped["alerting"]
    shipped["scrape_configs"][0]["static_configs"] = [
        {"targets": [f"{one.host}:{one.port}"], "labels": {"service": one.name}}
        for one in directory.announced(up.layout.run)
    ]
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(shipped), encoding="utf-8")
    return path


def songs(folder: Path, count: int) -> list[Path]:
    """Short tagged songs, each different."""
    folder.mkdir()
    made = []
    for number in range(count):
        song = synth.short_song(4.0, number + 1)
        tags = synth.Tags(title=f"Song {number}", artist="Watched", album="Load", track=number + 1, total=count)
        path = folder / f"{number:03d}.flac"
        synth.write_song(path, song.mixture, tags, rate=song.rate)
        made.append(path)
        if number % 5 == 0:
            page = folder / f"{number:03d}.mp3"
            page.write_text(f"<html>no song {number}</html>", encoding="ascii")
            made.append(page)
    return made


class Prometheus:
    """A server of its own on a free port."""

    def __init__(self, config: Path, folder: Path, port: int) -> None:
        program = shutil.which("prometheus")
        assert program, "prometheus is not installed (Debian: prometheus)"
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log, stderr=self._log,
        )  # fmt: skip
        until("Prometheus answers", self._ready, 60)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


def told_to(sink: HttpSink) -> dict[str, str]:
    """Settings: one channel, to be told soon."""
    return {
        "IRONCLAD_NOTIFY__CHANNELS__OPS__URL": sink.url, "IRONCLAD_NOTIFY__CHANNELS__OPS__TYPE": "webhook",
        "IRONCLAD_NOTIFY__GROUP_WAIT_SECONDS": "5", "IRONCLAD_NOTIFY__GROUP_INTERVAL_SECONDS": "20",
    }  # fmt: skip


def free_port() -> int:
    """A port that nobody has at the moment."""
    import socket  # noqa: PLC0415 - here only

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(up: Installation, files: list[Path], seconds: float) -> None:
    """Drop the files one after another over the time, then wait for the last to end."""
    for file in files:
        up.drop(file, folder="Load")
        time.sleep(seconds / len(files))
    up.settled(len(files), 600)
    time.sleep(6)  # events are counted two seconds after they happened, and scraped a second later


def main() -> int:
    """Run it and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--songs", type=int, default=20)
    wanted = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = songs(folder / "songs", wanted.songs)
        with HttpSink() as sink, Installation(folder / "data", told_to(sink)) as up:
            prometheus = Prometheus(configuration(up, folder), folder, free_port())
            try:
                load(up, files, wanted.seconds)
                targets = prometheus.ask("targets")["activeTargets"]
                for target in targets:
                    print(f"target {target['labels']['service']}: {target['health']} {target['lastError']}")
                    bad += target["health"] != "up"
                bad += queries(prometheus)
                bad += rules(prometheus)
                print(f"jobs: {up.states()}")
                titles = [call.json["title"] for call in sink.received]
                print(f"notifications: {titles}")
                bad += not titles
            finally:
                prometheus.stop()
    print("everything returned data" if not bad else f"{bad} problems")
    return 1 if bad else 0


def queries(prometheus: Prometheus) -> int:
    """Ask every query of every dashboard; returns how many returned nothing."""
    empty = 0
    for board, asked in dashboards().items():
        series = 0
        for query in asked:
            found = prometheus.ask("query", query=query.replace("$__rate_interval", "1m"))["result"]
            series += len(found)
            if not found:
                empty += 1
                print(f"  nothing: {query}")
        print(f"dashboard {board}: {len(asked)} queries, {series} series")
    return empty


def rules(prometheus: Prometheus) -> int:
    """The rules are evaluated without an error; returns how many are not."""
    groups = prometheus.ask("rules")["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    failing = [rule for rule in found if rule["health"] != "ok"]
    firing = [rule["name"] for rule in found if rule.get("state") == "firing"]
    for rule in failing:
        print(f"  rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
    print(f"rules: {len(found)}, failing {len(failing)}, firing {firing or 'none'}")
    return len(failing)


if __name__ == "__main__":
    sys.exit(main())
