"""The encoder of one matrix: what rounds its rows, once calibration and format are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from quant.calibration.statistics import InputStatistics
from quant.encoders.feedback import FeedbackOptions, feedback
from quant.encoders.hessian import Factor, factors
from quant.encoders.nearest import nearest
from quant.formats.format import F32, Blocks, Format

FEEDBACK_BITS: Final = 6.0
"""Formats with more bits for a weight are rounded to nearest: what feedback could gain is below the error of
evaluation."""


class RowEncoder(Protocol):
    """Rows [n, columns] -> their blocks, each row independently of the others; any thread may call it."""

    @property
    def feeds_back(self) -> bool:
        """Whether errors are fed back to columns that are not rounded yet."""
        ...

    def __call__(self, rows: F32) -> Blocks: ...


class MakeEncoder(Protocol):
    """(format, statistics of the tensor's inputs, index of the expert, columns) -> encoder."""

    def __call__(
        self, fmt: Format, statistics: InputStatistics | None, expert: int, columns: int, /
    ) -> RowEncoder: ...


@dataclass(frozen=True)
class NearestEncoder:
    """Rounds to nearest, on the grids with the least error under ``importance`` [columns]."""

    fmt: Format
    importance: F32 | None

    feeds_back = False

    def __call__(self, rows: F32) -> Blocks:
        return nearest(self.fmt, rows, self.importance)


@dataclass(frozen=True)
class FeedbackEncoder:
    """Chooses codes and grids by error feedback."""

    fmt: Format
    statistics: InputStatistics
    expert: int
    prepared: tuple[Factor, ...]
    options: FeedbackOptions

    feeds_back = True

    def __call__(self, rows: F32) -> Blocks:
        return feedback(
            self.fmt,
            rows,
            self.statistics,
            options=self.options,
            expert=self.expert,
            prepared=self.prepared,
        )


@dataclass
class EncoderMaker:
    """Makes encoders, and keeps the factors of one input for the matrices that share it."""

    feedback: bool
    threads: int
    options: FeedbackOptions = field(default_factory=FeedbackOptions)
    _of: tuple[InputStatistics, int, int] | None = None
    _factors: tuple[Factor, ...] = ()

    def __call__(
        self, fmt: Format, statistics: InputStatistics | None, expert: int, columns: int, /
    ) -> RowEncoder:
        """See :class:`MakeEncoder`. An expert that saw no token is rounded to nearest, columns alike."""
        if statistics is None or not statistics.tokens[expert]:
            return NearestEncoder(fmt, None)
        if not self.feedback or not _feeds_back(fmt, statistics):
            return NearestEncoder(fmt, statistics.mean_square[expert])
        prepared = self._prepare(fmt, statistics, expert)
        return FeedbackEncoder(fmt, statistics, expert, prepared, self.options)

    def _prepare(self, fmt: Format, statistics: InputStatistics, expert: int) -> tuple[Factor, ...]:
        block = fmt.block if self.options.order == "blocks" else 1
        known = self._of
        if known is None or known[0] is not statistics or known[1:] != (expert, block):
            self._of, self._factors = None, ()  # before the next ones take memory
            self._factors = tuple(
                factors(
                    statistics,
                    expert=expert,
                    damping=self.options.damping,
                    order=self.options.order,
                    block=block,
                    threads=self.threads,
                )
            )
            self._of = (statistics, expert, block)
        return self._factors


def _feeds_back(fmt: Format, statistics: InputStatistics) -> bool:
    """Whether error feedback can pay: for few bits, with a Hessian of whole blocks of the format."""
    block = statistics.block
    return block is not None and block % fmt.block == 0 and fmt.bits_per_weight <= FEEDBACK_BITS
