from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.messages import Request
from runtime.engine.placement import place
from runtime.engine.slot import Job, Slot, common_prefix
from runtime.engine.text import TextStream
from tests.runtime.fake_backend import FakeBackend, FakeSampler

TOKENS = st.lists(st.integers(0, 2), max_size=40)


def busy(slot: Slot) -> Slot:
    sampler = FakeSampler(FakeBackend())
    slot.job = Job(Request(id=1, prompt=()), [], 0, 0, sampler, TextStream(), [], 0)
    return slot


@given(TOKENS, TOKENS)
def test_a_common_prefix_is_the_longest_one(left: list[int], right: list[int]) -> None:
    length = common_prefix(left, right)
    assert left[:length] == right[:length]
    assert left[: length + 1] != right[: length + 1] or length == min(len(left), len(right))


def test_no_free_slot_means_no_place() -> None:
    assert place([busy(Slot(0))], [1, 2]) is None


def test_an_empty_slot_is_taken_before_a_resting_conversation() -> None:
    found = place([Slot(0, [1, 2], last_used=1), Slot(1), Slot(2, [3], last_used=0)], [9, 9])
    assert found is not None and found.slot.index == 1 and found.reuse == 0


def test_the_conversation_that_rests_longest_makes_place() -> None:
    found = place([Slot(0, [1, 2], last_used=5), Slot(1, [3], last_used=2)], [9, 9])
    assert found is not None and found.slot.index == 1


def test_a_conversation_goes_on_in_its_slot() -> None:
    found = place([Slot(0, [1, 2, 3]), Slot(1)], [1, 2, 3, 4])
    assert found is not None and found.slot is found.source and found.slot.index == 0 and found.reuse == 3


def test_one_token_is_always_left_to_compute() -> None:
    found = place([Slot(0, [1, 2, 3])], [1, 2, 3])
    assert found is not None and found.reuse == 2


def test_a_busy_slot_shares_its_beginning() -> None:
    found = place([busy(Slot(0, [1, 2, 3, 4])), Slot(1)], [1, 2, 3, 9])
    assert found is not None and found.source.index == 0 and found.slot.index == 1 and found.reuse == 3


def test_a_beginning_that_is_not_worth_a_copy_is_computed() -> None:
    found = place([busy(Slot(0, [1, 2, 3, 4])), Slot(1)], [1, 2, 3, 9], share_minimum=4)
    assert found is not None and found.slot is found.source and found.slot.index == 1 and found.reuse == 0


def test_of_equal_beginnings_the_free_slot_is_used_in_place() -> None:
    found = place([busy(Slot(0, [1, 2])), Slot(1, [1, 2])], [1, 2, 9])
    assert found is not None and found.slot is found.source and found.slot.index == 1


def test_the_only_free_slot_keeps_what_it_can() -> None:
    found = place([Slot(0, [1, 2, 3, 4, 5, 6, 7])], [1, 2, 9])
    assert found is not None and found.slot is found.source and found.reuse == 2
