"""What a tensor's error adds to the divergence of the whole model, before anything is measured with it.

The divergence is taken as a sum over tensors of sensitivity times relative error of the output, which holds
to first order in the errors (Malinovskii et al. 2025, see ``quant.allocation.solve``). Sensitivities differ
by what a matrix does, and shrink slowly with the size of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from quant.allocation.recipe import Shaped, is_encoded, layer_of, role_of

ROLES: Final = {"attn_k": 1.25, "attn_v": 1.25, "ffn_gate": 2.0, "ffn_up": 2.0, "ffn_down": 3.0}
"""Where a query's projection counts 1. Measured by encoding one role at a time in 2 to 3 bits, in the
tiny Llama (6 layers) and SmolLM2-135M (30)."""
OUTPUT: Final = 20.0
"""The same for the output matrix, for each layer of the model: its error is not averaged over layers."""
LOOKED_UP: Final = 4.0
"""The same for embeddings that are looked up only."""
MEASURED_NATS: Final = 0.055
MEASURED_WEIGHTS: Final = 200e6
"""Divergence that a relative error of 1 in a query's projection would add: between what random plans gave for
SmolLM2-135M (0.045) and Gemma-3-270M (0.071), see ``docs/allocation.md``. Errors are those of rounding to
nearest; that error feedback lowers them is in this number."""
SHRINKING: Final = -0.15
"""Power of the number of weights that it follows: so that Llama-3-8B in Q4_0 gives about the divergence that
llama.cpp's documentation has for it."""
LARGEST_NATS: Final = 0.07
"""Smaller models do not differ more than this."""


def sensitivities(tensors: Sequence[Shaped]) -> dict[str, float]:
    """Nats for a relative error of 1, of every tensor of a model that would be encoded."""
    encoded = [tensor for tensor in tensors if is_encoded(tensor)]
    layers = 1 + max((layer_of(tensor.name) for tensor in tensors), default=0)
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    weights = sum(prod(tensor.shape) for tensor in encoded)
    nats = min(LARGEST_NATS, MEASURED_NATS * (max(weights, 1) / MEASURED_WEIGHTS) ** SHRINKING)
    return {tensor.name: nats * relative(tensor.name, layers, tied) for tensor in encoded}


def relative(name: str, layers: int, tied: bool) -> float:
    """How much the tensor ``name`` counts where a query's projection counts 1."""
    role = role_of(name)
    if role == "output" or (role == "token_embd" and tied):
        return OUTPUT * layers
    if role in ("token_embd", "per_layer_token_embd"):
        return LOOKED_UP * layers
    return ROLES.get(role, 1.0)
