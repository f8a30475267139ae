from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InvalidScheme, NotFinite, NothingObserved
from quant.observers import (
    Granularity,
    HistogramObserver,
    MinMax,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    PerChannel,
    PerGroup,
    PerToken,
    Scheme,
    qparams_of_range,
)
from quant.observers.granularity import parameter_shape, to_rows
from quant.observers.minmax import merge, min_max
from quant.observers.values import F32
from tests.quant.observing import GRANULARITIES, arrays, heavy_tailed, schemes, unhurried, usual

Make = Callable[[Scheme], Observer]

OBSERVERS: dict[str, Make] = {
    "minmax": MinMaxObserver,
    "moving average": MovingAverageMinMaxObserver,
    "histogram": partial(HistogramObserver, bins=256),
    "percentile": partial(PercentileObserver, bins=256),
    "mse": partial(MSEObserver, bins=256),
}


class TestMinMax:
    @unhurried
    @given(schemes(), st.lists(arrays(), min_size=1, max_size=4))
    def test_the_range_is_that_of_all_batches_together(self, scheme: Scheme, batches: list[F32]) -> None:
        observer = MinMaxObserver(scheme)
        for batch in batches:
            observer.observe(batch)
        rows = np.stack([to_rows(scheme.granularity, batch) for batch in batches])
        shape = parameter_shape(scheme.granularity, batches[0].shape)
        low, high = rows.min(axis=(0, 2)).reshape(shape), rows.max(axis=(0, 2)).reshape(shape)
        assert observer.state is not None
        assert np.array_equal(observer.state.low, low)
        assert np.array_equal(observer.state.high, high)
        expected = qparams_of_range(scheme, low, high)
        found = observer.calculate_qparams()
        assert np.array_equal(found.scale, expected.scale)
        assert np.array_equal(found.zero_point, expected.zero_point)

    @unhurried
    @given(st.lists(arrays(), min_size=2, max_size=5), st.permutations(range(5)))
    def test_states_merge_in_any_order(self, batches: list[F32], order: list[int]) -> None:
        states = [seen(batch) for batch in batches]
        shuffled = [states[index] for index in order if index < len(states)]
        one, other = reduce(merge, states), reduce(lambda left, right: merge(right, left), shuffled)
        assert np.array_equal(one.low, other.low)
        assert np.array_equal(one.high, other.high)

    def test_an_observer_goes_on_from_a_state(self) -> None:
        first = MinMaxObserver(Scheme())
        first.observe([1.0, 2.0])
        second = MinMaxObserver(Scheme(), first.state)
        second.observe([-4.0])
        assert second.state is not None and first.state is not None
        assert [float(second.state.low), float(second.state.high)] == [-4, 2]
        assert [float(first.state.low), float(first.state.high)] == [1, 2]


class TestMovingAverage:
    @unhurried
    @given(st.lists(arrays(usual), min_size=1, max_size=5), st.floats(0.001, 1))
    def test_it_follows_the_extremes_by_its_constant(self, batches: list[F32], constant: float) -> None:
        observer = MovingAverageMinMaxObserver(Scheme(symmetric=False), constant)
        low = high = math.nan
        for number, batch in enumerate(batches):
            observer.observe(batch)
            bottom, top = float(batch.min()), float(batch.max())
            low = bottom if number == 0 else (1 - constant) * low + constant * bottom
            high = top if number == 0 else (1 - constant) * high + constant * top
        assert observer.state is not None
        assert observer.state.low == pytest.approx(low, rel=1e-12, abs=1e-12)
        assert observer.state.high == pytest.approx(high, rel=1e-12, abs=1e-12)

    def test_an_outlier_in_one_batch_fades(self) -> None:
        observer, extremes = MovingAverageMinMaxObserver(Scheme(), 0.5), MinMaxObserver(Scheme())
        for batch in ([1.0], [1000.0], *[[1.0]] * 20):
            observer.observe(batch)
            extremes.observe(batch)
        assert observer.calculate_qparams().scale == pytest.approx(1 / 127, rel=0.01)
        assert extremes.calculate_qparams().scale == np.float32(1000 / 127)

    @pytest.mark.parametrize("constant", [0.0, -0.1, 1.5, math.nan])
    def test_a_constant_that_averages_nothing_is_refused(self, constant: float) -> None:
        with pytest.raises(InvalidScheme, match="averaging constant"):
            MovingAverageMinMaxObserver(Scheme(), constant)


@pytest.mark.parametrize("make", OBSERVERS.values(), ids=OBSERVERS)
class TestEveryObserver:
    def test_nothing_seen_is_an_error(self, make: Make) -> None:
        observer = make(Scheme())
        with pytest.raises(NothingObserved, match="call observe"):
            observer.calculate_qparams()
        observer.observe(np.empty((0, 8), np.float32))
        with pytest.raises(NothingObserved):
            observer.calculate_qparams()

    def test_an_empty_batch_adds_nothing(self, make: Make) -> None:
        one, other = make(Scheme()), make(Scheme())
        batch = heavy_tailed(0, 16, 16)
        one.observe(batch)
        other.observe(np.empty((0, 16), np.float32))
        other.observe(batch)
        other.observe(np.empty((16, 0), np.float32))
        assert one.calculate_qparams().scale == other.calculate_qparams().scale

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_is_refused_and_changes_nothing(self, make: Make, bad: float) -> None:
        observer = make(Scheme())
        observer.observe([1.0, 2.0])
        before = observer.calculate_qparams()
        with pytest.raises(NotFinite, match=r"1 of 2 .* at \[1\]"):
            observer.observe([5.0, bad])
        assert observer.calculate_qparams().scale == before.scale

    def test_zeros_alone_are_kept_as_zeros(self, make: Make) -> None:
        for symmetric in (True, False):
            observer = make(Scheme(symmetric=symmetric))
            observer.observe(np.zeros((3, 3)))
            qparams = observer.calculate_qparams()
            assert qparams.scale == 1

    @pytest.mark.parametrize("value", [-3.0, 1e-30, 7.0, 1e30])
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_a_constant_is_kept_closely(self, make: Make, value: float, symmetric: bool) -> None:
        scheme = Scheme(symmetric=symmetric)
        observer = make(scheme)
        observer.observe(np.full(100, value, np.float32))
        qparams = observer.calculate_qparams()
        steps = np.rint(value / np.float64(qparams.scale))
        assert steps * np.float64(qparams.scale) == pytest.approx(value, rel=1e-6)
        assert scheme.lowest <= steps + qparams.zero_point <= scheme.highest

    @pytest.mark.parametrize("granularity", GRANULARITIES, ids=repr)
    def test_every_granularity_has_its_parameters(self, make: Make, granularity: Granularity) -> None:
        x = heavy_tailed(1, 6, 32) * np.arange(1, 33, dtype=np.float32)
        observer = make(Scheme(4, granularity=granularity))
        observer.observe(x)
        qparams = observer.calculate_qparams()
        assert qparams.scale.shape == parameter_shape(granularity, x.shape)
        for row, scale in zip(to_rows(granularity, x), qparams.scale.ravel(), strict=True):
            alone = make(Scheme(4))
            alone.observe(row)
            assert alone.calculate_qparams().scale == pytest.approx(scale, rel=1e-6)

    def test_batches_of_another_layout_are_refused_with_both_shapes(self, make: Make) -> None:
        for granularity in (PerChannel(0), PerGroup(4), PerToken()):
            observer = make(Scheme(granularity=granularity))
            observer.observe(np.ones((3, 8)))
            with pytest.raises(InvalidScheme, match=r"parameters of shape \[4.*\], those before it \[3"):
                observer.observe(np.ones((4, 8)))

    def test_the_widest_and_the_narrowest_values_are_no_trouble(self, make: Make) -> None:
        largest = np.finfo(np.float32).max
        for batch in ([-largest, largest], [1e-45, -1e-45], [1e-45, largest], [0.0, 1e-45]):
            for scheme in (Scheme(), Scheme(2), Scheme(symmetric=False)):
                observer = make(scheme)
                observer.observe(np.array(batch, np.float32))
                assert 0 < observer.calculate_qparams().scale < np.inf


def seen(batch: F32) -> MinMax:
    state = min_max(PerChannel(1), batch)
    assert state is not None
    return state
