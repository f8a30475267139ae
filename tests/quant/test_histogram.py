from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.observers import HistogramObserver, PerTensor, Scheme, fake_quantize
from quant.observers.bins import count, folded
from quant.observers.entropy import divergence, least_divergent, merged
from tests.quant.observing import heavy_tailed, unhurried

counts_of_bins = st.lists(st.integers(0, 9), min_size=4, max_size=40).filter(any)


def plain_divergence(counts: list[int], first: int, last: int, levels: int) -> float:
    """The pseudocode of the GTC 2017 talk, step by step, for a window of the bins.

    Outliers go to the outermost occupied bin: where that is the last one, as it is published.
    """
    reference = list(counts[first:last])
    told = [b for b, c in enumerate(reference) if c]
    if not told:
        return math.inf
    reference[told[0]] += sum(counts[:first])
    reference[told[-1]] += sum(counts[last:])
    bins = last - first
    candidate = [0.0] * bins
    for level in range(levels):
        members = [b for b in range(bins) if b * levels // bins == level]
        occupied = [b for b in members if counts[first + b] > 0]
        for b in occupied:
            candidate[b] = sum(counts[first + b] for b in members) / len(occupied)
    total, candidate_total = sum(reference), sum(candidate)
    found = 0.0
    for p, q in zip(reference, candidate, strict=True):
        if p > 0:
            found += p / total * math.log((p / total) / (q / candidate_total))
    return found


def plain_search(counts: list[int], levels: int, zero: int) -> tuple[int, list[float]]:
    """The best number of bins on each side of zero, and every candidate's divergence, from 1 bin on."""
    furthest = max(zero - b if b < zero else b + 1 - zero for b, c in enumerate(counts) if c)
    found = []
    for kept in range(1, furthest + 1):
        first, last = max(0, zero - kept), min(len(counts), zero + kept)
        allowed = last - first >= levels and sum(counts[first:last]) >= 0.9 * sum(counts)
        found.append(plain_divergence(counts, first, last, levels) if allowed else math.inf)
    least = min(found)
    if least == math.inf:
        return furthest, found
    return max(
        kept for kept, value in enumerate(found, 1) if math.isclose(value, least, abs_tol=1e-12)
    ), found


class TestEntropy:
    def test_the_example_of_the_talk(self) -> None:
        bins = np.array([1, 0, 2, 3, 5, 3, 1, 7])
        assert merged(bins.astype(np.float64), 2).tolist() == [2, 0, 2, 2, 4, 4, 4, 4]

    @unhurried
    @given(counts_of_bins, st.integers(2, 6), st.data())
    def test_a_divergence_is_that_of_the_pseudocode(
        self, counts: list[int], levels: int, data: st.DataObject
    ) -> None:
        if len(counts) < levels:
            counts = counts + [1] * levels
        first = data.draw(st.integers(0, len(counts) - levels))
        last = data.draw(st.integers(first + levels, len(counts)))
        if not any(counts[first:last]):
            counts[first] = 1
        expected = plain_divergence(counts, first, last, levels)
        found = divergence(np.array(counts), first, last, levels)
        assert found == pytest.approx(expected, abs=1e-12)

    def test_outliers_behind_an_empty_bin_are_finitely_far(self) -> None:
        counts = np.array([9, 7, 5, 3, 0, 0, 0, 0, 1])
        assert divergence(counts, 0, 5, 5) == pytest.approx(divergence(counts, 0, 4, 4))
        assert least_divergent(counts, 4) in (4, 5)

    @unhurried
    @given(counts_of_bins, st.integers(2, 6), st.data())
    def test_the_threshold_is_that_of_the_pseudocode(
        self, counts: list[int], levels: int, data: st.DataObject
    ) -> None:
        zero = data.draw(st.integers(0, len(counts) - 1))
        kept, candidates = plain_search(counts, levels, zero)
        found = least_divergent(np.array(counts), levels, zero)
        # two candidates may be equal but for the order of rounding
        assert found == kept or candidates[found - 1] == pytest.approx(candidates[kept - 1], abs=1e-12)

    def test_a_count_moved_by_one_bin_is_another_divergence(self) -> None:
        counts = [9, 7, 5, 3, 4, 2, 1, 1, 2, 1, 1, 0]
        moved = [9, 7, 5, 3, 3, 3, 1, 1, 2, 1, 1, 0]
        right = plain_divergence(counts, 0, 9, 3)
        assert divergence(np.array(counts), 0, 9, 3) == pytest.approx(right, abs=1e-12)
        assert divergence(np.array(moved), 0, 9, 3) != pytest.approx(right, abs=1e-12)

    def test_no_more_bins_than_levels_are_all_kept(self) -> None:
        assert least_divergent(np.array([5, 1, 1, 0, 1]), 8) == 5
        assert least_divergent(np.array([0, 0, 0]), 8) == 0


class TestHistogramObserver:
    @pytest.mark.parametrize("bits", [4, 8])
    def test_symmetric_ranges_end_at_the_threshold_of_the_magnitudes(self, bits: int) -> None:
        x = np.append(heavy_tailed(bits, 50_000), np.zeros(9999, np.float32))
        scheme = Scheme(bits)
        observer = HistogramObserver(scheme, bins=512)
        observer.observe(x)
        state = count(PerTensor(), x[x != 0], 512)
        assert state is not None
        kept, _ = plain_search(folded(state)[0].tolist(), 1 << (bits - 1), 0)
        expected = kept * state.width[0] / scheme.highest
        assert observer.calculate_qparams().scale == np.float32(expected)

    def test_affine_ranges_end_at_one_threshold_on_both_sides(self) -> None:
        x = np.concatenate([heavy_tailed(3, 20_000, degrees=2.5), np.full(20_000, -0.25, np.float32)])
        scheme = Scheme(6, symmetric=False)
        observer = HistogramObserver(scheme, bins=512)
        observer.observe(x)
        state = count(PerTensor(), x, 512)
        assert state is not None
        kept, _ = plain_search(state.counts[0].tolist(), 64, int(-state.start[0]))
        threshold = kept * state.width[0]
        assert threshold < np.abs(x).max()
        low, high = max(float(x.min()), -threshold), min(float(x.max()), threshold)
        assert observer.calculate_qparams().scale == np.float32((high - low) / scheme.steps)

    def test_outliers_are_clipped_and_values_without_outliers_are_not(self) -> None:
        gaussian = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
        uniform = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
        with_outliers = gaussian.copy()
        with_outliers[:5] = 300
        ranges = {}
        for name, x in (("uniform", uniform), ("outliers", with_outliers)):
            observer = HistogramObserver(Scheme())
            observer.observe(x)
            ranges[name] = float(observer.calculate_qparams().scale) * 127
        assert ranges["uniform"] == pytest.approx(1, rel=0.01)
        # 127 steps over 300 would leave four of them for the bulk
        assert 3 < ranges["outliers"] < 30

    def test_a_bulk_far_from_zero_is_not_clipped_away(self) -> None:
        x = heavy_tailed(4, 50_000, degrees=30) + np.float32(5)
        for scheme in (Scheme(), Scheme(4, symmetric=False)):
            observer = HistogramObserver(scheme)
            observer.observe(x)
            kept = np.abs(x - fake_quantize(x, observer.calculate_qparams())) < 1
            assert kept.mean() > 0.9

    def test_batches_give_what_all_of_them_together_give(self) -> None:
        x = heavy_tailed(5, 40, 500)
        one, other = HistogramObserver(Scheme(), 1024), HistogramObserver(Scheme(), 1024)
        one.observe(x)
        for row in x[np.random.default_rng(0).permutation(len(x))]:
            other.observe(row)
        assert one.calculate_qparams().scale == other.calculate_qparams().scale

    def test_activations_after_a_relu_use_all_codes(self) -> None:
        x = np.maximum(heavy_tailed(6, 20_000), 0)
        scheme = Scheme(signed=False, symmetric=False)
        observer = HistogramObserver(scheme)
        observer.observe(x)
        qparams = observer.calculate_qparams()
        assert qparams.zero_point == 0
        assert np.square(x - fake_quantize(x, qparams)).mean() < 0.01
