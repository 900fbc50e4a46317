from __future__ import annotations

import pytest

from ironclad.access.roles import RIGHTS, Right, Role
from ironclad.access.tokens import Bearer


def test_every_role_is_in_the_matrix() -> None:
    assert set(RIGHTS) == set(Role)
    assert set().union(*RIGHTS.values()) == set(Right)


def test_a_reader_changes_nothing() -> None:
    assert not RIGHTS[Role.READ] & {Right.SEND, Right.CHANGE, Right.OPERATE}


@pytest.mark.parametrize(("role", "others"), [(Role.SUBMIT, False), (Role.READ, True), (Role.OPERATE, True)])
def test_who_sees_the_jobs_of_others(role: Role, *, others: bool) -> None:
    bearer = Bearer(1, "kitchen", "ana", role)
    assert bearer.sees("ana")
    assert bearer.sees("bo") is others
    assert bearer.everybody is others
    assert bearer.actor == "api:ana/kitchen"
