"""Every format against the shipped libggml, in NumPy and in C++: facts, packing, values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.formats import native
from quant.formats.dequantize import dequantize, level_values, values
from quant.formats.format import Blocks, Format
from quant.formats.q1_0 import Q1_0
from quant.formats.q4_0 import Q4_0
from quant.formats.q4_1 import Q4_1
from quant.formats.q4_k import Q4_K
from quant.formats.registry import FORMATS
from quant.formats.tq1_0 import TQ1_0
from quant.formats.tq2_0 import TQ2_0
from runtime.kernels.packing import block_layout
from tests.quant.ggml_base import ggml_type, same_bits
from tests.quant.random_blocks import random_blocks, random_bytes, same_blocks

COUNT = 300
every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
BIJECTIVE = [fmt for fmt in FORMATS if fmt is not TQ1_0]
"""Formats in which every bit of a block says something. TQ1_0 writes 243 of 256 values of a byte."""


@every_format
def test_a_formats_facts_are_ggmls_and_the_kernels(fmt: Format) -> None:
    kind = ggml_type(fmt.ggml_type)
    assert (kind.name, kind.block, kind.block_bytes) == (fmt.name, fmt.block, fmt.block_bytes)
    layout = block_layout(fmt.ggml_type)
    assert (layout.weights, layout.nbytes, layout.groups) == (fmt.block, fmt.block_bytes, fmt.groups)
    assert (layout.minimum, layout.scales, layout.minima) == (
        fmt.affine,
        fmt.scale_range is not None,
        fmt.minima_high is not None,
    )
    assert list(fmt.levels) == sorted(fmt.levels) and fmt.block % fmt.group == 0


@every_format
def test_any_bytes_have_the_values_that_ggml_gives_them(fmt: Format) -> None:
    data = random_bytes(fmt, COUNT)
    judged = ggml_type(fmt.ggml_type).to_float(data)
    assert same_bits(dequantize(fmt, data), judged)
    assert same_bits(native.dequantize(fmt, data), judged)


@every_format
@pytest.mark.parametrize("hard", [False, True], ids=["usual scales", "hard scales"])
def test_packed_blocks_decode_in_ggml_as_their_contract_says(fmt: Format, hard: bool) -> None:
    blocks = random_blocks(fmt, COUNT, hard=hard)
    data = fmt.pack(blocks)
    assert same_bits(ggml_type(fmt.ggml_type).to_float(data), values(fmt, blocks))
    assert same_bits(native.dequantize(fmt, data), values(fmt, blocks))


@pytest.mark.parametrize("fmt", BIJECTIVE, ids=lambda fmt: fmt.name)
def test_unpacking_and_packing_again_gives_the_same_bytes_for_any_bytes(fmt: Format) -> None:
    data = random_bytes(fmt, COUNT)
    assert np.array_equal(fmt.pack(fmt.unpack(data)), data)
    assert np.array_equal(native.pack(fmt, fmt.unpack(data)), data)


@every_format
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 9), hard=st.booleans())
def test_packing_and_unpacking_gives_the_same_blocks(fmt: Format, seed: int, count: int, hard: bool) -> None:
    blocks = random_blocks(fmt, count, seed, hard=hard)
    data = fmt.pack(blocks)
    assert data.shape == (count, fmt.block_bytes) and data.dtype == np.uint8
    assert same_blocks(fmt.unpack(data), blocks)
    assert np.array_equal(native.pack(fmt, blocks), data)


@every_format
def test_every_single_bit_of_a_block_is_noticed(fmt: Format) -> None:
    block = fmt.pack(random_blocks(fmt, 1))
    flips = np.eye(8 * fmt.block_bytes, dtype=np.uint8)
    flipped = block ^ np.packbits(flips, axis=1)
    before = fmt.unpack(np.broadcast_to(block, flipped.shape))
    after = fmt.unpack(flipped)
    changed = after.scale.view(np.uint16) != before.scale.view(np.uint16)
    for old, new in (
        (before.codes, after.codes),
        (before.scales, after.scales),
        (before.minima, after.minima),
    ):
        if old is not None and new is not None:
            changed |= (old != new).any(axis=1)
    if before.minimum is not None and after.minimum is not None:
        changed |= before.minimum.view(np.uint16) != after.minimum.view(np.uint16)
    silent = int((~changed).sum())
    assert (silent > 0) == (fmt is TQ1_0), f"{silent} bits say nothing"


@every_format
def test_one_changed_code_is_seen_by_the_comparison_with_ggml(fmt: Format) -> None:
    blocks = random_blocks(fmt, COUNT)
    codes = blocks.codes.copy()
    codes[COUNT // 2, fmt.block // 3] = (int(codes[COUNT // 2, fmt.block // 3]) + 1) % len(fmt.levels)
    data = fmt.pack(replace(blocks, codes=codes))
    assert not np.array_equal(data, fmt.pack(blocks))
    assert not same_bits(ggml_type(fmt.ggml_type).to_float(data), values(fmt, blocks))


@every_format
def test_rows_keep_their_shape_and_a_cut_block_is_refused(fmt: Format) -> None:
    data = random_bytes(fmt, 12).reshape(2, 3, 2 * fmt.block_bytes)
    flat = data.reshape(-1, fmt.block_bytes)
    for decode in (dequantize, native.dequantize):
        assert decode(fmt, data).shape == (2, 3, 2 * fmt.block)
        assert same_bits(decode(fmt, data).reshape(-1, fmt.block), decode(fmt, flat))
        assert decode(fmt, data[:0]).shape == (0, 3, 2 * fmt.block)
        with pytest.raises(ValueError, match=f"a block has {fmt.block_bytes} bytes"):
            decode(fmt, data[..., :-1])


def test_ternary_bytes_hold_five_codes_and_never_a_value_that_ggml_would_not_write() -> None:
    codes = np.zeros((243, 256), np.uint8)
    digits = np.arange(243)[:, None] // 3 ** np.arange(5) % 3
    codes[:, [0, 32, 64, 96, 128]] = digits
    codes[:, [240, 244, 248, 252]] = digits[:, :4]
    data = TQ1_0.pack(Blocks(codes=codes, scale=np.ones(243, np.float16)))
    assert len(set(data[:, 0].tolist())) == 243 and len(set(data[:, 48].tolist())) == 81
    assert np.array_equal(TQ1_0.unpack(data).codes, codes)
    every_byte = np.repeat(np.arange(256, dtype=np.uint8)[:, None], TQ1_0.block_bytes, axis=1)
    settled = TQ1_0.pack(TQ1_0.unpack(every_byte))
    assert np.array_equal(TQ1_0.unpack(settled).codes, TQ1_0.unpack(every_byte).codes)


def test_the_fourth_code_of_tq2_0_is_read_as_ggml_reads_it() -> None:
    assert TQ2_0.levels == (-1, 0, 1)
    assert level_values(TQ2_0).tolist() == [-1, 0, 1, 2]
    assert level_values(Q1_0).tolist() == [-1, 1]


def test_a_minimum_is_what_is_subtracted_also_where_the_file_adds() -> None:
    blocks = replace(
        random_blocks(Q4_1, 2),
        scale=np.array([0.5, -2], np.float16),
        minimum=np.array([3, -0.25], np.float16),
    )
    wanted = np.array([[0.5], [-2]]) * blocks.codes - np.array([[3], [-0.25]])
    assert np.array_equal(values(Q4_1, blocks), wanted.astype(np.float32))
    assert np.array_equal(Q4_1.pack(blocks)[:, 2:4].copy().view(np.float16)[:, 0], [-3, 0.25])


@pytest.mark.parametrize(
    ("field", "match"),
    [("minimum", "no minimum"), ("scales", "no group scales"), ("minima", "no group minima")],
)
def test_blocks_of_another_format_are_refused(field: str, match: str) -> None:
    blocks = replace(random_blocks(Q4_K, 1), **{field: None})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=match):
        Q4_K.pack(blocks)
    with pytest.raises(ValueError, match=f"{field} is missing"):
        native.pack(Q4_K, blocks)


def test_the_kernels_refuse_arrays_that_are_no_blocks_of_the_format() -> None:
    blocks = random_blocks(Q4_0, 4)
    for wrong, match in (
        (replace(blocks, codes=blocks.codes[:, :31]), r"codes is uint8 \(4, 31\)"),
        (replace(blocks, codes=blocks.codes.astype(np.int32)), "codes is int32"),
        (replace(blocks, codes=np.repeat(blocks.codes, 2, axis=1)[:, ::2]), "must be contiguous"),
        (replace(blocks, scale=blocks.scale[:3]), r"scale is float16 \(3,\)"),
        (replace(blocks, minimum=blocks.scale), "minimum: blocks of this type have none"),
    ):
        with pytest.raises(ValueError, match=match):
            native.pack(Q4_0, wrong)
    with pytest.raises(ValueError, match="ggml type 16 are not packed"):
        block_layout(16)


def test_a_format_tells_its_size_and_what_fits() -> None:
    assert (Q4_K.bits_per_weight, Q4_K.groups, Q4_K.row_bytes(1024)) == (4.5, 8, 576)
    assert Q4_K.fits(256) and not Q4_K.fits(576) and not Q4_K.fits(0)
    assert Q4_K.uniform and not Q1_0.uniform
