"""What is kept of each input, in how many passes: within the memory, and all that it allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.accumulator import Accumulator
from runtime.engine.moment_plan import LEAST_BLOCK, InputShape, MomentPlan, block_sizes, plan_moments

columns = st.integers(1, 600).map(lambda count: 32 * count)
shapes = st.lists(st.builds(InputShape, columns, st.sampled_from([1, 1, 1, 8])), min_size=1, max_size=12)


def needed(inputs: list[InputShape], plan: MomentPlan, window: range) -> int:
    return sum(inputs[index].bytes(plan.blocks[index]) for index in window)


@given(st.integers(1, 20000))
def test_blocks_divide_the_columns_and_are_not_too_narrow(count: int) -> None:
    sizes = block_sizes(count)
    assert sizes[-1] == count
    assert sizes == sorted(set(sizes))
    for size in sizes[:-1]:
        assert count % size == 0
        assert size >= LEAST_BLOCK
        assert size % 32 == 0


def test_known_widths_have_known_blocks() -> None:
    assert block_sizes(576) == [288, 576]
    assert block_sizes(640) == [320, 640]
    assert block_sizes(1536) == [256, 512, 768, 1536]
    assert block_sizes(14336)[0] == 256
    assert block_sizes(192) == [192]
    assert block_sizes(2 * 8191) == [2 * 8191]


@pytest.mark.parametrize(("columns", "matrices", "block"), [(576, 1, 288), (576, 1, 576), (64, 8, 0)])
def test_the_bytes_of_an_input_are_those_of_its_sums(columns: int, matrices: int, block: int) -> None:
    sums = Accumulator(columns, matrices, block, threads=1)
    assert InputShape(columns, matrices).bytes(block) == sums.squares.nbytes + sums.moments.nbytes


def test_what_fits_exactly_fits() -> None:
    inputs = [InputShape(512)] * 4
    whole, narrow = InputShape(512).bytes(512), InputShape(512).bytes(256)
    assert plan_moments(inputs, 4 * whole, hessian=True) == MomentPlan((512,) * 4, (range(4),))
    assert plan_moments(inputs, 4 * whole - 1, hessian=True) == MomentPlan((256,) * 4, (range(4),))
    pairs = MomentPlan((256,) * 4, (range(2), range(2, 4)))
    assert plan_moments(inputs, 2 * narrow, hessian=True) == pairs
    assert len(plan_moments(inputs, 2 * narrow - 1, hessian=True).windows) == 4


@given(shapes, st.integers(0, 1 << 33), st.booleans())
def test_windows_cover_all_inputs_in_order_and_each_fits(
    inputs: list[InputShape], memory: int, experts: bool
) -> None:
    plan = plan_moments(inputs, memory, hessian=True, expert_hessian=experts)
    assert [index for window in plan.windows for index in window] == list(range(len(inputs)))
    for window in plan.windows:
        assert len(window) == 1 or needed(inputs, plan, window) <= memory
    for shape, block in zip(inputs, plan.blocks, strict=True):
        assert block in block_sizes(shape.columns) if experts or shape.matrices == 1 else block == 0


@given(shapes, st.integers(0, 1 << 33))
def test_one_pass_uses_the_widest_blocks_that_fit(inputs: list[InputShape], memory: int) -> None:
    plan = plan_moments(inputs, memory, hessian=True, expert_hessian=True)
    narrowest = [block_sizes(shape.columns)[0] for shape in inputs]
    if len(plan.windows) > 1:
        assert list(plan.blocks) == narrowest
        return
    bound = max(plan.blocks)
    wider = min(
        (size for shape in inputs for size in block_sizes(shape.columns) if size > bound), default=None
    )
    if wider is not None:
        grown = [
            max([size for size in block_sizes(shape.columns) if size <= wider], default=least)
            for shape, least in zip(inputs, narrowest, strict=True)
        ]
        assert sum(shape.bytes(size) for shape, size in zip(inputs, grown, strict=True)) > memory


def test_enough_memory_keeps_everything_whole() -> None:
    inputs = [InputShape(576), InputShape(1536), InputShape(14336)]
    assert plan_moments(inputs, 1 << 40, hessian=True) == MomentPlan((576, 1536, 14336), (range(3),))


def test_squares_alone_need_no_blocks() -> None:
    inputs = [InputShape(4096), InputShape(2048, 64)]
    assert plan_moments(inputs, 1 << 30, hessian=False) == MomentPlan((0, 0), (range(2),))
    assert plan_moments(inputs, 1 << 30, hessian=True).blocks == (4096, 0)


def test_nothing_to_watch_needs_no_pass() -> None:
    assert plan_moments([], 1 << 30, hessian=True) == MomentPlan((), ())
