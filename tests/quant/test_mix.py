from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.allocation.mix import Option, choose, lower_hull
from quant.errors import CannotEncode


def total(chosen: dict[str, Option]) -> tuple[int, float]:
    return sum(option.nbytes for option in chosen.values()), sum(option.cost for option in chosen.values())


def table(*costs: tuple[int, float]) -> list[Option]:
    return [Option(f"f{index}", nbytes, cost) for index, (nbytes, cost) in enumerate(costs)]


options = st.lists(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 1000)), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
).map(lambda found: {f"t{index}": table(*costs) for index, costs in enumerate(found)})


class TestHull:
    def test_what_a_mixture_of_two_others_beats_is_left_out(self) -> None:
        hull = lower_hull(table((10, 100.0), (20, 90.0), (30, 10.0), (40, 9.0)))
        assert [option.nbytes for option in hull] == [10, 30, 40]

    def test_a_larger_format_with_more_error_is_left_out(self) -> None:
        assert [option.nbytes for option in lower_hull(table((10, 5.0), (20, 7.0), (30, 5.0)))] == [10]

    @given(options)
    def test_savings_for_each_byte_fall_strictly(self, found: dict[str, Sequence[Option]]) -> None:
        for each in found.values():
            hull = lower_hull(each)
            gains = [(a.cost - b.cost) / (b.nbytes - a.nbytes) for a, b in itertools.pairwise(hull)]
            assert all(before > after > 0 for before, after in itertools.pairwise(gains))
            assert hull[0].nbytes == min(option.nbytes for option in each)
            assert hull[-1].cost == min(option.cost for option in each)


class TestChoice:
    def test_the_known_best_is_found(self) -> None:
        found = {"a": table((10, 8.0), (20, 2.0)), "b": table((10, 4.0), (20, 3.0))}
        chosen = choose(found, 30)
        assert (chosen["a"].nbytes, chosen["b"].nbytes) == (20, 10)

    def test_room_for_everything_gives_the_least_error(self) -> None:
        found = {"a": table((10, 8.0), (20, 2.0)), "b": table((10, 4.0), (20, 3.0))}
        assert total(choose(found, 40)) == (40, 5.0)

    def test_too_little_room_is_an_error_with_both_numbers(self) -> None:
        with pytest.raises(CannotEncode, match=r"need 2\.00 KiB .* 1\.00 KiB are there"):
            choose({"a": table((2048, 1.0))}, 1024)

    @given(options, st.integers(0, 250))
    def test_the_room_is_never_passed(self, found: dict[str, Sequence[Option]], room: int) -> None:
        least = sum(min(option.nbytes for option in each) for each in found.values())
        if room < least:
            with pytest.raises(CannotEncode):
                choose(found, room)
        else:
            assert total(choose(found, room))[0] <= room

    @given(options, st.integers(0, 60), st.integers(1, 60))
    def test_more_room_never_gives_more_error(
        self, found: dict[str, Sequence[Option]], beyond: int, more: int
    ) -> None:
        least = sum(min(option.nbytes for option in each) for each in found.values())
        before = total(choose(found, least + beyond))[1]
        assert total(choose(found, least + beyond + more))[1] <= before

    @given(options, st.integers(0, 120))
    def test_it_comes_near_the_best_of_all_choices(
        self, found: dict[str, Sequence[Option]], beyond: int
    ) -> None:
        """The gap is at most the largest step's saving, since only one step may be left unfilled."""
        least = sum(min(option.nbytes for option in each) for each in found.values())
        room = least + beyond
        best = min(
            sum(option.cost for option in choice)
            for choice in itertools.product(*found.values())
            if sum(option.nbytes for option in choice) <= room
        )
        steps = [a.cost - b.cost for each in found.values() for a, b in itertools.pairwise(lower_hull(each))]
        assert best <= total(choose(found, room))[1] <= best + max(steps, default=0.0)

    @given(options, st.integers(0, 120))
    def test_the_order_of_the_tensors_does_not_matter(
        self, found: dict[str, Sequence[Option]], beyond: int
    ) -> None:
        least = sum(min(option.nbytes for option in each) for each in found.values())
        turned = {name: list(reversed(each)) for name, each in reversed(found.items())}
        assert choose(found, least + beyond) == choose(turned, least + beyond)
