"""What a model's tensors may become, foreseen from its header alone: before a byte of weights is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quant.allocation.measure import Measured, TensorChoices, bytes_of, formats_for
from quant.allocation.recipe import KEEP, Shaped, is_encoded, role_of
from quant.allocation.sensitivity import sensitivities
from quant.formats.registry import RELATIVE_ERROR

OUTPUT_ERROR: Final = {
    "attn_q": 0.55,
    "attn_k": 0.4,
    "attn_v": 1.45,
    "attn_output": 0.8,
    "ffn_gate": 0.55,
    "ffn_up": 0.95,
    "ffn_down": 0.95,
    "output": 0.3,
    "token_embd": 0.3,
}
"""Relative error of the output over that of Gaussian weights in the same format: medians over the tensors and
formats of SmolLM2-135M and Gemma-3-270M."""
OTHER_ROLES: Final = 0.8
INPUT_ERROR: Final = {32: 8e-5, 256: 4e-4}
"""By the block in which inputs are rounded: relative error of the output, medians likewise."""


def forecast(tensors: Sequence[Shaped], alignment: int) -> Measured:
    """As :func:`quant.allocation.measure.measure`, with errors that such matrices have in other models."""
    weights = sensitivities(tensors)
    found = []
    for tensor in tensors:
        if not is_encoded(tensor):
            continue
        formats = formats_for(tensor)
        factor = OUTPUT_ERROR.get(role_of(tensor.name), OTHER_ROLES)
        errors = {
            fmt.name: factor * RELATIVE_ERROR[fmt.name] + INPUT_ERROR[fmt.input_block] for fmt in formats
        }
        found.append(
            TensorChoices(
                name=tensor.name,
                sensitivity=weights[tensor.name],
                nbytes=bytes_of(tensor, formats, alignment),
                errors={KEEP: 0.0} | errors,
            )
        )
    return Measured(tensors=tuple(found))
