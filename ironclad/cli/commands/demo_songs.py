"""`ironclad demo-songs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ironclad.audio.synth import DemoSong, write_demo_songs
from ironclad.cli import output, text
from ironclad.cli.named import named

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "demo-songs": {
        "songs": "Each with path, title, artist, album, seconds, sample_rate, mixture, stems (name to path)."
    }
}


@app.command(no_args_is_help=True)
def demo_songs(
    folder: Annotated[
        Path, typer.Argument(parser=named, metavar="DIR", help="Where to write them; made if it is not there.")
    ],
    *,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed makes other songs.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write three short songs, tagged, with their true stems."""
    songs = write_demo_songs(folder, seed)
    if as_json:
        output.print_json({"songs": [_data(song) for song in songs]})
        return
    for song in songs:
        output.say(f"{song.path}  ({text.duration(song.frames / song.rate)})")


def _data(song: DemoSong) -> dict[str, Any]:
    return {
        "path": str(song.path), "title": song.tags.title, "artist": song.tags.artist, "album": song.tags.album,
        "seconds": song.frames / song.rate, "sample_rate": song.rate, "mixture": str(song.mixture),
        "stems": {name: str(path) for name, path in song.stems.items()},
    }  # fmt: skip
