"""All tensors of a model, one by one, each noted in the journal when its bytes lie in the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from quant.allocation.plan import Plan
from quant.calibration.statistics import InputStatistics
from quant.certificate.certify import facts_of
from quant.certificate.document import Certificate
from quant.encoders.rows import MakeEncoder
from quant.encoders.tensor import BlockCoder, Coder, copy_tensor, encode_tensor
from quant.encoders.words import WordCoders
from quant.errors import CannotEncode
from quant.files.layout import PlacedTensor
from quant.files.packed_layout import PackedEntry
from quant.files.source import Source, SourceTensor
from quant.files.work import FinishedTensor, Work
from quant.files.writer import PartFile
from quant.formats.lt import LtFormat
from quant.formats.registry import AnyFormat
from quant.progress import OnEvent, PhaseEvent, TensorEvent, WarningEvent

LOST = 0.9
"""Of a matrix's output: with such an error it may as well not be there."""


def encode_all(
    source: Source,
    plan: Plan,
    certificate: Certificate,
    work: Work,
    part: PartFile,
    *,
    statistics: Callable[[str], InputStatistics | None],
    make_encoder: MakeEncoder,
    words: WordCoders,
    jobs: int,
    on_event: OnEvent,
) -> tuple[dict[str, FinishedTensor], int]:
    """Fills ``part``. All tensors, those of an earlier run included, and how many of these there were.

    Raises what :func:`quant.encoders.tensor.encode_tensor` raises; what is finished by then stands in the
    journal.
    """
    read = 0

    def check(count: int) -> None:
        nonlocal read
        read += count
        on_event(PhaseEvent("resume", read, max(read, part.layout.size)))

    finished = work.finished(part, check)
    resumed = len(finished)
    tensors, count = source.tensors, len(source.tensors)
    facts = {tensor.name: tensor for tensor in certificate.tensors}
    number = 0
    for tensor in tensors:
        if line := finished.get(tensor.name):
            number += 1
            on_event(TensorEvent(facts_of(facts[tensor.name], line), number, count, True, None))
    pace = Pace(sum(tensor.elements for tensor in tensors if tensor.name not in finished))

    def advance(weights: int) -> None:
        pace.add(weights)
        on_event(PhaseEvent("encode", pace.done, pace.total))

    places = {placed.entry.name: placed for placed in part.layout.tensors}
    with ThreadPoolExecutor(jobs, "localq-encode") as pool:
        for tensor in tensors:
            if tensor.name in finished:
                continue
            placed = places[tensor.name]
            fmt = plan.formats.get(tensor.name)
            if fmt is None:
                line = copy_tensor(source, tensor, part, placed, advance)
            else:
                found = statistics(tensor.name)
                coder_of, beside = _coders(tensor, fmt, found, placed, make_encoder, words)
                line = encode_tensor(
                    source,
                    tensor,
                    fmt,
                    found,
                    part,
                    placed,
                    coder_of=coder_of,
                    beside=beside,
                    pool=pool,
                    jobs=jobs,
                    on_weights=advance,
                )
            work.append(line)
            finished[tensor.name] = line
            number += 1
            on_event(TensorEvent(facts_of(facts[tensor.name], line), number, count, False, pace.eta()))
    for line in finished.values():
        if line.error is not None and line.error >= LOST:
            on_event(
                WarningEvent(
                    f"{line.name} loses {line.error:.0%} of what it gives in {facts[line.name].type}: its "
                    f"weights may be too small for it; keep it with --tensor {line.name}=keep"
                )
            )
    return finished, resumed


def _coders(
    tensor: SourceTensor,
    fmt: AnyFormat,
    statistics: InputStatistics | None,
    placed: PlacedTensor,
    make_encoder: MakeEncoder,
    words: WordCoders,
) -> tuple[Callable[[int], Coder], Sequence[bytes]]:
    """The coder by expert, and what lies beside the tensor. Raises :class:`CannotEncode`."""
    if not isinstance(fmt, LtFormat):
        return lambda expert: BlockCoder(fmt, make_encoder(fmt, statistics, expert, tensor.columns)), ()
    entry = placed.entry
    if statistics is None or not isinstance(entry, PackedEntry):
        raise CannotEncode(
            f"{tensor.name}: calibration saw no input, which {fmt.name} needs; calibrate again"
        )
    return partial(words.coder, entry, statistics), words.beside(entry, statistics)


class Pace:
    """How many weights are done, and how long the others will take at the pace so far."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._began = time.monotonic()

    def add(self, weights: int) -> None:
        self.done += weights

    def eta(self) -> float | None:
        """Seconds; None before the first weight."""
        seconds = time.monotonic() - self._began
        return seconds / self.done * (self.total - self.done) if self.done else None
