"""Weights of eight bits: codes times scales, of a matrix, of rows, or of blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from quant.convert.convert import convert
from quant.convert.numbers import decode, encode
from quant.errors import CannotConvert, CheckpointDamaged
from tests.quant.checkpoint_files import (
    Stored,
    as_bytes,
    described,
    weights,
    write_checkpoint,
    write_safetensors,
)

BLOCK = (24, 40)
"""Neither divides the matrices' sizes of 64, 96 and 32."""
FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": list(BLOCK)}}
PLAIN_FP8 = {"quantization_config": {"quant_method": "fp8"}}
UP = "model.layers.1.mlp.up_proj.weight"


class TestNumbers:
    def test_e4m3_has_the_values_of_its_paper(self) -> None:
        values = decode("F8_E4M3", np.arange(256, dtype=np.uint8))
        spot = {
            0x00: 0.0,
            0x01: 2.0**-9,
            0x07: 7 * 2.0**-9,
            0x08: 2.0**-6,
            0x38: 1.0,
            0x7E: 448.0,
            0xFE: -448.0,
        }
        assert {code: float(values[code]) for code in spot} == spot
        assert np.isnan(values[[0x7F, 0xFF]]).all()
        assert np.isfinite(values).sum() == 254
        assert (np.diff(values[:0x7F]) > 0).all()
        assert (values[0x80:0xFF] == -values[:0x7F]).all()

    def test_e5m2_is_the_upper_half_of_float16(self) -> None:
        values = decode("F8_E5M2", np.arange(256, dtype=np.uint8))
        expected = (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)
        assert np.array_equal(values, expected, equal_nan=True)

    def test_bf16_is_rounded_to_nearest_and_ties_to_even_as_gguf_does(self) -> None:
        random = np.random.default_rng(1)
        values = random.integers(0, 1 << 32, 1 << 16, np.uint32).view(np.float32)
        values = np.concatenate([values, np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)])
        finite = values[np.isfinite(values)]
        theirs = gguf.quants.quantize(finite, gguf.GGMLQuantizationType.BF16)
        assert encode("BF16", finite).tobytes() == theirs.tobytes()
        assert np.isnan(decode("BF16", encode("BF16", np.array([np.nan], np.float32)))).all()

    def test_float64_is_rounded_to_float32(self) -> None:
        assert decode("F64", np.array([0.1])).tolist() == [np.float32(0.1)]


def eight_bits(
    folder: Path, scale_shape: Any, suffix: str = "_scale_inv", config: dict[str, Any] = FP8
) -> dict[str, NDArray[np.float32]]:
    """A Llama whose matrices of blocks are codes and scales; returns what they are worth."""
    reference = described()["llama2"]
    write_checkpoint(folder, reference, changed=config)
    random = np.random.default_rng(2)
    stored: dict[str, Stored] = {}
    worth = {}
    for name, values in weights("llama2", reference.tensors).items():
        if values.ndim == 1 or "layers" not in name:
            stored[name] = ("BF16", values.shape, as_bytes("BF16", values))
            continue
        codes = (
            random.integers(0, 0x7F, values.shape, np.uint8)
            | random.integers(0, 2, values.shape, np.uint8) << 7
        )
        scales = random.uniform(0.001, 0.01, scale_shape(*values.shape)).astype(np.float32)
        stored[name] = ("F8_E4M3", values.shape, codes.tobytes())
        stored[name + suffix] = ("F32", scales.shape, scales.tobytes())
        worth[name] = decode("F8_E4M3", codes) * spread(scales, values.shape)
    write_safetensors(folder / "model.safetensors", stored)
    return worth


def spread(scales: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A scale for each element, by the slow way."""
    full = np.empty(shape, np.float32)
    for row in range(shape[0]):
        for column in range(shape[1]):
            if scales.ndim == 2 and scales.shape[1] > 1:
                full[row, column] = scales[row // BLOCK[0], column // BLOCK[1]]
            else:
                full[row, column] = scales.ravel()[row if scales.size > 1 else 0]
    return full


def blocks(rows: int, columns: int) -> tuple[int, int]:
    return -(-rows // BLOCK[0]), -(-columns // BLOCK[1])


@pytest.mark.parametrize(
    ("scale_shape", "suffix", "config"),
    [
        (blocks, "_scale_inv", FP8),
        (lambda rows, _columns: (rows, 1), "_scale", PLAIN_FP8),
        (lambda _rows, _columns: (), "_scale", PLAIN_FP8),
        (lambda _rows, _columns: (1,), "_scale_inv", PLAIN_FP8),
        (
            blocks,
            "_scale",
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "float-quantized",
                    "config_groups": {"group_0": {"weights": {"block_structure": list(BLOCK)}}},
                }
            },
        ),
    ],
    ids=["blocks", "rows", "matrix", "matrix-as-vector", "compressed-tensors"],
)
def test_weights_are_codes_times_scales_and_become_bf16(
    scale_shape: Any, suffix: str, config: dict[str, Any], tmp_path: Path
) -> None:
    worth = eight_bits(tmp_path / "fp8", scale_shape, suffix, config)
    path = convert(tmp_path / "fp8", tmp_path / "made.gguf").path
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for theirs, ours in (
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("self_attn.v_proj", "attn_v"),
    ):
        expected = worth[f"model.layers.1.{theirs}.weight"]
        tensor = found[f"blk.1.{ours}.weight"]
        assert tensor.tensor_type == gguf.GGMLQuantizationType.BF16
        assert tensor.data.tobytes() == encode("BF16", expected).tobytes()


class TestRefused:
    def damaged(self, folder: Path, change: Any) -> CheckpointDamaged:
        eight_bits(folder, blocks)
        change(folder)
        with pytest.raises(CheckpointDamaged) as caught:
            convert(folder, folder.with_suffix(".gguf"))
        return caught.value

    def test_scales_of_another_shape(self, tmp_path: Path) -> None:
        eight_bits(tmp_path / "fp8", lambda rows, columns: (rows // 8, columns // 8))
        with pytest.raises(CheckpointDamaged, match="does not go with"):
            convert(tmp_path / "fp8", tmp_path / "made.gguf")

    def test_codes_without_scales(self, tmp_path: Path) -> None:
        eight_bits(tmp_path / "fp8", blocks, suffix="_other")
        with pytest.raises(CheckpointDamaged, match="no scales for it"):
            convert(tmp_path / "fp8", tmp_path / "made.gguf")

    def test_a_block_that_is_none(self, tmp_path: Path) -> None:
        for wrong in ([0, 128], [128], "128", [1.5, 2]):
            eight_bits(tmp_path / "fp8", blocks)
            config = json.loads((tmp_path / "fp8" / "config.json").read_text())
            config["quantization_config"]["weight_block_size"] = wrong
            (tmp_path / "fp8" / "config.json").write_text(json.dumps(config))
            with pytest.raises(CheckpointDamaged, match="weight_block_size"):
                convert(tmp_path / "fp8", tmp_path / "made.gguf")

    @pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "mxfp4", None])
    def test_other_quantizations_say_which_repository_to_take(
        self, method: str | None, tmp_path: Path
    ) -> None:
        changed = {"quantization_config": {"quant_method": method}}
        folder = write_checkpoint(tmp_path / "other", described()["llama2"], changed=changed)
        with pytest.raises(CannotConvert, match="take the repository that they were made of"):
            convert(folder, tmp_path / "made.gguf")

    def test_a_weight_that_float16_cannot_hold(self, tmp_path: Path) -> None:
        reference = described()["llama2"]
        folder = write_checkpoint(tmp_path / "wide", reference)
        stored: dict[str, Stored] = {}
        for name, values in weights("llama2", reference.tensors).items():
            wide = values * np.float32(1e6) if name == UP else values
            stored[name] = ("BF16", values.shape, as_bytes("BF16", wide))
        write_safetensors(folder / "model.safetensors", stored)
        with pytest.raises(CannotConvert, match=f"{UP}.* does not fit into F16; take --outtype bf16"):
            convert(folder, tmp_path / "made.gguf", outtype="f16")
        assert convert(folder, tmp_path / "made.gguf", outtype="bf16").tensors == 30
