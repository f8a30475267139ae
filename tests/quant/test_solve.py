from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.allocation.solve import STEPS, Beside, Choices, Option, total_bytes, worth_having
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


class TestOptionsWorthHaving:
    def test_what_another_beats_in_bytes_and_cost_is_left_out(self) -> None:
        found = worth_having(table((10, 5.0), (20, 7.0), (30, 5.0), (40, 4.0), (40, 3.0)))
        assert [(option.nbytes, option.cost) for option in found] == [(10, 5.0), (40, 3.0)]

    @settings(deadline=None)
    @given(options)
    def test_bytes_rise_and_costs_fall_strictly(self, found: dict[str, Sequence[Option]]) -> None:
        for each in found.values():
            kept = worth_having(each)
            assert all(a.nbytes < b.nbytes and a.cost > b.cost for a, b in itertools.pairwise(kept))
            assert kept[0].nbytes == min(option.nbytes for option in each)
            assert kept[-1].cost == min(option.cost for option in each)


def solve(options: Mapping[str, Sequence[Option]], room_bytes: int) -> dict[str, Option]:
    return Choices(options, room_bytes).within(room_bytes)


class TestChoice:
    def test_the_known_best_is_found(self) -> None:
        found = {"a": table((10, 8.0), (20, 2.0)), "b": table((10, 4.0), (20, 3.0))}
        chosen = solve(found, 30)
        assert (chosen["a"].nbytes, chosen["b"].nbytes) == (20, 10)

    def test_room_for_everything_gives_the_least_error(self) -> None:
        found = {"a": table((10, 8.0), (20, 2.0)), "b": table((10, 4.0), (20, 3.0))}
        assert total(solve(found, 40)) == (40, 5.0)

    def test_too_little_room_is_an_error_with_both_numbers(self) -> None:
        with pytest.raises(CannotEncode, match=r"need 2\.00 KiB .* 1\.00 KiB are there"):
            solve({"a": table((2048, 1.0))}, 1024)

    @settings(deadline=None)
    @given(options, st.integers(0, 250))
    def test_the_room_is_never_passed(self, found: dict[str, Sequence[Option]], room: int) -> None:
        least = sum(min(option.nbytes for option in each) for each in found.values())
        if room < least:
            with pytest.raises(CannotEncode):
                solve(found, room)
        else:
            assert total(solve(found, room))[0] <= room

    @settings(deadline=None)
    @given(options, st.integers(0, 60), st.integers(1, 60))
    def test_more_room_never_gives_more_error(
        self, found: dict[str, Sequence[Option]], beyond: int, more: int
    ) -> None:
        least = sum(min(option.nbytes for option in each) for each in found.values())
        before = total(solve(found, least + beyond))[1]
        assert total(solve(found, least + beyond + more))[1] <= before

    @settings(deadline=None)
    @given(options, st.integers(0, 120))
    def test_it_is_the_best_of_all_choices(self, found: dict[str, Sequence[Option]], beyond: int) -> None:
        room = sum(min(option.nbytes for option in each) for each in found.values()) + beyond
        best = min(
            sum(option.cost for option in choice)
            for choice in itertools.product(*found.values())
            if sum(option.nbytes for option in choice) <= room
        )
        assert total(solve(found, room))[1] == best

    @settings(deadline=None)
    @given(options, st.integers(0, 120))
    def test_the_order_of_the_tensors_does_not_matter(
        self, found: dict[str, Sequence[Option]], beyond: int
    ) -> None:
        least = sum(min(option.nbytes for option in each) for each in found.values())
        turned = {name: list(reversed(each)) for name, each in reversed(found.items())}
        assert solve(found, least + beyond) == solve(turned, least + beyond)


X, Y = Beside("x", 7), Beside("y", 3)

sharing = st.lists(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 1000), st.sampled_from([(), (X,), (Y,), (X, Y)])),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=5,
).map(
    lambda found: {
        f"t{index}": [
            Option(f"f{number}", nbytes, cost, beside) for number, (nbytes, cost, beside) in enumerate(each)
        ]
        for index, each in enumerate(found)
    }
)


class TestWhatLiesBeside:
    """Bytes that options share."""

    def test_it_counts_once_for_all_that_need_it(self) -> None:
        found = {name: [Option("a", 10, 5.0), Option("b", 2, 1.0, (X,))] for name in ("p", "q")}
        chosen = solve(found, 11)
        assert {option.format for option in chosen.values()} == {"b"}
        assert total_bytes(chosen.values()) == 11

    @settings(deadline=None)
    @given(sharing, st.integers(0, 200))
    def test_the_room_is_never_passed(self, found: dict[str, Sequence[Option]], beyond: int) -> None:
        choices = Choices(found)
        room = choices.least_bytes + beyond
        assert total_bytes(choices.within(room).values()) <= room

    @settings(deadline=None)
    @given(sharing)
    def test_the_bytes_of_all_choices_are_true(self, found: dict[str, Sequence[Option]]) -> None:
        choices = Choices(found)
        for nbytes in choices.nbytes.tolist():
            assert total_bytes(choices.within(nbytes).values()) <= nbytes
        assert total_bytes(choices.within(choices.least_bytes).values()) == choices.least_bytes

    @settings(deadline=None)
    @given(sharing, st.integers(0, 60), st.integers(1, 60))
    def test_more_room_never_gives_more_error(
        self, found: dict[str, Sequence[Option]], beyond: int, more: int
    ) -> None:
        choices = Choices(found)
        room = choices.least_bytes + beyond
        assert total(choices.within(room + more))[1] <= total(choices.within(room))[1]


class TestRoundedBytes:
    """With so few steps that bytes are rounded to units."""

    @pytest.fixture(autouse=True)
    def few_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("quant.allocation.solve.STEPS", 16)

    @pytest.mark.parametrize("seed", range(30))
    def test_the_room_still_holds_and_more_of_it_never_costs(self, seed: int) -> None:
        rng = random.Random(seed)
        found = {
            f"t{index}": table(*((rng.randint(1, 1000), rng.random()) for _ in range(rng.randint(1, 6))))
            for index in range(rng.randint(1, 8))
        }
        least = sum(min(option.nbytes for option in each) for each in found.values())
        totals = [(room, *total(solve(found, room))) for room in range(least, least + 4000, 37)]
        assert all(nbytes <= room for room, nbytes, _ in totals)
        assert all(before[2] >= after[2] for before, after in itertools.pairwise(totals))


class TestLargeModel:
    """Six hundred matrices, of 70 G weights, ten formats each."""

    FORMATS = ((1.7, 0.19), (2.25, 0.12), (2.6, 0.07), (3.4, 0.02), (4.25, 6e-3), (4.5, 5e-3), (5.5, 1.3e-3))

    def options(self) -> dict[str, list[Option]]:
        found = {}
        for index in range(600):
            elements = (8192 * 28672, 8192 * 8192, 8192 * 1024)[index % 3]
            alpha = 1.0 + (index * 7 % 11) / 3
            found[f"t{index:03}"] = [
                Option(f"f{number}", int(elements * bits / 8), alpha * error)
                for number, (bits, error) in enumerate((*self.FORMATS, (6.6, 3e-4), (8.5, 3e-5), (16, 0.0)))
            ]
        return found

    def test_it_takes_less_than_two_seconds(self) -> None:
        found = self.options()
        started = time.process_time()
        solve(found, 30 << 30)
        assert time.process_time() - started < 2

    def test_the_room_is_used_up_to_a_thousandth_and_more_of_it_helps(self) -> None:
        found = self.options()
        rooms = [(16 << 30) + step * (777 << 20) for step in range(8)]
        totals = [total(solve(found, room)) for room in rooms]
        assert all(0.999 * room < nbytes <= room for room, (nbytes, _) in zip(rooms, totals, strict=True))
        assert all(before > after for (_, before), (_, after) in itertools.pairwise(totals))
        assert sum(each[-1].nbytes - each[0].nbytes for each in found.values()) > STEPS
