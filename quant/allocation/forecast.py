"""What a model's tensors may become, foreseen from its header alone: before a byte of weights is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quant.allocation.measure import Measured, choices_of, formats_for
from quant.allocation.recipe import Shaped, is_encoded, packs, role_of
from quant.allocation.sensitivity import sensitivities
from quant.allocation.words import word_formats_for
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
WORDS_ERROR: Final = 0.85
"""The same for LT formats, over that of ggml's: 0.7 to 0.95 by role in these models and Gemma-3-270M."""
WORDS_INPUT_ERROR: Final = 1e-4
SHARED: Final = {"attn_k": "attn_q", "attn_v": "attn_q", "ffn_up": "ffn_gate"}
"""Roles whose matrices have the input of another's in nearly all architectures."""


def guess_inputs(tensors: Sequence[Shaped]) -> dict[str, str]:
    """Names of matrices that LT formats hold -> those of their inputs, as such models mostly have them."""
    names = {tensor.name for tensor in tensors}
    found = {}
    for tensor in tensors:
        if is_encoded(tensor) and packs(tensor):
            role = role_of(tensor.name)
            other = tensor.name.replace(role, SHARED.get(role, role), 1)
            found[tensor.name] = other if other in names else tensor.name
    return found


def forecast(tensors: Sequence[Shaped], alignment: int, *, words: bool = True) -> Measured:
    """As :func:`quant.allocation.measure.measure`, with errors that such matrices have in other models;
    LT formats are options with ``words``."""
    weights = sensitivities(tensors)
    inputs = guess_inputs(tensors) if words else {}
    found = []
    for tensor in tensors:
        if not is_encoded(tensor):
            continue
        formats = formats_for(tensor)
        factor = OUTPUT_ERROR.get(role_of(tensor.name), OTHER_ROLES)
        errors = {
            fmt.name: factor * RELATIVE_ERROR[fmt.name] + INPUT_ERROR[fmt.input_block] for fmt in formats
        }
        if input_ := inputs.get(tensor.name, ""):
            errors |= {
                fmt.name: factor * WORDS_ERROR * RELATIVE_ERROR[fmt.name] + WORDS_INPUT_ERROR
                for fmt in word_formats_for(tensor)
            }
        found.append(choices_of(tensor, weights[tensor.name], errors, input_, alignment))
    return Measured(tensors=tuple(found))
