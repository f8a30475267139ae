from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.encoders.output_energy import OutputEnergy, of_rounded_inputs, product
from quant.encoders.tensor import relative, spread_rows
from tests.quant.stand_ins import made_up


def rows(count: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, columns)).astype(np.float32)


def expected(some: NDArray[np.float32], moments: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = some.astype(np.float64)
    found: NDArray[np.float64] = ((wide @ moments.astype(np.float64)) * wide).sum(axis=1)
    return found


@pytest.mark.parametrize(("count", "columns"), [(1, 32), (7, 96), (64, 256), (130, 320), (3, 544)])
def test_energies_are_those_of_the_whole_hessian(count: int, columns: int) -> None:
    statistics = made_up(1, columns, seed=1)
    assert statistics.gram is not None
    some = rows(count, columns)
    right = expected(some, statistics.gram[0, 0])
    assert OutputEnergy(statistics)(some) == pytest.approx(right, rel=1e-4)
    some[0] *= 1.001
    assert OutputEnergy(statistics)(some)[0] != pytest.approx(right[0], rel=1e-4)


def test_energies_of_blocks_are_summed() -> None:
    statistics = made_up(1, 256, seed=2)
    assert statistics.gram is not None
    whole = statistics.gram[0, 0]
    blocks = np.stack([whole[at : at + 64, at : at + 64] for at in range(0, 256, 64)])[None]
    some = rows(9, 256)
    right = sum(expected(some[:, 64 * b : 64 * (b + 1)], blocks[0, b]) for b in range(4))
    assert OutputEnergy(replace(statistics, gram=blocks))(some) == pytest.approx(right, rel=1e-4)


def test_without_a_hessian_columns_count_by_their_mean_square() -> None:
    statistics = replace(made_up(2, 64, seed=3), gram=None)
    some = rows(5, 64)
    for expert in (0, 1):
        right = (some.astype(np.float64) ** 2 * statistics.mean_square[expert]).sum(axis=1)
        assert OutputEnergy(statistics, expert)(some) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("tokens", [0, 5])
def test_where_no_input_was_seen_all_columns_count_alike(tokens: int) -> None:
    nothing = InputStatistics(np.array([tokens]), np.zeros((1, 64), np.float32))
    some = rows(5, 64)
    right = (some.astype(np.float64) ** 2).sum(axis=1)
    assert OutputEnergy(nothing)(some) == pytest.approx(right)
    assert OutputEnergy(None)(some) == pytest.approx(right)


def test_any_split_of_the_rows_gives_the_same_bits() -> None:
    statistics = made_up(1, 320, seed=4)
    some = rows(150, 320)
    energy = OutputEnergy(statistics)
    whole = energy(some)
    parts = [energy(some[at : at + 37]) for at in range(0, 150, 37)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert energy(some[:0]).shape == (0,)


def rounded(inputs: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Inputs [tokens, columns] as bytes with a scale for each block."""
    blocks = inputs.reshape(len(inputs), -1, block)
    steps = np.abs(blocks).max(axis=2, keepdims=True) / 127
    found: NDArray[np.float64] = (np.round(blocks / steps) * steps).reshape(inputs.shape)
    return found


@pytest.mark.parametrize("block", [32, 256])
def test_rounded_inputs_add_as_much_as_rounding_them_does(block: int) -> None:
    dice = np.random.default_rng(6)
    inputs = dice.standard_normal((400, 512)) * np.exp(dice.standard_normal(512))
    peaks = (np.abs(inputs).reshape(400, -1, block).max(axis=2) ** 2).mean(axis=0, keepdims=True)
    statistics = InputStatistics(
        np.array([400]),
        (inputs**2).mean(axis=0, keepdims=True).astype(np.float32),
        None,
        {block: peaks.astype(np.float32)},
    )
    some = rows(50, 512)
    found = of_rounded_inputs(statistics, 0, some, block)
    right = (((inputs - rounded(inputs, block)) @ some.T.astype(np.float64)) ** 2).mean(axis=0)
    assert found.sum() == pytest.approx(right.sum(), rel=0.05)
    assert not of_rounded_inputs(statistics, 0, some, 288 - block).any()
    assert not of_rounded_inputs(None, 0, some, block).any()


def test_a_product_is_that_of_matrices() -> None:
    moments = made_up(1, 544, seed=5).gram
    assert moments is not None
    some = rows(70, 544)
    assert product(some, moments[0, 0]) == pytest.approx(some @ moments[0, 0], rel=1e-3, abs=1e-2)


def test_rows_are_spread_evenly_and_always_the_same() -> None:
    assert spread_rows(8, 4) == [1, 3, 5, 7]
    assert spread_rows(3, 10) == [0, 1, 2]
    assert spread_rows(1000, 3) == [166, 500, 833]


def test_weights_that_give_nothing_have_no_error() -> None:
    assert relative([0.0], [0.0]) == 0.0
    assert relative([1e-300, 1.0], [4.0]) == 0.25
