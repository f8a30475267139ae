"""Files with static activation scales: what the reader says of them. What it refuses is in tests/hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.gguf import open_gguf
from runtime.gguf.activations import input_block
from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_activations import NAMES, SCALES, scaled_model
from tests.hostile.gguf_packed import packed_model


def test_scales_are_read_by_tensor(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(scaled_model())
    found = open_gguf(tmp_path / "model.gguf").activations
    assert dict(found) == {NAMES[0]: tuple(SCALES[:3]), NAMES[1]: tuple(SCALES[3:])}


@pytest.mark.parametrize("make", [g.model, packed_model])
def test_a_file_without_them_has_none(tmp_path: Path, make: object) -> None:
    assert callable(make)
    (tmp_path / "model.gguf").write_bytes(make())
    assert not open_gguf(tmp_path / "model.gguf").activations


def test_blocks_of_256_weights_have_inputs_of_256_columns() -> None:
    assert {weights: input_block(weights) for weights in (32, 64, 128, 256)} == {
        32: 32,
        64: 32,
        128: 32,
        256: 256,
    }
