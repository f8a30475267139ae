"""The list of formats, and what stands in for one that does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from quant.formats.dequantize import dequantize
from quant.formats.format import Format
from quant.formats.quantize import quantize
from quant.formats.registry import (
    ANY_BY_NAME,
    BY_GGML_TYPE,
    BY_NAME,
    FORMATS,
    RELATIVE_ERROR,
    WORSE_AT_MOST,
    best_fit,
)
from runtime.gguf.ggml_types import GGML_TYPES

every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)


def test_formats_are_ordered_by_bits_then_by_falling_error() -> None:
    order = [(fmt.bits_per_weight, -RELATIVE_ERROR[fmt.name]) for fmt in FORMATS]
    assert order == sorted(order)
    assert len(FORMATS) == len(BY_NAME) == len(BY_GGML_TYPE) == 16
    assert set(RELATIVE_ERROR) == set(ANY_BY_NAME)


@every_format
def test_a_format_is_found_by_name_and_by_the_number_that_files_have(fmt: Format) -> None:
    assert BY_NAME[fmt.name] is BY_GGML_TYPE[fmt.ggml_type] is fmt
    kind = GGML_TYPES[fmt.ggml_type]
    assert (kind.name.lower(), kind.block_size, kind.block_bytes) == (fmt.name, fmt.block, fmt.block_bytes)


@every_format
def test_the_errors_that_decide_are_those_that_the_quantizer_reaches(fmt: Format) -> None:
    weights = np.random.default_rng(7).standard_normal((64, 2048)).astype(np.float32)
    difference = dequantize(fmt, quantize(fmt, weights)) - weights
    error = float((difference**2).sum() / (weights**2).sum())
    assert error == pytest.approx(RELATIVE_ERROR[fmt.name], rel=0.02)


@pytest.mark.parametrize(
    ("name", "columns", "stands_in"),
    [
        ("q4_k", 576, "iq4_nl"),
        ("iq4_xs", 640, "iq4_nl"),
        ("q5_k", 576, "q5_0"),
        ("q6_k", 576, "q8_0"),
        ("q3_k", 576, "iq4_nl"),
        ("q2_k", 576, "q2_0"),
        ("q2_k", 96, "iq4_nl"),
        ("tq1_0", 640, "q2_0"),
        ("tq2_0", 128, "q2_0"),
        ("tq2_0", 32, "iq4_nl"),
        ("q1_0", 192, "q2_0"),
        ("q2_0", 96, "iq4_nl"),
        ("q4_k", 100, None),
        ("q8_0", 1, None),
    ],
)
def test_what_stands_in_where_rows_do_not_fit(name: str, columns: int, stands_in: str | None) -> None:
    found = best_fit(BY_NAME[name], columns)
    assert (found.name if found else None) == stands_in


@every_format
def test_what_stands_in_fits_is_no_worse_than_said_and_nothing_smaller_would_do(fmt: Format) -> None:
    for columns in range(1, 1025):
        found = best_fit(fmt, columns)
        if fmt.fits(columns):
            assert found is fmt
            continue
        most = WORSE_AT_MOST * RELATIVE_ERROR[fmt.name]
        good = [other for other in FORMATS if other.fits(columns) and RELATIVE_ERROR[other.name] <= most]
        assert (found is None) == (columns % 32 != 0) == (not good)
        if found is not None:
            assert found in good and not any(
                other.block_bytes * found.block < found.block_bytes * other.block for other in good
            )


def test_the_documented_table_is_the_registry() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    found = [row for row in rows if row[0] in BY_NAME and len(row) == 8]
    assert [row[0] for row in found] == [fmt.name for fmt in FORMATS]
    for fmt, row in zip(FORMATS, found, strict=True):
        assert row[1:4] == [f"{fmt.bits_per_weight:g}", f"{fmt.block} in {fmt.block_bytes}", str(fmt.group)]
        ends = [int(number) for number in re.findall(r"-?\d+", row[4])]
        assert {fmt.levels[0], fmt.levels[-1]} <= set(ends)
        assert row[5] == ("scale, minimum" if fmt.affine else "scale")
        scales = f"scale {fmt.scale_range[0]} to {fmt.scale_range[1]}" if fmt.scale_range else ""
        assert row[6] == scales + (f", minimum 0 to {fmt.minima_high}" if fmt.minima_high else "")
        assert float(row[7]) == pytest.approx(RELATIVE_ERROR[fmt.name], rel=0.005)
    for asked, stands_in in (("q6_k", "q8_0"), ("q3_k", "iq4_nl"), ("q5_k", "q5_0"), ("q2_0", "iq4_nl")):
        assert [asked, stands_in] in [row[:2] for row in rows]
