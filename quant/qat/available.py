"""Whether training can run here; torch itself is imported by no module that this one needs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from quant.errors import TorchMissing
from quant.qat.options import Precision

SMALL: Final = 1 << 25
"""Weights: a smaller model is trained in float32, where its divergences may be below what bf16 adds."""


def require_torch() -> None:
    """Raises :class:`TorchMissing`."""
    if find_spec("torch") is None:
        raise TorchMissing(
            "training needs torch, which is not installed; a build of it for processors alone is enough"
        )


def precision_for(weights: int) -> Precision:
    """Products in bf16 where this processor has instructions for them, and the model is not small."""
    import torch

    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if weights >= SMALL and fast() else "f32"
