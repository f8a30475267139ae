"""Files with a packed section: what the reader says of them, and what it checks of their contents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.budget.reading import read_shares
from runtime.budget.weights import best_mmap, weight_size
from runtime.errors import GgufError
from runtime.gguf import open_gguf, open_model, summarize
from runtime.gguf.packed import MOST_COLUMNS, PackedSection
from runtime.gguf.packed_data import read_packed_data
from runtime.gguf.skeleton import split_keys, write_skeleton
from tests.hostile.gguf_packed import (
    COLUMNS,
    FIRST_AT,
    MATRIX_BYTES,
    ROWS,
    SECTION_BYTES,
    packed_model,
)

NAMES = ["blk.0.attn_q.weight", "blk.0.attn_k.weight"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(packed_model(order=[*range(1, COLUMNS), 0], table=list(range(-8, 8))))
    return path


def section_of(path: Path) -> PackedSection:
    found = open_gguf(path).packed
    assert found is not None
    return found


def test_the_directory_is_read(path: Path) -> None:
    section = section_of(path)
    assert section.offset % 4096 == 0
    assert (section.offset + section.nbytes, section.nbytes) == (path.stat().st_size, SECTION_BYTES)
    assert [tensor.name for tensor in section.tensors] == NAMES
    first = section.tensors[0]
    assert (first.shape, first.bits, first.states, first.experts) == ((COLUMNS, ROWS), 2, 4, 1)
    assert (first.offset, first.nbytes, first.elements) == (FIRST_AT, MATRIX_BYTES, COLUMNS * ROWS)
    assert first.input.block == 64
    assert section.formats == ("lt2",)


def test_inputs_and_tables_are_read_and_copied(path: Path) -> None:
    header, section = open_gguf(path), section_of(path)
    data = read_packed_data(header, section)
    signs, order = data.inputs[section.inputs[0]]
    assert not signs.any()
    assert order.tolist() == [*range(1, COLUMNS), 0]
    assert data.tables[section.tables[0]].tolist() == list(range(-8, 8))


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ({"order": [0] * COLUMNS}, "does not name each of 64 columns once"),
        ({"order": [*range(COLUMNS - 1), COLUMNS]}, "does not name each of 64 columns once"),
        ({"order": [*range(COLUMNS - 1), MOST_COLUMNS - 1]}, "does not name each of 64 columns once"),
        ({"table": [65] + [0] * 15}, "has a value beyond 64"),
        ({"table": [0] * 15 + [-128]}, "has a value beyond 64"),
    ],
)
def test_an_order_that_is_none_and_a_value_out_of_its_range_are_refused(
    tmp_path: Path, contents: dict[str, list[int]], reason: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(packed_model(order=contents.get("order"), table=contents.get("table")))
    with pytest.raises(GgufError, match=reason) as caught:
        read_packed_data(open_gguf(path), section_of(path))
    assert caught.value.rule == "bad-packed"


def test_a_file_that_was_changed_is_not_read(path: Path) -> None:
    header, section = open_gguf(path), section_of(path)
    path.write_bytes(packed_model(order=[0] * COLUMNS))
    with pytest.raises(GgufError, match="was changed after it was opened"):
        read_packed_data(header, section)


def test_the_summary_counts_packed_matrices(path: Path) -> None:
    model = open_model(path)
    found = summarize(model)
    assert found.tensor_types["LT2"] == 2
    assert found.parameters == sum(tensor.elements for tensor in model.tensors) + 2 * ROWS * COLUMNS
    assert found.file_type == "F32"  # the commonest, whatever the source's mixture was


def test_a_skeleton_declares_the_matrices_and_takes_no_room(path: Path, tmp_path: Path) -> None:
    header, section = open_gguf(path), section_of(path)
    write_skeleton(header, section, tmp_path / "packed.gguf")
    part = open_gguf(tmp_path / "packed.gguf")
    assert [(tensor.name, tensor.shape) for tensor in part.tensors] == [
        (tensor.name, tensor.shape) for tensor in section.tensors
    ]
    keys = split_keys(header, section)
    assert part.metadata["split.no"] == 1
    assert part.metadata["split.count"] == keys["split.count"] == 2
    assert part.metadata["split.tensors.count"] == keys["split.tensors.count"] == len(header.all_tensors)
    assert (tmp_path / "packed.gguf").stat().st_blocks * 512 <= 8192


class TestBudget:
    def test_the_section_is_mapped_and_the_rest_read(self, path: Path) -> None:
        header = open_gguf(path)
        found = weight_size([header], 1, frozenset(), mapped=True)
        assert found.mapped == SECTION_BYTES
        beside = 64 + 2 * COLUMNS + 16
        assert found.loaded == sum(tensor.nbytes for tensor in header.tensors) + beside
        assert best_mmap(header, frozenset())

    def test_without_mapping_all_is_the_worker_s_own(self, path: Path) -> None:
        header = open_gguf(path)
        mapped, read = (weight_size([header], 1, frozenset(), mapped=mapped) for mapped in (True, False))
        assert (read.mapped, read.bytes) == (0, mapped.bytes)

    def test_layers_have_their_packed_matrices(self, path: Path) -> None:
        found = weight_size([open_gguf(path)], 1, frozenset(), mapped=True)
        plain = sum(tensor.nbytes for tensor in open_gguf(path).tensors if tensor.name.startswith("blk.0."))
        assert found.layers == (plain + 2 * MATRIX_BYTES,)

    def test_a_step_reads_them(self, path: Path) -> None:
        shares = read_shares([open_gguf(path)])
        assert [shares[name] for name in NAMES] == [1.0, 1.0]


def test_an_order_of_a_column_each_is_what_numpy_sorts(path: Path) -> None:
    """The check's own check: all permutations pass."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        path.write_bytes(packed_model(order=rng.permutation(COLUMNS).tolist()))
        read_packed_data(open_gguf(path), section_of(path))
