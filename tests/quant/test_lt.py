"""LT formats: bytes to weights and back, and the specification of docs/formats.md followed to the letter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.formats.lt import LT_FORMATS, STATE_BITS, LtTable, pack, unpack, values_of
from quant.formats.lt_input import LtInput, block_of, pack_input, restore, transform, unpack_input

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
EACH = [(name, state_bits) for name in LT_FORMATS for state_bits in STATE_BITS]


# --- a decoder written from docs/formats.md alone ----------------------------------------------------


def decode(k: int, state_bits: int, table: NDArray[np.int8], data: bytes, rows: int, columns: int) -> F32:
    """[rows, columns] in float32."""
    steps, word_rows = {1: (64, 8), 2: (32, 8), 3: (32, 8), 4: (16, 4)}[k]
    strip_bytes, found = 128 + 8 * k * columns, np.zeros((-(-rows // 64) * 64, columns), np.float32)
    for strip in range(-(-rows // 64)):
        strip_data = data[strip * strip_bytes : (strip + 1) * strip_bytes]
        scales = np.frombuffer(strip_data[:128], "<f2").astype(np.float32)
        lines = np.frombuffer(strip_data[128:], "<u8").reshape(-1, 8)
        for row in range(0, 64, word_rows):
            for column in range(0, columns, 8 if k == 1 else 4):
                j, ring = row // 8, []
                if k == 3:
                    x, h = (
                        int(lines[column // 8 * 3 + column // 4 % 2, j]),
                        int(lines[column // 8 * 3 + 2, j]),
                    )
                    h >>= 32 * (column // 4 % 2)
                    for t in range(steps):
                        ring += [h >> t & 1, x >> 2 * t & 1, x >> 2 * t + 1 & 1]
                else:
                    line = {1: column // 8, 2: column // 4, 4: column // 2 + row // 4 % 2}[k]
                    ring = [int(lines[line, j]) >> b & 1 for b in range(64)]
                for t in range(steps):
                    state = sum(ring[(k * t + b) % len(ring)] << b for b in range(state_bits))
                    i, m = divmod(t, steps // 8)
                    at = row + 2 * (m % 4) + i // 4, column + 4 * (m // 4) + i % 4
                    found[64 * strip + at[0], at[1]] = scales[at[0]] * np.float32(table[state])
    return found[:rows]


@pytest.mark.parametrize(("name", "state_bits"), EACH)
def test_any_bytes_mean_what_the_specification_says(name: str, state_bits: int) -> None:
    fmt, rng = LT_FORMATS[name], np.random.default_rng(state_bits)
    data, table = random_strips(name, 2, 64, rng), rng.integers(-127, 128, 1 << state_bits)
    ours = values_of(unpack(fmt, data, state_bits), LtTable(tuple(table.tolist()), 40.0))[:70]
    theirs = decode(fmt.bits, state_bits, table.astype(np.int8), data.tobytes(), 70, 64)
    assert np.array_equal(ours, theirs)
    data[1, 130] ^= 4
    assert not np.array_equal(
        decode(fmt.bits, state_bits, table.astype(np.int8), data.tobytes(), 70, 64), ours
    )


def random_strips(name: str, strips: int, columns: int, rng: np.random.Generator) -> U8:
    """Any codes, and scales that are numbers."""
    fmt = LT_FORMATS[name]
    data = rng.integers(0, 256, (strips, fmt.strip_bytes(columns)), dtype=np.uint8)
    data[:, :128] = rng.standard_normal((strips, 64)).astype("<f2").view(np.uint8)
    return data


@pytest.mark.parametrize(("name", "state_bits"), EACH)
def test_packing_again_gives_the_same_bytes(name: str, state_bits: int) -> None:
    fmt, rng = LT_FORMATS[name], np.random.default_rng(7)
    data = rng.integers(0, 256, (3, fmt.strip_bytes(192)), dtype=np.uint8)
    rows = unpack(fmt, data, state_bits)
    assert rows.states.shape == (192, 192)
    assert np.array_equal(pack(fmt, rows), data)


@pytest.mark.parametrize("name", LT_FORMATS)
def test_a_matrix_takes_as_many_bytes_as_are_said(name: str) -> None:
    fmt = LT_FORMATS[name]
    assert (
        fmt.tensor_bytes(65, 128) == 2 * fmt.strip_bytes(128) == 2 * 64 * 128 * fmt.bits_per_weight(128) / 8
    )
    assert fmt.fits(64)
    assert not fmt.fits(96)
    assert not fmt.fits(0)


# --- input ----------------------------------------------------


@pytest.mark.parametrize("columns", [64, 192, 256, 576])
def test_inputs_come_back_from_their_bytes(columns: int) -> None:
    given = random_input(columns)
    data = pack_input(given)
    assert data.size % 64 == 0
    back = unpack_input(data, columns)
    assert back.block == given.block == (64 if columns % 128 else 128)
    assert np.array_equal(back.minus, given.minus)
    assert np.array_equal(back.order, given.order)


def test_orders_that_name_a_column_twice_are_refused() -> None:
    data = pack_input(random_input(64))
    data[64:66] = data[66:68]
    with pytest.raises(ValueError, match="no permutation"):
        unpack_input(data, 64)
    with pytest.raises(ValueError, match="it has 192"):
        unpack_input(data[:-1], 64)


@pytest.mark.parametrize("columns", [64, 256])
def test_transforms_are_those_of_sylvesters_matrix_and_keep_products(columns: int) -> None:
    given, rng = random_input(columns), np.random.default_rng(1)
    weights, x = (rng.standard_normal((n, columns)).astype(np.float32) for n in (5, 3))
    matrix = np.array([[1.0]])
    while len(matrix) < given.block:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    signed = (x * np.where(given.minus, -1, 1)).reshape(3, -1, given.block)
    wanted = (signed @ matrix / np.sqrt(given.block)).reshape(3, columns)[:, given.order]
    assert np.abs(transform(given, x) - wanted).max() < 1e-5
    assert np.abs(transform(given, weights) @ transform(given, x).T - weights @ x.T).max() < 1e-4
    assert np.abs(restore(given, transform(given, weights)) - weights).max() < 1e-5


def random_input(columns: int) -> LtInput:
    rng = np.random.default_rng(columns)
    return LtInput(block_of(columns), rng.random(columns) < 0.5, rng.permutation(columns).astype(np.uint16))
