"""Numbered items in, items in order out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog.sequence import MAX_GAPS, MAX_HELD, Outcome, Reorderer

# Numbers as clients send them: mostly in order, some early, some late, some absurd.
NUMBERS = st.lists(
    st.one_of(st.integers(-5, 30), st.integers(0, 3 * MAX_HELD), st.integers(-(2**63), 2**63 - 1)),
    max_size=60,
)


def put_all(reorderer: Reorderer[int], *numbers: int) -> Iterator[int]:
    """Put items in that are their numbers; yield what is given out."""
    for number in numbers:
        yield from reorderer.put(number, number).ready


class TestPut:
    def test_gives_out_what_is_in_turn(self) -> None:
        """Items that come in order are given out as they come."""
        reorderer = Reorderer[str]()
        assert reorderer.put(1, "a") == Outcome(["a"], [])
        assert reorderer.put(2, "b") == Outcome(["b"], [])
        assert (reorderer.next, reorderer.highest, reorderer.missing) == (3, 2, [])

    def test_holds_what_comes_early(self) -> None:
        """An item that comes early waits for those before it, and follows them at once."""
        reorderer = Reorderer[str]()
        assert reorderer.put(3, "c") == Outcome([], [], is_held=True)
        assert (reorderer.missing, reorderer.highest, reorderer.held) == ([1, 2], 3, {3: "c"})
        assert reorderer.put(1, "a").ready == ["a"]
        assert reorderer.put(2, "b") == Outcome(["b", "c"], [])
        assert (reorderer.missing, reorderer.held) == ([], {})

    def test_begins_where_it_is_told(self) -> None:
        """The first number may be any; those before it are late, not missing."""
        reorderer = Reorderer[int](first=5412)
        assert list(put_all(reorderer, 5412, 5413)) == [5412, 5413]
        assert reorderer.put(7, 7) == Outcome([7], [], is_late=True)

    def test_refuses_what_came_before(self) -> None:
        """A number that was given out, or is held, doesn't come again."""
        reorderer = Reorderer[int]()
        list(put_all(reorderer, 1, 3))
        for number in (1, 3):
            assert reorderer.has_come(number)
            with pytest.raises(ValueError, match=f"item {number} came before"):
                reorderer.put(number, number)
        assert not reorderer.has_come(2)
        assert not reorderer.has_come(4)

    def test_gives_up_what_nobody_has(self) -> None:
        """What is further behind than clients keep is given up, as much as need be and no more."""
        reorderer = Reorderer[int]()
        list(put_all(reorderer, 1, 4))
        outcome = reorderer.put(4 + MAX_HELD, 0)
        assert outcome == Outcome([4], [range(2, 4)], is_held=True)
        assert reorderer.missing == list(range(5, 4 + MAX_HELD))

    def test_gives_up_a_whole_distance(self) -> None:
        """After a leap, those that can be had are waited for; the others are lost."""
        reorderer = Reorderer[int]()
        outcome = reorderer.put(1000, 1000)
        assert outcome == Outcome([], [range(1, 1000 - MAX_HELD)], is_held=True)
        assert len(reorderer.missing) == MAX_HELD


class TestGiveUpBefore:
    def test_gives_out_in_order_what_was_held(self) -> None:
        """What was held up to the number comes out in order, and what follows it without a gap."""
        reorderer = Reorderer[int]()
        list(put_all(reorderer, 7, 3, 6, 9))
        assert [*reorderer.held] == [7, 3, 6, 9]
        assert reorderer.give_up_before(6) == Outcome([3, 6, 7], [range(1, 3), range(4, 6)])
        assert (reorderer.next, reorderer.missing) == (8, [8])

    def test_takes_what_comes_nevertheless(self) -> None:
        """What was given up comes out at once when it comes, each number once, wherever in its gap."""
        reorderer = Reorderer[int]()
        reorderer.give_up_before(8)
        for number in (4, 1, 7, 6, 5, 3, 2):
            assert not reorderer.has_come(number)
            assert reorderer.put(number, number) == Outcome([number], [], is_late=True)
            assert reorderer.has_come(number)
        assert reorderer.put(8, 8) == Outcome([8], [])

    def test_does_nothing_twice(self) -> None:
        """Giving up what was given up, or what came, changes nothing."""
        reorderer = Reorderer[int]()
        list(put_all(reorderer, 1, 2))
        assert reorderer.give_up_before(3) == Outcome([], [])
        assert reorderer.next == 3


@given(NUMBERS, st.sets(st.integers(0, 60), max_size=5))
def test_each_item_comes_out_once(numbers: list[int], impatient: set[int]) -> None:
    """Each item comes out exactly once; in order, unless it is late; missing is what was never put."""
    reorderer, given_out, put = Reorderer[int](), list[int](), set[int]()
    for turn, number in enumerate(numbers):
        before = reorderer.next
        if number in put:
            assert reorderer.has_come(number)
            continue
        assert not reorderer.has_come(number)
        outcome = reorderer.put(number, number)
        put.add(number)
        assert outcome.is_late == (number < before)
        assert outcome.is_held == (number in reorderer.held)
        if turn in impatient:
            given_up = reorderer.give_up_before(reorderer.highest)
            outcome = outcome._replace(ready=[*outcome.ready, *given_up.ready])
        if not outcome.is_late:
            assert list(outcome.ready) == sorted(n for n in put if before <= n < reorderer.next)
        given_out += outcome.ready
        assert reorderer.missing == sorted(set(range(reorderer.next, reorderer.highest)) - put)
        assert len(reorderer.held) <= MAX_HELD
    given_out += reorderer.give_up_before(reorderer.highest).ready
    assert sorted(given_out) == sorted(put)


@given(NUMBERS)
def test_what_is_lost_is_told_once(numbers: list[int]) -> None:
    """The numbers below the next one are those that came in time, and those that were told to be lost."""
    reorderer, lost, in_time = Reorderer[int](), list[range](), set[int]()
    for number in dict.fromkeys(numbers):
        outcome = reorderer.put(number, number)
        lost += outcome.lost
        in_time |= set() if outcome.is_late else {number}
    counted = len(in_time - set(reorderer.held)) + sum(map(length_of, lost))
    assert counted == reorderer.next - 1
    assert all(one.stop <= other.start for one, other in pairwise(lost))


def length_of(numbers: range) -> int:
    """Return the length of a range, which may be more than len() can tell."""
    return numbers.stop - numbers.start


class TestMemory:
    def test_of_gaps_is_bounded(self) -> None:
        """However many gaps there are, the newest are remembered; what is in others counts as come."""
        reorderer = Reorderer[int]()
        for number in range(2, 10 * MAX_GAPS, 2):
            reorderer.put(number, number)
            reorderer.give_up_before(number)
        assert len(reorderer._gaps) == MAX_GAPS
        assert reorderer.has_come(1)
        assert reorderer.has_come(-1)
        assert not reorderer.has_come(10 * MAX_GAPS - 3)

    def test_of_late_items_is_bounded(self) -> None:
        """A gap that is filled here and there doesn't become any number of gaps."""
        reorderer = Reorderer[int]()
        reorderer.give_up_before(10**12)
        for number in range(2, 10 * MAX_GAPS, 2):
            assert reorderer.put(number, number).is_late
        assert len(reorderer._gaps) == MAX_GAPS
        assert not reorderer.has_come(10**9)
