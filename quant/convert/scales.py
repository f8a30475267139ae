"""Weights of eight bits with scales beside them: one for a matrix, a row, or a block of rows and columns.

The block form is that of DeepSeek-V3's release (arXiv:2412.19437, 3.3): a weight is its code times the scale
of its 128 x 128 block, called ``weight_scale_inv``. Others write ``weight_scale`` and mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.convert.config import Config
from quant.convert.safetensors import StoredTensor
from quant.errors import CannotConvert, CheckpointDamaged

EIGHT_BITS: Final = ("F8_E4M3", "F8_E5M2")
SUFFIXES: Final = ("_scale_inv", "_scale")
_UNUSED: Final = (".input_scale", ".activation_scale", ".k_scale", ".v_scale")
"""Scales of activations, which llama.cpp does not round."""


@dataclass(frozen=True)
class Scaling:
    """Where the scales of the checkpoint's tensors are."""

    scales: Mapping[str, StoredTensor]
    """By the name of the tensor that they belong to."""
    names: frozenset[str]
    """Of all tensors that are scales."""
    block: tuple[int, int] | None = None
    """Rows and columns that share a scale."""

    def is_scale(self, name: str) -> bool:
        return name in self.names

    def of_rows(
        self, tensor: StoredTensor, values: NDArray[np.float32], start: int, stop: int
    ) -> NDArray[np.float32]:
        """What to multiply rows ``start`` to ``stop`` of ``tensor`` with; ``values`` are all of its
        scales."""
        if values.size == 1:
            return values.reshape(1, 1)
        if values.size == tensor.shape[0]:
            return values.reshape(-1, 1)[start:stop]
        rows, columns = self.block or (1, 1)
        blocks = values.reshape(self.scales[tensor.name].shape)[np.arange(start, stop) // rows]
        return np.repeat(blocks, columns, axis=1)[:, : tensor.columns]


def read_scaling(config: Config, tensors: Mapping[str, StoredTensor]) -> Scaling:
    """The scales of the tensors of eight bits, checked against their shapes.

    Raises :class:`CannotConvert` for a quantization that is not of this kind, :class:`CheckpointDamaged`
    where scales are missing or do not go with their tensors.
    """
    block = _block(config)
    scales: dict[str, StoredTensor] = {}
    for tensor in tensors.values():
        if tensor.dtype not in EIGHT_BITS:
            continue
        scale = next((tensors[tensor.name + end] for end in SUFFIXES if tensor.name + end in tensors), None)
        if scale is None:
            raise CheckpointDamaged(
                tensor.path, "tensor-missing", f"has {tensor.name} in 8 bits, and no scales for it"
            )
        if not _fits(tensor, scale, block):
            raise CheckpointDamaged(
                scale.path,
                "bad-shape",
                f"has {scale.name} in the shape {list(scale.shape)}, which does not go with "
                f"{list(tensor.shape)} in blocks of {block}",
            )
        scales[tensor.name] = scale
    unused = {name for name in tensors if name.endswith(_UNUSED)}
    return Scaling(scales, frozenset({scale.name for scale in scales.values()} | unused), block)


def _block(config: Config) -> tuple[int, int] | None:
    """The size of a block; None where scales are for rows or matrices."""
    quantization = config.mapping("quantization_config")
    method, form = quantization.get("quant_method"), quantization.get("format")
    if not quantization:
        return None
    if method == "fp8":
        found = quantization.get("weight_block_size")
    elif method == "compressed-tensors" and form == "float-quantized":
        groups = quantization.get("config_groups")
        first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
        weights = first.get("weights") if isinstance(first, dict) else None
        found = weights.get("block_structure") if isinstance(weights, dict) else None
    else:
        raise CannotConvert(
            config.folder,
            f"its weights are quantized already, by {str(method)[:40]!r}, which localq does not read; "
            "take the repository that they were made of",
        )
    if found is None:
        return None
    if (
        not isinstance(found, list)
        or len(found) != 2
        or not all(type(n) is int and 0 < n < 65536 for n in found)
    ):
        raise config.refuse("weight_block_size", "is not a pair of numbers")
    return found[0], found[1]


def _fits(tensor: StoredTensor, scale: StoredTensor, block: tuple[int, int] | None) -> bool:
    """Whether there is one scale, or one a row, or one a block, the last of which may be cut off."""
    if scale.dtype not in ("F32", "F16", "BF16") or len(tensor.shape) != 2:
        return False
    rows, columns = tensor.shape
    shapes: list[tuple[int, ...]] = [(), (1,), (rows,), (rows, 1)]
    if block is not None:
        shapes.append((-(-rows // block[0]), -(-columns // block[1])))
    return scale.shape in shapes
