from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant.errors import InvalidScheme, NotFinite, NothingObserved
from quant.observers import (
    MinMaxObserver,
    MSEObserver,
    PerChannel,
    PerGroup,
    PerTensor,
    QParams,
    Scheme,
    dequantize,
    fake_quantize,
    least_squares_qparams,
    qparams_of_range,
    quantize,
)
from quant.observers.bins import count
from quant.observers.granularity import to_rows
from quant.observers.mse import histogram_error
from quant.observers.qparams import PIECE
from quant.observers.values import F32, F64
from tests.quant.observing import arrays, heavy_tailed, schemes, unhurried, usual

SCHEMES = [
    Scheme(2),
    Scheme(3),
    Scheme(4),
    Scheme(4, restricted=False),
    Scheme(8),
    Scheme(2, signed=False, symmetric=False),
    Scheme(3, symmetric=False),
    Scheme(4, symmetric=False),
]


def errors(x: F32, qparams: QParams, importance: NDArray[np.floating] | float = 1.0) -> F64:
    """[P]: weighted sums of squared errors."""
    squared = importance * (x.astype(np.float64) - fake_quantize(x, qparams)) ** 2
    total: F64 = to_rows(qparams.scheme.granularity, squared).sum(axis=1)
    return total


def least_of_all(x: F32, scheme: Scheme, importance: NDArray[np.floating] | float = 1.0) -> float:
    """The least error of any zero point and any scale of a fine grid, each scale solved for its codes.

    From one scale to the next the outermost code moves by an eighth of a step.
    """
    values = x.ravel().astype(np.float64)
    weights = np.broadcast_to(np.asarray(importance, np.float64), x.shape).ravel()
    zeros = [scheme.middle] if scheme.symmetric else range(scheme.lowest, scheme.highest + 1)
    span = float(np.ptp(np.append(values, 0))) if not scheme.symmetric else 2 * float(np.abs(values).max())
    best = np.inf
    for zero in zeros:
        finer = 8 * scheme.steps
        for scale in span / scheme.steps * 1.5 * np.exp(-np.arange(4 * finer) / finer):
            for _ in range(2):
                steps = np.clip(np.rint(values / scale) + zero, scheme.lowest, scheme.highest) - zero
                best = min(best, float((weights * (values - scale * steps) ** 2).sum()))
                if not steps.any():
                    break
                scale = (weights * values * steps).sum() / (weights * steps * steps).sum()
                if scale <= 0:
                    break
    return best


class TestLeastSquares:
    @pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
    @pytest.mark.parametrize("values", [16, 32, 256])
    def test_it_is_near_the_best_of_all_parameters(self, scheme: Scheme, values: int) -> None:
        ratios = []
        for seed in range(2):
            x = heavy_tailed(seed, values)
            ratios.append(float(errors(x, least_squares_qparams(x, scheme))[0]) / least_of_all(x, scheme))
        assert min(ratios) >= 0.99, "the search of all is a grid too, but a fine one"
        # a few values among 255 codes: their error jumps with the scale, more finely than the search goes
        assert max(ratios) <= (1.005 if scheme.bits <= 4 else 1.5), ratios

    def test_the_full_range_is_further_from_the_best_than_that(self) -> None:
        x = heavy_tailed(0, 256)
        for scheme in (Scheme(2), Scheme(4), Scheme(3, symmetric=False)):
            full = qparams_of_range(scheme, x.min(), x.max())
            assert errors(x, full)[0] / least_of_all(x, scheme) > 1.1

    @unhurried
    @given(schemes(most_bits=8), arrays())
    def test_it_is_never_worse_than_the_full_range(self, scheme: Scheme, x: F32) -> None:
        observer = MinMaxObserver(scheme)
        observer.observe(x)
        found, full = errors(x, least_squares_qparams(x, scheme)), errors(x, observer.calculate_qparams())
        assert (found <= full * (1 + 1e-5) + 1e-70).all()

    def test_ternary_gaussians_reach_the_known_optimum(self) -> None:
        # Max, "Quantizing for minimum distortion", 1960: three levels of a unit Gaussian leave 0.1902
        x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
        qparams = least_squares_qparams(x, Scheme(2))
        assert errors(x, qparams)[0] / x.size == pytest.approx(0.1902, rel=0.01)
        assert float(qparams.scale) == pytest.approx(1.2240, rel=0.01)

    def test_what_matters_is_kept_better(self) -> None:
        x = heavy_tailed(1, 64, 32)
        importance = np.random.default_rng(1).gamma(0.3, size=32) + 1e-3
        scheme = Scheme(3, granularity=PerGroup(32))
        found = errors(x, least_squares_qparams(x, scheme, importance), importance).sum()
        without = errors(x, least_squares_qparams(x, scheme), importance).sum()
        assert found < 0.8 * without

    def test_importance_counts_in_the_optimum(self) -> None:
        x, importance = heavy_tailed(2, 64), np.random.default_rng(2).gamma(1, size=64)
        for scheme in (Scheme(3), Scheme(3, symmetric=False)):
            found = errors(x, least_squares_qparams(x, scheme, importance), importance)[0]
            assert found <= 1.2 * least_of_all(x, scheme, importance)

    def test_values_of_no_importance_are_no_trouble(self) -> None:
        x = heavy_tailed(3, 4, 32)
        importance = np.ones((4, 32))
        importance[2] = 0
        qparams = least_squares_qparams(x, Scheme(4, granularity=PerChannel(0)), importance)
        assert (qparams.scale > 0).all()

    def test_a_row_longer_than_a_piece_gives_what_its_parts_say(self) -> None:
        part = np.random.default_rng(0).standard_normal(PIECE // 4).astype(np.float32)
        long = np.tile(part, 5)
        one, other = least_squares_qparams(part, Scheme(2)), least_squares_qparams(long, Scheme(2))
        assert one.scale == pytest.approx(other.scale, rel=1e-6)

    @pytest.mark.parametrize(
        ("importance", "words"), [([-1.0, 1, 1], "none may be negative"), ([1.0, 1], r"\[2\] does not")]
    )
    def test_importance_that_cannot_be_is_refused(self, importance: list[float], words: str) -> None:
        with pytest.raises(InvalidScheme, match=words):
            least_squares_qparams(np.ones(3), Scheme(), importance)

    def test_nothing_and_what_is_not_finite_are_refused(self) -> None:
        with pytest.raises(NothingObserved):
            least_squares_qparams(np.empty(0), Scheme())
        with pytest.raises(NotFinite):
            least_squares_qparams([1.0, np.nan], Scheme())
        with pytest.raises(NotFinite):
            least_squares_qparams([1.0, 2.0], Scheme(), [1.0, np.inf])


class TestHistogramError:
    @unhurried
    @given(schemes(most_bits=8), arrays(usual), st.floats(0.01, 2), st.floats(0.01, 2), st.integers(2, 200))
    def test_it_is_the_error_of_values_spread_over_their_bins(
        self, scheme: Scheme, x: F32, below: float, above: float, bins: int
    ) -> None:
        state = count(PerTensor(), x, bins)
        assert state is not None
        qparams = qparams_of_range(scheme, state.low * below, state.high * above)
        edges = np.clip(state.edges[0], state.low[0], state.high[0])
        parts = (np.arange(400) + 0.5) / 400
        scale, zero = float(qparams.scale[0]), float(qparams.zero_point[0])
        expected = 0.0
        for bottom, top, number in zip(edges[:-1], edges[1:], state.counts[0], strict=True):
            if number:
                values = bottom + (top - bottom) * parts
                codes = np.clip(np.rint(values / scale) + zero, scheme.lowest, scheme.highest)
                expected += number * ((values - scale * (codes - zero)) ** 2).mean()
        found = float(histogram_error(state, qparams)[0])
        # the sum of 400 points is off by the squared part of a bin, at a jump of the codes by its width
        slack = x.size * (float(state.width[0]) / 400) * (float(state.width[0]) / 400 + scale)
        assert found == pytest.approx(expected, rel=1e-4, abs=slack + 1e-30)

    def test_one_code_less_is_another_error(self) -> None:
        x = np.linspace(-1, 1, 1000, dtype=np.float32)
        state = count(PerTensor(), x, 64)
        assert state is not None
        right = histogram_error(state, qparams_of_range(Scheme(3), state.low, state.high))
        clipped = histogram_error(state, qparams_of_range(Scheme(3), state.low * 0.5, state.high * 0.5))
        assert clipped > 1.2 * right


class TestMSEObserver:
    @pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
    def test_batches_give_nearly_what_the_values_themselves_would(self, scheme: Scheme) -> None:
        x = heavy_tailed(7, 20, 1000)
        observer = MSEObserver(scheme)
        for batch in x:
            observer.observe(batch)
        found = errors(x, observer.calculate_qparams())[0]
        exact = errors(x, least_squares_qparams(x, scheme))[0]
        assert found <= 1.02 * exact
        full = MinMaxObserver(scheme)
        full.observe(x)
        assert found <= errors(x, full.calculate_qparams())[0] * 1.001

    def test_a_perturbed_scale_is_found_by_that_bound(self) -> None:
        x = heavy_tailed(7, 20_000)
        exact = least_squares_qparams(x, Scheme(4))
        bad = QParams(exact.scheme, exact.scale * np.float32(1.15), exact.zero_point)
        assert errors(x, bad)[0] > 1.02 * errors(x, exact)[0]

    def test_channels_searched_in_parts_get_what_they_get_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = heavy_tailed(8, 700, 7) * np.geomspace(1e-3, 1e3, 7).astype(np.float32)
        observer = MSEObserver(Scheme(4, granularity=PerChannel(1)), bins=512)
        observer.observe(x)
        together = observer.calculate_qparams()
        monkeypatch.setattr("quant.observers.mse.PIECE", 3 * 512)
        assert np.array_equal(observer.calculate_qparams().scale, together.scale)
        for channel, scale in zip(x.T, together.scale, strict=True):
            alone = MSEObserver(Scheme(4), bins=512)
            alone.observe(channel)
            assert alone.calculate_qparams().scale == scale

    def test_codes_and_values_of_a_static_scale_round_trip(self) -> None:
        x = heavy_tailed(9, 100, 16)
        observer = MSEObserver(Scheme(8, granularity=PerChannel(-1)))
        observer.observe(x)
        qparams = observer.calculate_qparams()
        assert np.array_equal(dequantize(quantize(x, qparams), qparams), fake_quantize(x, qparams))
