"""What one decode step reads of a model's weights, from its header alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from runtime.budget.weights import layer_of
from runtime.gguf import GgufHeader

_LOOKED_UP: Final = re.compile(r"^(token_embd|per_layer_token_embd|position_embd|token_types)\.")
_EXPERT: Final = re.compile(r"_exps\.")


def read_shares(headers: Sequence[GgufHeader]) -> dict[str, float]:
    """How much of each tensor one decode step reads, 0 to 1.

    A table of embeddings gives one row, so it counts nothing, unless it is the output matrix too; of experts
    the share counts that a token uses; draft heads are not loaded.
    """
    first = headers[0]
    tensors = [tensor for header in headers for tensor in header.all_tensors]
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    experts = first.hyper_int("expert_count") or 0
    used = (first.hyper_int("expert_used_count") or 0) / experts if experts else 1.0
    layers = (first.hyper_int("block_count") or 0) - (first.hyper_int("nextn_predict_layers") or 0)
    shares = {}
    for tensor in tensors:
        layer = layer_of(tensor)
        drafts = layer is not None and layer >= layers
        looked_up = _LOOKED_UP.match(tensor.name) and not (tied and tensor.name == "token_embd.weight")
        shares[tensor.name] = 0.0 if drafts or looked_up else used if _EXPERT.search(tensor.name) else 1.0
    return shares
