"""KL divergence from the original's predictions to the student's, and its gradient, in bounded memory."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import torch
from torch.nn import functional

Tensor: TypeAlias = Any

PIECE_VALUES: Final = 1 << 24
"""Logits at once: 64 MiB of float32."""


def divergence(
    hidden: Tensor, head: Tensor, original_hidden: Tensor, original_head: Tensor, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """KL(original || student) in nats at each position, and the gradient of its mean in ``hidden``.

    ``hidden`` and ``original_hidden`` float32 [positions, width]; heads [vocabulary, width], which do not
    learn. -> [positions], [positions, width].
    """
    count = len(hidden)
    piece = max(1, PIECE_VALUES // len(head))
    nats = torch.empty(count, dtype=torch.float32, device=hidden.device)
    towards = torch.empty_like(hidden) if gradient else None
    with torch.no_grad():
        for start in range(0, count, piece):
            part = slice(start, start + piece)
            mine = _log_probabilities(hidden[part], head)
            theirs = _log_probabilities(original_hidden[part], original_head)
            likely = theirs.exp()
            nats[part] = (likely * theirs.sub_(mine)).sum(dim=-1)
            if towards is not None:
                moved = mine.exp_().sub_(likely).div_(count)
                towards[part] = (moved.to(head.dtype) @ head).float()
    return nats, towards


def _log_probabilities(hidden: Tensor, head: Tensor) -> Tensor:
    logits = functional.linear(hidden.to(head.dtype), head).float()
    return functional.log_softmax(logits, dim=-1)
