"""The words of `ironclad jobs why`, in one place, so that they can be translated. Placeholders are in braces.

`messages()` is the whole catalogue by key, that of the errors included; `say` looks a key up. A translation is a
mapping with the same keys and placeholders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Mapping

STAGES: Final = {
    "claim": "bringing it into archive/",
    "validate": "reading and checking the whole file",
    "categorize": "finding out what kind of recording it is",
    "metadata": "completing its tags",
    "stage": "decoding it for the engine",
    "separate": "separating it with the engine {engine}",
    "recombine": "mixing, encoding and checking the results",
    "organize": "putting the results into the library",
}
"""What a stage does, after `while`."""

STATES: Final = {
    "received": "The file was seen, and Ironclad is bringing it into archive/.",
    "queued": "It waits for its turn.",
    "running": "It is being worked on now, for the {attempt}. time: {doing}.",
    "waiting_retry": "It failed, and is tried again by itself {when}.",
    "succeeded": "It is done: {count} in the library.",
    "failed": "It failed for good and is not tried again by itself.",
    "cancelled": "Somebody cancelled it.",
    "skipped": "There was nothing to do for it.",
    "quarantined": "It failed in the same way too often, and was set aside so that it disturbs nothing else.",
}

PHRASES: Final = {
    "count_one": "1 file is",
    "count": "{count} files are",
    "when_soon": "soon",
    "when_now": "now",
    "when_in": "in {seconds} s",
    "when_at": "at {time}",
    "failed_while": "It failed while {doing}.",
    "skipped_while": "That was found while {doing}.",
    "cause": "{what} {detail}",
    "attempt": "{number}. attempt, {when}, on {worker}: {outcome}",
    "outcome_error": "{what} ({code})",
    "outcome_done": "done",
    "outcome_handoff": "given on to the next pool",
    "outcome_running": "still running",
    "did_retry": "It was tried {count} times.",
    "did_again": "It is tried again {when}.",
    "did_reuse": "What earlier attempts had finished was used again: {stages}.",
    "did_file": "The original is untouched in error/{folder}/, with error.json and the end of the log.",
    "did_keep": "The original is untouched in archive/{job}/.",
    "did_left": "The file was left where it was: {path}.",
    "did_reap": "The worker's death was noticed, and the job was taken from it.",
    "did_note": "{kind}: {text}",
    "did_publish_nothing": "Nothing of it was put into the library.",
    "held": "It is held: it is not started until somebody lets it go.",
    "wait_held": "`ironclad jobs release {job}` lets it go.",
    "wait_paused": "Nothing starts now, because {reason}; `ironclad status` says what lets work start again.",
    "wait_pool": "It waits for pool {pool}, which the dispatcher does not feed: it feeds {fed}. Add [pools.{pool}] to "
    "its settings; or stop the workers of {pool}, and the job goes to another pool within a minute.",
    "wait_workers": "No worker has taken it yet; `ironclad status` shows the pools, `ironclad doctor` what is wrong.",
    "pending_lookup": "MusicBrainz did not answer, so the tags are those of the file and its name.",
    "do_lookup": "Nothing must be done; `ironclad retag --pending` completes the tags when the service is back.",
    "do_retry": "Then: ironclad jobs retry {job}",
    "do_class": "If others failed of it, too: ironclad retry --class {code}",
    "do_nothing": "Nothing must be done: Ironclad goes on by itself.",
    "do_submit": "Then: ironclad submit {path}",
    "do_input": "Nothing is wrong with Ironclad here: the same file would be refused again.",
    "do_report": "A bundle for a report: ironclad jobs bundle {job} -o report.zip",
    "do_read": "More about it: {links}",
    "do_replay": "Another try with another engine: ironclad jobs replay {job} --from separate --engine ENGINE",
}
"""Whole sentences and lines."""

NOTES: Final = {
    "step_down": "Went on with less",
    "warning": "Warning",
    "deleted": "Deleted",
    "undispatched": "Its start was taken back",
    "rerouted": "Sent to another pool",
}
"""Names of notes in a job's history."""

TITLES: Final = {
    "why": "Why: {cause}",
    "tried": "What was tried",
    "done": "What Ironclad did",
    "todo": "What to do",
    "log": "From its log",
}
"""Headings of the command's output."""

_GROUPS: Final = {"stage": STAGES, "state": STATES, "phrase": PHRASES, "note": NOTES, "title": TITLES}


def messages() -> dict[str, str]:
    """Every message by its key: `phrase.did_retry`, `state.failed`, `error.E_DISK_FULL.hint` and so on."""
    found = {f"{group}.{name}": text for group, texts in _GROUPS.items() for name, text in texts.items()}
    for code, entry in CATALOGUE.items():
        found |= {f"error.{code}.what": entry.what(), f"error.{code}.hint": entry.hint}
    return found


def say(key: str, translation: Mapping[str, str] | None = None, /, **values: Any) -> str:
    """A message with its placeholders filled; in English where the translation lacks it. Raises `KeyError`."""
    group, _, name = key.partition(".")
    text = (translation or {}).get(key)
    return (_GROUPS[group][name] if text is None else text).format(**values)
