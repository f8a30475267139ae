from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InvalidScheme
from quant.observers import Histogram, PerChannel, PerGroup, PerTensor
from quant.observers.bins import count, folded, grown, merge
from quant.observers.values import F32
from tests.quant.observing import GRANULARITIES, arrays, heavy_tailed, unhurried, usual


def histogram(x: F32, bins: int = 64) -> Histogram:
    found = count(PerTensor(), x, bins)
    assert found is not None
    return found


def same(one: Histogram, other: Histogram) -> bool:
    return one.shape == other.shape and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("counts", "start", "exponent", "zeros", "low", "high")
    )


@unhurried
@given(arrays(), st.integers(2, 300))
def test_every_value_is_counted_in_the_bin_that_holds_it(x: F32, bins: int) -> None:
    found = histogram(x, bins)
    edges = found.edges[0]
    values = np.sort(x.ravel().astype(np.float64))
    expected = np.searchsorted(values, edges, side="left")
    assert np.array_equal(np.diff(expected), found.counts[0])
    assert found.counts.sum() == x.size
    assert (found.low[0], found.high[0]) == (values[0], values[-1])
    assert found.zeros[0] == (values == 0).sum()
    assert np.array_equal(np.diff(edges), np.full(bins, found.width[0]))


@unhurried
@given(arrays(), st.integers(2, 300))
def test_bins_are_on_multiples_of_their_width_and_about_half_are_used(x: F32, bins: int) -> None:
    found = histogram(x, bins)
    edges = found.edges[0]
    assert np.array_equal(np.rint(edges / found.width[0]), edges / found.width[0])
    assert edges[0] <= 0 <= edges[-1]
    span = max(found.high[0], 0.0) - min(found.low[0], 0.0)
    assert span == 0 or span / found.width[0] >= bins / 2 - 1


@unhurried
@given(
    st.lists(st.one_of(arrays(), arrays(usual)), min_size=1, max_size=5),
    st.permutations(range(5)),
    st.sampled_from(GRANULARITIES),
    st.sampled_from([2, 7, 64, 255]),
)
def test_batches_give_the_histogram_of_all_of_them_together_in_any_order(
    batches: list[F32], order: list[int], granularity: PerGroup, bins: int
) -> None:
    states = [count(granularity, batch, bins) for batch in batches]
    one = reduce(grown, states)
    other = reduce(grown, [states[index] for index in order if index < len(states)])
    assert one is not None and other is not None
    assert same(one, other)
    assert one.counts.sum() == sum(batch.size for batch in batches)
    if isinstance(granularity, PerTensor):
        assert same(one, histogram(np.stack(batches), bins))


@unhurried
@given(st.lists(arrays(), min_size=3, max_size=3))
def test_merging_is_associative(batches: list[F32]) -> None:
    a, b, c = (histogram(batch) for batch in batches)
    assert same(merge(merge(a, b), c), merge(a, merge(b, c)))


def test_one_count_astray_is_found_by_that_comparison() -> None:
    x = heavy_tailed(0, 100)
    good = histogram(x)
    counts = good.counts.copy()
    at = int(counts[0].argmax())
    counts[0, at] -= 1
    counts[0, at - 1] += 1
    assert not same(good, replace(good, counts=counts))


@unhurried
@given(arrays(), st.sampled_from([16, 64]))
def test_folding_counts_magnitudes(x: F32, bins: int) -> None:
    found = histogram(x, bins)
    whole = folded(found)[0]
    # a negative value on an edge counts with the bin below it, so its magnitude with the bin beyond
    magnitudes = np.abs(x.astype(np.float64)) / found.width[0]
    numbers = np.floor(magnitudes) - ((magnitudes == np.floor(magnitudes)) & (x < 0))
    assert np.array_equal(whole, np.bincount(numbers.astype(int).ravel(), minlength=len(whole)))


def test_memory_is_that_of_the_bins_whatever_is_seen() -> None:
    state = None
    tracemalloc.start()
    try:
        for batch in range(20):
            state = grown(state, count(PerChannel(1), heavy_tailed(batch, 256, 16) * 4.0**batch, 512))
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert state is not None
    assert current < 2 * state.counts.nbytes
    assert state.counts.nbytes == 8 * 16 * 512


def test_a_large_array_takes_little_beside_its_histogram() -> None:
    x = np.zeros((64, 1 << 17), np.float32)
    tracemalloc.start()
    try:
        count(PerTensor(), x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20 <= 2 * x.nbytes


@pytest.mark.parametrize("bins", [-1, 0, 1, 65537])
def test_a_number_of_bins_out_of_range_is_refused(bins: int) -> None:
    with pytest.raises(InvalidScheme, match=f"^{bins} bins in a histogram; use 2 to 65536"):
        count(PerTensor(), np.ones(3), bins)


def test_histograms_of_more_than_a_gibibyte_are_refused_with_the_size() -> None:
    with pytest.raises(InvalidScheme, match=r"65536 histograms of 4096 bins need 2048 MiB"):
        count(PerGroup(32), np.zeros((64, 32768), np.float32), 4096)


def test_histograms_of_two_sizes_do_not_merge() -> None:
    with pytest.raises(InvalidScheme, match="64 and 32 bins"):
        merge(histogram(np.ones(2, np.float32)), histogram(np.ones(2, np.float32), 32))
