"""What training takes in memory and on the disk, before it begins."""

from __future__ import annotations

from typing import Final

from quant.files.source import Source, SourceTensor
from quant.formats.registry import BY_GGML_TYPE
from quant.qat.options import TrainOptions
from quant.qat.shape import Shape
from quant.qat.student import is_trained
from runtime.errors import DoesNotFit
from runtime.hardware import this_machine
from runtime.units import format_bytes

PROCESS_BYTES: Final = 1200 << 20
"""Python with torch, and several copies of a piece of logits."""
OPTIMIZED: Final = 16
"""Bytes of a weight whose code learns: itself, its gradient, and Adam's two moments."""
FIXED: Final = 4
"""Bytes of a weight whose code stays."""
MICRO_TOKENS: Final = 2048
KEPT: Final = 24
"""Values of a token's width that a layer keeps for its gradients."""
BESIDE: Final = 4 << 20
"""Bytes on the disk of the journal and of certificates, and what files are larger than what is in them."""


def needed_memory(source: Source, shape: Shape, options: TrainOptions) -> int:
    """A bound of this process's peak, in bytes."""
    size = 2 if options.precision == "bf16" else 4
    layers = sum(t.elements for t in source.tensors if t.name.startswith("blk.") and len(t.shape) > 1)
    outer = sum(t.elements for t in source.tensors if not t.name.startswith("blk."))
    largest = max((t.elements for t in source.tensors if t.name.startswith("blk.")), default=0)
    trained = layers // shape.layers if options.mode == "blocks" else layers
    deep = 1 if options.mode == "blocks" else shape.layers
    of_weight = (FIXED if options.mode == "scales" else OPTIMIZED) + 2 * size
    if options.average:
        of_weight += 2 * FIXED
    activations = MICRO_TOKENS * shape.width * KEPT * size * deep
    training = trained * of_weight + 2 * outer * size + 8 * 4 * largest + activations
    reading = (layers + outer) * size
    return PROCESS_BYTES + max(training, reading)


def needed_disk(shape: Shape, quantized: Source, options: TrainOptions, chunks: int, context: int) -> int:
    """Bytes of streams, checkpoints, what was trained and the file to write, at their most."""
    stream = 4 * chunks * context * shape.width
    state = 4 * learned_values(quantized, codes=options.mode != "scales")
    written = quantized.model.size_bytes + sum(each.nbytes for each in quantized.tensors if _learns(each))
    if options.mode == "blocks":  # all finished layers stay until the file is written
        return BESIDE + 4 * stream + state + written
    whole = 4 if options.average else 3
    # a checkpoint is whole before the one that it replaces goes
    return BESIDE + stream + max((1 + 2 * whole) * state, (1 + whole) * state + written)


def learned_values(quantized: Source, *, codes: bool) -> int:
    """How many values learn; with ``codes`` the latent weights too."""
    count = 0
    for tensor in quantized.tensors:
        if not _learns(tensor):
            continue
        if len(tensor.shape) == 1:
            count += tensor.elements
        elif tensor.packed is not None:
            count += tensor.rows
        else:
            fmt = BY_GGML_TYPE[tensor.type.id]
            of_groups = (fmt.scale_range is not None) + (fmt.minima_high is not None)
            of_block = 1 + fmt.affine + fmt.groups * of_groups + (fmt.block if codes else 0)
            count += tensor.elements // fmt.block * of_block
    return count


def _learns(tensor: SourceTensor) -> bool:
    return tensor.type.name == "F32" if len(tensor.shape) == 1 else is_trained(tensor)


def require_memory(source: Source, shape: Shape, options: TrainOptions, memory_bytes: int | None) -> None:
    """Raises :class:`DoesNotFit` with both numbers."""
    report = this_machine(ram=memory_bytes).memory
    needed = needed_memory(source, shape, options)
    if needed <= report.available:
        return
    advice = {"full": "take --mode blocks, which has one layer in memory", "scales": "take --mode blocks"}
    raise DoesNotFit(
        f"training {source.header.path.name} in the mode {options.mode} takes up to "
        f"{format_bytes(needed)} of memory; {format_bytes(report.available)} are available (limited by "
        f"{report.binding.name}); close other programs, or "
        f"{advice.get(options.mode, 'train it on another machine')}",
        needed_bytes=needed,
        available_bytes=report.available,
    )
