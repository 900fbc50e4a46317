from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ironclad.ingest.stability import Print, Tracker, quiet_before

QUIET = 5.0


def version(size: int, mtime: int = 0, inode: int = 1) -> Print:
    return Print(f"1:{inode}:{size}:{mtime}", size, mtime)


def test_a_quiet_file_is_due_after_the_quiet_time_and_not_before() -> None:
    tracker = Tracker(QUIET)
    assert tracker.see("a", version(1), 100.0)
    assert tracker.next_due() == 105.0
    assert tracker.take_due(104.99) == []
    assert tracker.take_due(105.0) == ["a"]


def test_a_due_file_is_given_once_until_it_is_answered() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    assert tracker.take_due(5.0) == ["a"]
    assert tracker.take_due(99.0) == []
    assert tracker.next_due() is None
    tracker.hold("a", 110.0, "busy")
    assert tracker.take_due(109.9) == []
    assert tracker.take_due(110.0) == ["a"]


def test_growing_starts_the_wait_anew() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    assert tracker.see("a", version(2), 4.0)
    assert tracker.take_due(8.9) == []
    assert tracker.take_due(9.0) == ["a"]


def test_a_new_mtime_alone_starts_the_wait_anew() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1, mtime=1), 0.0)
    assert tracker.see("a", version(1, mtime=2), 3.0)
    assert tracker.next_due() == 8.0


def test_looking_at_an_unchanged_file_does_not_prolong_the_wait() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    assert not tracker.see("a", version(1), 4.0)
    assert tracker.next_due() == 5.0


def test_an_event_without_a_visible_change_prolongs_the_wait() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    tracker.stir("a", 4.0)
    assert tracker.next_due() == 9.0
    tracker.stir("unknown", 4.0)
    assert "unknown" not in tracker


def test_a_storm_of_touches_ends_with_the_last_one() -> None:
    tracker = Tracker(QUIET)
    for step in range(50):
        tracker.see("a", version(1, mtime=step), step * 0.4)
        assert tracker.take_due(step * 0.4) == []
    assert tracker.next_due() == 49 * 0.4 + QUIET


def test_a_rename_into_place_is_complete_at_once() -> None:
    tracker = Tracker(QUIET)
    tracker.complete("a", version(9), 50.0)
    assert tracker.take_due(50.0) == ["a"]


def test_a_rename_over_a_growing_file_counts_for_the_new_one() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    tracker.complete("a", version(9, inode=2), 1.0)
    assert tracker.take_due(1.0) == ["a"]
    assert tracker.take_due(99.0) == []


def test_renaming_a_growing_file_does_not_complete_it() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    tracker.rename("a", "b", version(1), 2.0)
    assert tracker.paths() == ["b"]
    assert tracker.take_due(4.9) == []
    assert tracker.take_due(5.0) == ["b"]


def test_renaming_a_file_that_has_grown_starts_anew() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    tracker.rename("a", "b", version(2), 2.0)
    assert tracker.next_due() == 7.0
    tracker.rename("never seen", "c", version(1), 3.0)
    assert tracker.take_due(8.0) == ["b", "c"]


def test_renaming_a_quiet_file_that_was_held_keeps_it_due() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    tracker.take_due(5.0)
    tracker.hold("a", 20.0, "busy")
    tracker.rename("a", "b", version(1), 6.0)
    assert tracker.take_due(20.0) == ["b"]


def test_a_held_file_that_changes_waits_for_its_quiet_time_and_loses_the_reason() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    tracker.take_due(5.0)
    tracker.hold("a", 100.0, "busy")
    tracker.see("a", version(2), 6.0)
    growing = tracker.get("a")
    assert growing is not None
    assert growing.reason is None
    assert tracker.take_due(11.0) == ["a"]


def test_forgetting() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 0.0)
    assert tracker.forget("a")
    assert not tracker.forget("a")
    assert tracker.take_due(99.0) == []
    assert tracker.next_due() is None
    assert len(tracker) == 0


def test_what_was_quiet_before_the_look_counts() -> None:
    tracker = Tracker(QUIET)
    tracker.see("a", version(1), 10.0, quiet=1.5)
    assert tracker.next_due() == 13.5


def test_quiet_before_believes_the_mtime_only_between_two_looks() -> None:
    second = 1_000_000_000
    now = 1_000 * second
    assert quiet_before(now - second, now, 2.0, QUIET) == 1.0
    assert quiet_before(now - 2 * second, now, 2.0, QUIET) == 2.0
    assert quiet_before(now - 3 * second, now, 2.0, QUIET) == 0.0  # older than the look before: set by a copier
    assert quiet_before(now + second, now, 2.0, QUIET) == 0.0  # the file server's clock is ahead
    assert quiet_before(now - second, now, 0.0, QUIET) == 0.0  # the first look
    assert quiet_before(now - 4 * second, now, 10.0, QUIET) == QUIET / 2


class NeverEarly(RuleBasedStateMachine):
    """Any mix of events: a file is due only if neither change nor event was within the quiet time."""

    names = st.sampled_from(["a", "b", "c"])

    @initialize()
    def begin(self) -> None:
        self.tracker = Tracker(QUIET)
        self.now = 0.0
        self.size: dict[str, int] = {}
        self.touched: dict[str, float] = {}
        self.whole: set[str] = set()

    @rule(name=names)
    def grow(self, name: str) -> None:
        self.size[name] = self.size.get(name, 0) + 1
        self.tracker.see(name, version(self.size[name], inode=hash(name)), self.now)
        self.touched[name] = self.now
        self.whole.discard(name)

    @rule(name=names)
    def close(self, name: str) -> None:
        if name in self.tracker:
            self.tracker.stir(name, self.now)
            self.touched[name] = self.now
            self.whole.discard(name)

    @rule(name=names)
    def rename_in(self, name: str) -> None:
        self.size[name] = self.size.get(name, 0) + 1
        self.tracker.complete(name, version(self.size[name], inode=hash(name)), self.now)
        self.whole.add(name)

    @rule(name=names)
    def vanish(self, name: str) -> None:
        self.tracker.forget(name)
        self.touched.pop(name, None)
        self.whole.discard(name)

    @rule(seconds=st.floats(0.1, 7.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(busy=st.booleans())
    def take(self, busy: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        for name in self.tracker.take_due(self.now):
            assert name in self.whole or self.now - self.touched[name] >= QUIET - 1e-9
            if busy:
                self.tracker.hold(name, self.now + 1.0, "busy")
            else:
                self.tracker.forget(name)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if hasattr(self, "tracker"):
            assert (self.tracker.next_due() is not None) == (len(self.tracker) > 0)


TestNeverEarly = NeverEarly.TestCase
