from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InvalidScheme
from quant.observers import MinMaxObserver, PercentileObserver, PerChannel, PerTensor, Scheme
from quant.observers.bins import count
from quant.observers.percentile import percentile_range
from quant.observers.values import F32
from tests.quant.observing import arrays, heavy_tailed, schemes, unhurried

PERCENTILES = [1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]


def ranges(x: F32, percentile: float, symmetric: bool, bins: int) -> tuple[float, float, float]:
    """Lowest and highest value kept, and the width of a bin."""
    state = count(PerTensor(), x, bins)
    assert state is not None
    low, high = percentile_range(state, percentile, symmetric)
    return float(low), float(high), float(state.width[0])


@pytest.mark.parametrize("percentile", PERCENTILES)
@pytest.mark.parametrize("bins", [64, 1000, 4096])
class TestAgainstNumpy:
    def test_a_symmetric_range_is_off_by_a_bin_at_most(self, percentile: float, bins: int) -> None:
        x = heavy_tailed(1, 30_000)
        low, high, width = ranges(x, percentile, True, bins)
        exact = np.percentile(np.abs(x), percentile, method="inverted_cdf")
        assert abs(high - exact) <= width
        assert low == -high

    def test_an_affine_range_is_off_by_a_bin_at_most_at_each_end(self, percentile: float, bins: int) -> None:
        x = heavy_tailed(2, 30_000) + np.float32(1)
        low, high, width = ranges(x, percentile, False, bins)
        cut = (100 - percentile) / 2
        assert abs(high - np.percentile(x, 100 - cut, method="inverted_cdf")) <= width
        assert abs(low + np.percentile(-x, 100 - cut, method="inverted_cdf")) <= width


def test_another_percentile_is_more_than_a_bin_off() -> None:
    x = heavy_tailed(1, 30_000)
    _, high, width = ranges(x, 99.9, True, 4096)
    assert abs(high - np.percentile(np.abs(x), 99.8, method="inverted_cdf")) > width


@unhurried
@given(arrays(), st.sampled_from(PERCENTILES), st.booleans())
def test_the_range_holds_its_share_and_lies_within_the_extremes(
    x: F32, percentile: float, symmetric: bool
) -> None:
    low, high, width = ranges(x, percentile, symmetric, 256)
    largest = float(np.abs(x).max())
    assert max(float(x.min()), -largest) - width <= high <= (largest if symmetric else float(x.max()))
    values = x.astype(np.float64)
    kept = ((values >= low - width) & (values <= high + width)).mean()
    assert kept >= percentile / 100 - 1e-12


@unhurried
@given(schemes(), arrays())
def test_all_of_it_is_the_range_of_the_extremes(scheme: Scheme, x: F32) -> None:
    one, other = PercentileObserver(scheme, 100, bins=64), MinMaxObserver(scheme)
    one.observe(x)
    other.observe(x)
    assert np.array_equal(one.calculate_qparams().scale, other.calculate_qparams().scale)
    assert np.array_equal(one.calculate_qparams().zero_point, other.calculate_qparams().zero_point)


def test_channels_of_a_kv_cache_have_ranges_of_their_own() -> None:
    keys = heavy_tailed(4, 5000, 8) * np.array([1, 1, 1, 50, 1, 1, 0.01, 1], np.float32)
    observer = PercentileObserver(Scheme(granularity=PerChannel(-1)), 99, bins=1024)
    for batch in np.split(keys, 10):
        observer.observe(batch)
    found = observer.calculate_qparams().scale.astype(np.float64) * 127
    exact = np.percentile(np.abs(keys), 99, axis=0)
    assert found == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("percentile", [0.0, -1.0, 100.1, math.nan])
def test_a_percentile_that_is_none_is_refused(percentile: float) -> None:
    with pytest.raises(InvalidScheme, match="percentile"):
        PercentileObserver(Scheme(), percentile)
