from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InvalidScheme, NotFinite
from quant.observers import (
    MinMaxObserver,
    PerChannel,
    PerGroup,
    PerTensor,
    QParams,
    Scheme,
    dequantize,
    fake_quantize,
    qparams_of_range,
    quantize,
)
from quant.observers.granularity import to_rows
from quant.observers.qparams import PIECE, pieces
from quant.observers.values import F32, SMALLEST_SCALE, finite
from tests.quant.observing import arrays, floats, schemes, unhurried

FLOAT32_MAX = float(np.finfo(np.float32).max)
ROUNDING = 2.0**-23
"""Relative, of a value: half of it by its scale's rounding to float32, half by its own."""


def half_steps_off(x: F32, qparams: QParams, decoded: F32 | None = None) -> float:
    """The largest error, in half steps, beyond what rounding to float32 explains."""
    decoded = fake_quantize(x, qparams) if decoded is None else decoded
    error = np.abs(x.astype(np.float64) - decoded)
    allowed = np.abs(x.astype(np.float64)) * ROUNDING
    rows = to_rows(qparams.scheme.granularity, np.maximum(error - allowed, 0))
    scale = qparams.scale.astype(np.float64).reshape(-1, 1)
    return float((rows / (scale / 2)).max())


class TestRange:
    @pytest.mark.parametrize(
        ("scheme", "low", "high", "scale", "zero_point"),
        [
            (Scheme(), -1.0, 2.54, 0.02, 0),
            (Scheme(restricted=False), -2.55, 1.0, 0.02, 0),
            (Scheme(signed=False), -2.54, 0.0, 0.02, 128),
            (Scheme(signed=False, symmetric=False), -0.5, 2.05, 0.01, 50),
            (Scheme(symmetric=False), -0.5, 2.05, 0.01, -78),
            (Scheme(signed=False, symmetric=False), 1.0, 2.55, 0.01, 0),
            (Scheme(signed=False, symmetric=False), -2.55, -1.0, 0.01, 255),
            (Scheme(4), 0.0, 7.0, 1.0, 0),
            (Scheme(1, signed=False, symmetric=False), 0.0, 3.0, 3.0, 0),
            (Scheme(), 0.0, 0.0, 1.0, 0),
            (Scheme(signed=False, symmetric=False), 0.0, 0.0, 1.0, 0),
        ],
    )
    def test_known_ranges_give_known_parameters(
        self, scheme: Scheme, low: float, high: float, scale: float, zero_point: int
    ) -> None:
        qparams = qparams_of_range(scheme, low, high)
        assert qparams.scale == np.float32(scale)
        assert qparams.zero_point == zero_point
        assert [str(qparams.scale.dtype), str(qparams.zero_point.dtype)] == ["float32", "int32"]

    @unhurried
    @given(schemes(), floats, floats)
    def test_any_range_gives_usable_parameters(self, scheme: Scheme, one: float, other: float) -> None:
        qparams = qparams_of_range(scheme, min(one, other), max(one, other))
        assert SMALLEST_SCALE <= qparams.scale < np.inf
        assert scheme.lowest <= qparams.zero_point <= scheme.highest
        assert qparams.zero_point == scheme.middle or not scheme.symmetric

    def test_a_subnormal_range_gets_the_smallest_normal_scale(self) -> None:
        assert qparams_of_range(Scheme(), 0.0, 1e-44).scale == SMALLEST_SCALE

    def test_the_widest_range_of_float32_is_no_overflow(self) -> None:
        for scheme in (Scheme(), Scheme(2), Scheme(1, symmetric=False), Scheme(symmetric=False)):
            x = np.array([-FLOAT32_MAX, -1.0, 0.0, FLOAT32_MAX], np.float32)
            qparams = qparams_of_range(scheme, x[0], x[-1])
            assert np.isfinite(fake_quantize(x, qparams)).all()


class TestQuantize:
    @unhurried
    @given(schemes(), arrays())
    def test_a_value_in_the_range_is_off_by_half_a_step_at_most(self, scheme: Scheme, x: F32) -> None:
        observer = MinMaxObserver(scheme)
        observer.observe(x)
        # no float32 is as large a scale as the widest ranges need, by half a unit in its last place
        assert half_steps_off(x, observer.calculate_qparams()) <= 1 + 2**-23

    def test_codes_one_too_high_are_found_by_that_bound(self) -> None:
        scheme = Scheme(granularity=PerChannel(0))
        x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
        right = qparams_of_range(scheme, x.min(axis=1), x.max(axis=1))
        assert half_steps_off(x, right) <= 1 + 1e-9
        codes = quantize(x, right)
        codes[1, 5] += 1
        assert half_steps_off(x, right, dequantize(codes, right)) > 1 + 1e-9

    @unhurried
    @given(schemes(), arrays())
    def test_zero_is_exact(self, scheme: Scheme, x: F32) -> None:
        observer = MinMaxObserver(scheme)
        observer.observe(x)
        zeros = np.zeros_like(x)
        assert not fake_quantize(zeros, observer.calculate_qparams()).any()

    @unhurried
    @given(schemes(), arrays(), arrays())
    def test_codes_stay_in_their_range_also_for_values_outside_of_theirs(
        self, scheme: Scheme, seen: F32, x: F32
    ) -> None:
        observer = MinMaxObserver(scheme)
        observer.observe(seen)
        codes = quantize(x, observer.calculate_qparams())
        assert codes.dtype == scheme.dtype
        assert codes.shape == x.shape
        assert codes.min() >= scheme.lowest
        assert codes.max() <= scheme.highest

    @unhurried
    @given(schemes(most_bits=12), arrays(st.floats(-(2.0**100), 2.0**100, width=32)))
    def test_what_was_quantized_once_stays_as_it_is(self, scheme: Scheme, x: F32) -> None:
        observer = MinMaxObserver(scheme)
        observer.observe(x)
        qparams = observer.calculate_qparams()
        codes = quantize(x, qparams)
        assert np.array_equal(quantize(dequantize(codes, qparams), qparams), codes)

    def test_ties_go_to_the_even_code(self) -> None:
        qparams = qparams_of_range(Scheme(), -127.0, 127.0)
        assert quantize([0.5, 1.5, 2.5, -0.5, -1.5], qparams).tolist() == [0, 2, 2, 0, -2]

    def test_negated_values_take_negated_codes_in_a_symmetric_scheme(self) -> None:
        x = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
        qparams = qparams_of_range(Scheme(4), x.min() / 2, x.max() / 2)
        assert np.array_equal(quantize(-x, qparams), -quantize(x, qparams))

    def test_a_large_array_is_computed_in_pieces_and_gives_the_same(self) -> None:
        columns = PIECE // 2 + 3
        x = np.random.default_rng(1).standard_normal((5, columns)).astype(np.float32)
        for granularity in (PerTensor(), PerChannel(0), PerChannel(1), PerGroup(columns)):
            scheme = Scheme(granularity=granularity)
            observer = MinMaxObserver(scheme)
            observer.observe(x)
            qparams = observer.calculate_qparams()
            scale = qparams.scale.reshape(-1, 1) if qparams.scale.shape[:1] == (5,) else qparams.scale
            expected = np.rint(x / scale.astype(np.float64)).astype(np.int8)
            assert np.array_equal(quantize(x, qparams), expected)

    @pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (3, PIECE + 1), (PIECE + 1, 1), (0, 5)])
    def test_pieces_cover_an_array_once(self, rows: int, columns: int) -> None:
        covered = np.zeros((rows, columns), np.int8)
        for part in pieces(rows, columns):
            assert 0 < covered[part].size <= PIECE
            covered[part] += 1
        assert (covered == 1).all()

    def test_an_empty_array_gives_no_codes(self) -> None:
        qparams = qparams_of_range(Scheme(), -1.0, 1.0)
        assert quantize(np.empty((0, 4), np.float32), qparams).shape == (0, 4)

    def test_another_shape_than_the_parameters_is_refused(self) -> None:
        qparams = qparams_of_range(Scheme(granularity=PerChannel(0)), np.zeros(3), np.ones(3))
        with pytest.raises(InvalidScheme, match=r"needs parameters of shape \[4\]; these have \[3\]"):
            quantize(np.zeros((4, 3)), qparams)


class TestFinite:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_refused_with_count_and_position(self, bad: float) -> None:
        x = np.zeros((3, 4), np.float32)
        x[1, 2] = x[2, 0] = bad
        with pytest.raises(NotFinite) as caught:
            finite(x)
        assert (caught.value.count, caught.value.position) == (2, (1, 2))
        assert f"2 of 12 values are NaN, infinite or beyond float32, the first ({bad}) at [1, 2]" in str(
            caught.value
        )

    def test_a_float64_beyond_float32_is_refused(self) -> None:
        with pytest.raises(NotFinite, match=r"\(1e\+39\) at \[1\]"):
            finite(np.array([0.0, 1e39]))

    def test_a_number_alone_has_no_position(self) -> None:
        with pytest.raises(NotFinite, match=r"the first \(nan\): ") as caught:
            finite(math.nan)
        assert caught.value.position == ()

    def test_float32_is_not_copied_and_other_types_are_converted(self) -> None:
        x = np.ones(3, np.float32)
        assert finite(x) is x
        assert finite(np.ones(3, np.float16)).dtype == np.float32
        assert finite([1, 2]).tolist() == [1.0, 2.0]
