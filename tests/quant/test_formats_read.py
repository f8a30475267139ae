"""Reading weights of every type that ggml knows."""

from __future__ import annotations

import numpy as np
import pytest

from quant.formats.read import read
from runtime.gguf.ggml_types import GGML_TYPES, GGML_TYPES_BY_NAME, GgmlType
from tests.quant.ggml_base import ggml_type, same_bits

NOT_WEIGHTS = {"F64", "I8", "I16", "I32", "I64", "Q8_1", "Q8_K"}
BLOCK_TYPES = [kind for kind in GGML_TYPES.values() if kind.name not in NOT_WEIGHTS | {"F32", "F16", "BF16"}]
F32, F16, BF16 = (GGML_TYPES_BY_NAME[name].id for name in ("F32", "F16", "BF16"))


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.name)
def test_any_bytes_of_any_type_read_as_ggml_reads_them(kind: GgmlType) -> None:
    data = np.random.default_rng(1).integers(0, 256, (6, 4 * kind.block_bytes), dtype=np.uint8)
    judged = ggml_type(kind.id).to_float(data.reshape(-1, kind.block_bytes))
    rows = read(kind.id, data, 4 * kind.block_size)
    assert rows.shape == (6, 4 * kind.block_size) and rows.dtype == np.float32
    assert same_bits(rows.reshape(judged.shape), judged)
    assert read(kind.id, data[:0], 4 * kind.block_size).shape == (0, 4 * kind.block_size)
    changed = judged.copy()
    changed[-1, -1] += 1
    assert np.isnan(changed[-1, -1]) or not same_bits(rows.reshape(judged.shape), changed)


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_every_half_reads_as_ggml_reads_it(name: str) -> None:
    kind = GGML_TYPES_BY_NAME[name]
    data = np.arange(65536, dtype="<u2").view(np.uint8)
    judged = ggml_type(kind.id).to_float(data.reshape(-1, 2))
    assert same_bits(read(kind.id, data, 256), judged.reshape(-1, 256))


def test_floats_come_through_as_they_are() -> None:
    data = np.array([[0.1, -0.0, np.inf], [np.nan, 1e-45, 3]], dtype="<f4")
    assert same_bits(read(F32, data.view(np.uint8), 3), data)
    assert same_bits(read(F32, np.frombuffer(data.tobytes(), np.uint8), 3), data)


@pytest.mark.parametrize("name", sorted(NOT_WEIGHTS))
def test_types_without_weights_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="hold no weights"):
        read(GGML_TYPES_BY_NAME[name].id, np.zeros(8 * 292, np.uint8), 256)


@pytest.mark.parametrize("kind", GGML_TYPES.values(), ids=lambda kind: kind.name)
def test_bytes_that_are_no_whole_rows_are_refused(kind: GgmlType) -> None:
    if kind.name in NOT_WEIGHTS:
        return
    columns = 2 * kind.block_size
    for data, width in (
        (np.zeros(3 * kind.row_bytes(columns) - 1, np.uint8), columns),
        (np.zeros(3 * kind.row_bytes(columns), np.uint8), 0),
        (np.zeros(3 * kind.row_bytes(columns), np.uint8), -columns),
    ):
        with pytest.raises(ValueError, match="no whole rows"):
            read(kind.id, data, width)
    if kind.block_size > 1:
        with pytest.raises(ValueError, match="no whole rows"):
            read(kind.id, np.zeros(3 * kind.row_bytes(columns), np.uint8), columns - 1)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="ggml type 99"):
        read(99, np.zeros(4, np.uint8), 1)
