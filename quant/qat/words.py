"""A matrix in an LT format in training: its words stay, and the scales of its rows learn.

Words are found under a Hessian that reaches across a whole row, so there is no latent weight that rounds to
them. Scales and norms take back much of what they lose all the same (QuIP#, Tseng et al. 2024, section 5,
trains the parts around its codes so).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from quant.files.source import Source, SourceTensor
from quant.formats.format import U8
from quant.formats.lt import STRIP_ROWS
from quant.qat.fake import half, parameter

Tensor: TypeAlias = Any

SCALE_BYTES: Final = 2 * STRIP_ROWS
"""At the beginning of a strip: a scale in fp16 for each of its rows."""


@dataclass(frozen=True)
class FakeWords:
    """Words of one matrix [rows, columns], whose values are those of its strips but for rounding."""

    strips: U8
    """[strips, strip bytes], as training began."""
    unscaled: Tensor
    """[rows, columns]: the weights of rows whose scale is 1, turned back to the input as the model has it."""
    scale: Tensor
    """[rows], float32."""

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """What learns, by name."""
        yield "scale", self.scale

    def unit(self, name: str) -> float:
        """What a learning rate of 1 moves the scales by: their mean size."""
        assert name == "scale"
        return float(self.scale.detach().abs().mean()) or 1.0

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def values(self) -> Tensor:
        """[rows, columns]"""
        return half(self.scale).to(torch.float32)[:, None] * self.unscaled

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def backward(self, gradient: Tensor) -> None:
        """Puts into the scales' ``grad`` what follows from ``gradient`` [rows, columns] of the values."""
        self.scale.grad = (gradient.to(torch.float32) * self.unscaled).sum(dim=1)

    def packed(self) -> U8:
        """[strips, strip bytes]; rows that fill the last strip have a scale of 0."""
        scales = np.zeros(len(self.strips) * STRIP_ROWS, "<f2")
        scales[: len(self.scale)] = half(self.scale).cpu().numpy()
        found = self.strips.copy()
        found[:, :SCALE_BYTES] = scales.view(np.uint8).reshape(len(found), SCALE_BYTES)
        return found


def fake_words(source: Source, tensor: SourceTensor) -> FakeWords:
    """Begins at the strips of ``tensor``, a packed matrix of ``source``."""
    strips = source.strips(tensor)
    scales = np.ascontiguousarray(strips[:, :SCALE_BYTES]).view("<f2").reshape(-1)[: tensor.rows]
    scale = scales.astype(np.float32)
    rows = source.rows(tensor, 0, tensor.rows)
    unscaled = rows / np.where(scale, scale, np.float32(1))[:, None]  # a row of scale 0 is 0
    return FakeWords(strips, torch.from_numpy(unscaled), parameter(scale, "cpu"))
