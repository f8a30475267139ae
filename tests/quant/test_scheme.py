from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InvalidScheme
from quant.observers import Granularity, PerChannel, PerGroup, PerTensor, PerToken, Scheme
from quant.observers.granularity import from_rows, parameter_shape, to_rows
from tests.quant.observing import unhurried


class TestScheme:
    @pytest.mark.parametrize(
        ("scheme", "lowest", "highest", "middle", "dtype"),
        [
            (Scheme(), -127, 127, 0, "int8"),
            (Scheme(restricted=False), -128, 127, 0, "int8"),
            (Scheme(symmetric=False), -128, 127, 0, "int8"),
            (Scheme(signed=False), 1, 255, 128, "uint8"),
            (Scheme(signed=False, symmetric=False), 0, 255, 128, "uint8"),
            (Scheme(4), -7, 7, 0, "int8"),
            (Scheme(4, restricted=False), -8, 7, 0, "int8"),
            (Scheme(4, signed=False, symmetric=False), 0, 15, 8, "uint8"),
            (Scheme(2), -1, 1, 0, "int8"),
            (Scheme(1, signed=False, symmetric=False), 0, 1, 1, "uint8"),
            (Scheme(1, symmetric=False), -1, 0, 0, "int8"),
            (Scheme(16), -32767, 32767, 0, "int16"),
            (Scheme(9, signed=False, symmetric=False), 0, 511, 256, "uint16"),
        ],
    )
    def test_codes_follow_from_bits_sign_and_symmetry(
        self, scheme: Scheme, lowest: int, highest: int, middle: int, dtype: str
    ) -> None:
        assert (scheme.lowest, scheme.highest, scheme.middle) == (lowest, highest, middle)
        assert scheme.steps == highest - lowest
        assert scheme.dtype == dtype

    @pytest.mark.parametrize(("bits", "symmetric"), [(0, False), (1, True), (17, True), (-8, False)])
    def test_a_width_without_codes_is_refused(self, bits: int, symmetric: bool) -> None:
        with pytest.raises(InvalidScheme, match=rf"^{bits} bits .* to 16"):
            Scheme(bits, symmetric=symmetric)


@pytest.mark.parametrize(
    ("granularity", "shape", "expected"),
    [
        (PerTensor(), (3, 4), ()),
        (PerTensor(), (), ()),
        (PerChannel(0), (3, 4), (3,)),
        (PerChannel(-1), (2, 3, 4), (4,)),
        (PerGroup(2), (3, 4), (3, 2)),
        (PerGroup(3, axis=0), (6, 4), (2, 4)),
        (PerToken(), (2, 3, 4), (2, 3)),
        (PerToken(), (4,), ()),
    ],
)
def test_parameters_have_the_shape_of_their_granularity(
    granularity: Granularity, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert parameter_shape(granularity, shape) == expected


def test_rows_hold_what_shares_a_scale() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    assert to_rows(PerTensor(), x).tolist() == [list(range(24))]
    assert to_rows(PerChannel(1), x).tolist() == [x[:, c, :].ravel().tolist() for c in range(3)]
    assert to_rows(PerToken(), x).tolist() == x.reshape(6, 4).tolist()
    assert to_rows(PerGroup(2), x).tolist() == x.reshape(12, 2).tolist()
    groups_of_tokens = to_rows(PerGroup(3, axis=1), x)
    assert groups_of_tokens.tolist() == [x[b, :, f].tolist() for b in range(2) for f in range(4)]


@unhurried
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.sampled_from(["tensor", "channel", "group", "token"]),
    st.data(),
)
def test_rows_come_back_as_the_array(sizes: list[int], kind: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(sizes), len(sizes) - 1))
    divisors = [size for size in range(1, 5) if sizes[axis] % size == 0]
    granularities: dict[str, Granularity] = {
        "tensor": PerTensor(),
        "channel": PerChannel(axis),
        "group": PerGroup(data.draw(st.sampled_from(divisors)), axis),
        "token": PerToken(),
    }
    granularity = granularities[kind]
    x = np.arange(np.prod(sizes)).reshape(sizes)
    rows = to_rows(granularity, x)
    if x.size:
        assert len(rows) == np.prod(parameter_shape(granularity, x.shape), dtype=int)
    back = from_rows(granularity, rows, x.shape)
    assert back.flags.c_contiguous
    assert np.array_equal(back, x)


@pytest.mark.parametrize(
    ("granularity", "shape", "words"),
    [
        (PerChannel(2), (3, 4), "axis 2 does not exist in an array of shape [3, 4]"),
        (PerChannel(0), (), "axis 0 does not exist"),
        (PerToken(), (), "axis -1 does not exist"),
        (PerGroup(3), (3, 4), "group size 3 does not divide the 4 values along axis -1"),
        (PerGroup(0), (3, 4), "group size 0 does not divide"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_with_its_shape(
    granularity: Granularity, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InvalidScheme) as caught:
        parameter_shape(granularity, shape)
    assert words in str(caught.value)
