"""What quantizing takes in memory, before it begins.

A tensor is never in memory as a whole: of the rows that are encoded there are ``jobs`` + 1 chunks, and beside
them the second moments of one matrix's inputs with what error feedback makes of them. Calibration and
evaluation run in processes of their own, one after the other, and check their own needs.
"""

from __future__ import annotations

from typing import Final

from quant.allocation.recipe import is_encoded, layer_of
from quant.encoders.tensor import CHUNK_WEIGHTS, ROWS_TOGETHER
from quant.evaluation.memory import plan_scoring
from quant.files.source import Source
from quant.request import QuantizeRequest
from runtime.errors import DoesNotFit
from runtime.hardware import this_machine
from runtime.units import format_bytes

PROCESS_BYTES: Final = 96 << 20
"""Python, NumPy and the kernels."""
WEIGHT_BYTES: Final = 48
"""Of a weight in a chunk: float32, codes, what feedback changes, and float64 for the error's sum."""
MOMENT_COPIES: Final = 3
"""Second moments as read, their factor, and the one before it where factoring has to be tried again."""
LEAST_BLOCK: Final = 512
"""Of second moments, whatever memory calibration has for them."""


def needed_memory(source: Source, request: QuantizeRequest) -> int:
    """A bound of this process's peak, in bytes."""
    longest = max((tensor.columns for tensor in source.tensors if is_encoded(tensor)), default=0)
    chunk = max(CHUNK_WEIGHTS, longest * ROWS_TOGETHER) * WEIGHT_BYTES
    feedback = _moments(source, request) * MOMENT_COPIES if request.calibration and request.feedback else 0
    return PROCESS_BYTES + chunk * (request.jobs + 1) + feedback


def _moments(source: Source, request: QuantizeRequest) -> int:
    """A bound for the second moments of one input, float32: calibration keeps those of all layers at once."""
    layers: dict[int, set[int]] = {}
    for tensor in source.tensors:
        if is_encoded(tensor):
            layers.setdefault(tensor.columns, set()).add(layer_of(tensor.name))
    return max(
        (
            min(columns, max(request.moment_bytes // (4 * columns * len(found)), LEAST_BLOCK)) * columns * 4
            for columns, found in layers.items()
        ),
        default=0,
    )


def require_memory(source: Source, request: QuantizeRequest) -> None:
    """Raises :class:`DoesNotFit`, with both numbers, unless the bounds are within what may be used.

    Evaluation, which comes last, must fit too: the source is the larger of the two models. A source that is
    larger than the memory is read from the disk again for every chunk.
    """
    machine = this_machine(ram=request.memory_bytes)
    needed, report = needed_memory(source, request), machine.memory
    if needed > report.available:
        raise DoesNotFit(
            f"quantizing {source.header.path.name} with {request.jobs} jobs takes up to "
            f"{format_bytes(needed)} of memory; {format_bytes(report.available)} are available "
            f"(limited by {report.binding.name}); "
            "take fewer --jobs, or close other programs",
            needed_bytes=needed,
            available_bytes=report.available,
        )
    if request.evaluation and request.judge:
        judging = plan_scoring(source.model, request.context_tokens, request.jobs, machine).least_bytes
        if judging > report.available:
            raise DoesNotFit(
                f"judging {source.header.path.name} takes {format_bytes(judging)} of memory; "
                f"{format_bytes(report.available)} are available (limited by {report.binding.name}); "
                "close other programs, or quantize with --eval none and judge on another machine",
                needed_bytes=judging,
                available_bytes=report.available,
            )
