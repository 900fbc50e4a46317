"""The scheduled flow: leftovers of crashes are set aside, and what is old or over its quota is pruned."""

from __future__ import annotations

from prefect import flow
from prefect.states import Failed

from ironclad.config import load
from ironclad.db.session import Database
from ironclad.errors import IroncladError
from ironclad.ops.housekeeper import tidy


@flow(name="maintenance", retries=0, persist_result=False, log_prints=False)
def maintenance() -> object:
    """Do one round by the rules of `prune.*`; returns what it did, for Prefect's UI."""
    try:
        settings = load()
        database = Database.open(settings)
        try:
            done = tidy(database, settings)
        finally:
            database.close()
    except IroncladError as error:
        return Failed(message=f"{error.code} {error}")
    return {"skipped": "another round is under way"} if done is None else done.to_dict()
