"""What quantizing takes in memory, before it begins.

A tensor is never in memory as a whole: of the rows that are encoded there are ``jobs`` + 1 chunks, and beside
them the second moments of one matrix's inputs with what error feedback makes of them. Calibration and
evaluation run in processes of their own, one after the other. What a run needs on the disk is known before it
too, or nearly.
"""

from __future__ import annotations

from typing import Final

from quant.allocation.plan import Plan, entries
from quant.allocation.recipe import assign, is_encoded, layer_of, uses_words
from quant.calibration.memory import observing_bytes
from quant.encoders.tensor import CHUNK_WEIGHTS, ROWS_TOGETHER
from quant.errors import CannotEncode
from quant.evaluation.memory import plan_scoring
from quant.files.source import Source
from quant.request import QuantizeRequest
from runtime.errors import DoesNotFit
from runtime.ggml import packed_types
from runtime.hardware import this_machine
from runtime.units import format_bytes

PROCESS_BYTES: Final = 96 << 20
"""Python, NumPy and the kernels."""
WEIGHT_BYTES: Final = 48
"""Of a weight in a chunk: float32, codes, what feedback changes, and float64 for the error's sum."""
MOMENT_COPIES: Final = 3
"""Second moments as read, their factor, and the one before it where factoring has to be tried again."""
WORD_COPIES: Final = 6
"""For words: as read, rotated, in the order of the columns, their factor, and what these are made of."""
LEAST_BLOCK: Final = 512
"""Of second moments, whatever memory calibration has for them."""


def needed_memory(source: Source, request: QuantizeRequest) -> int:
    """A bound of this process's peak, in bytes."""
    longest = max((tensor.columns for tensor in source.tensors if is_encoded(tensor)), default=0)
    chunk = max(CHUNK_WEIGHTS, longest * ROWS_TOGETHER) * WEIGHT_BYTES
    copies = WORD_COPIES if request.words else MOMENT_COPIES
    if request.words and request.target.mixture is None:  # measured beside what is fed back in ggml's formats
        copies += MOMENT_COPIES
    feedback = _moments(source, request) * copies if request.calibration and request.feedback else 0
    imatrix = 2 * request.imatrix.nbytes if request.imatrix else 0
    return PROCESS_BYTES + chunk * (request.jobs + 1) + feedback + imatrix


def sum_bytes(source: Source, request: QuantizeRequest) -> int:
    """A bound of calibration's sums of one pass, as if no matrices shared an input."""
    whole = 0
    experts = request.calibrates_experts
    for tensor in source.tensors:
        if is_encoded(tensor):
            pairs = tensor.columns if tensor.experts == 1 or experts else 0
            whole += tensor.experts * tensor.columns * (8 + 4 * pairs)
    return min(whole, request.moment_bytes)


def written_bytes(source: Source, request: QuantizeRequest) -> int:
    """About what the file will take; exactly that of its tensors where formats are asked for by name."""
    target = request.target
    if target.size_bytes is not None:
        return target.size_bytes
    if target.bits_per_weight is not None:
        return int(target.bits_per_weight / 8 * sum(tensor.elements for tensor in source.tensors))
    if target.fit is not None:  # no more than the memory that it shall run in, nor than the source
        return min(source.model.size_bytes, this_machine(ram=target.fit.memory_bytes).memory.available)
    plan = Plan(assign(source.tensors, target.mixture or "", request.overrides))
    return sum(entry.nbytes for entry in entries(source.tensors, plan))


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


def require_words(source: Source, request: QuantizeRequest) -> None:
    """Raises :class:`CannotEncode` where an LT format is asked for that nothing can be encoded in, or where
    calibration would have to run one."""
    if source.model.packed is not None and request.calibration:
        raise CannotEncode(
            f"{source.header.path.name} holds matrices in LT formats, which calibration does not run; take "
            "--calib none, or export it to F16 first: localq export MODEL --to gguf:f16"
        )
    target = request.target
    if not uses_words(target.mixture, request.overrides):
        return
    if not (request.calibration and request.feedback):
        raise CannotEncode(
            "LT formats need what calibration texts tell of the inputs; give --calib builtin, or a file"
        )


def require_static(request: QuantizeRequest) -> None:
    """Raises :class:`CannotEncode` for static activation scales that nothing fixes, or that nothing here
    would judge the file with."""
    if request.activations == "dynamic":
        return
    if not request.calibration:
        raise CannotEncode(
            "static activation scales are fixed by calibration texts; give --calib builtin, or a file"
        )
    if not packed_types():
        raise CannotEncode(
            "static activation scales are for localq's kernels, which do not run here (`localq doctor` says "
            "why); take --activations dynamic"
        )


def require_memory(source: Source, request: QuantizeRequest) -> None:
    """Raises :class:`DoesNotFit`, with both numbers, unless the bounds are within what may be used.

    Evaluation, which comes last, must fit too: the source is the larger of the two models. A source that is
    larger than the memory is read from the disk again for every chunk.
    """
    machine = this_machine(ram=request.memory_bytes)
    name, report = source.header.path.name, machine.memory

    def require(what: str, needed: int, advice: str) -> None:
        if needed > report.available:
            raise DoesNotFit(
                f"{what} takes up to {format_bytes(needed)} of memory; {format_bytes(report.available)} are "
                f"available (limited by {report.binding.name}); close other programs, or {advice}",
                needed_bytes=needed,
                available_bytes=report.available,
            )

    encoding = f"quantizing {name} with {request.jobs} jobs"
    require(encoding, needed_memory(source, request), "take fewer --jobs")
    if request.calibration:
        observing = observing_bytes(
            source.model,
            chunk_tokens=request.context_tokens,
            threads=request.jobs,
            sum_bytes=sum_bytes(source, request),
            machine=machine,
        )
        advice = "give a smaller --mem, for smaller sums, or an --imatrix in the place of texts"
        require(f"calibrating {name}", observing, advice)
    if request.evaluation and request.judge:
        judging = plan_scoring(source.model, request.context_tokens, request.jobs, machine).least_bytes
        require(f"judging {name}", judging, "quantize with --eval none and judge on another machine")
