"""How many updates a run has, and what of its texts it needs: decided before the texts are read."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import msgspec

from quant.qat.data import LEAST_CHUNKS
from quant.qat.options import TrainOptions

SHARE: Final = 0.85
"""Of the time is given away: the rest is for checkpoints and for reading the models."""
HELD_OUT_SHARE: Final = 0.25
"""Of that, at most, the held-out text takes."""
SHORT: Final = 0.05
"""Of the time: what takes longer is not measured a second time."""


class Costs(msgspec.Struct, frozen=True):
    """Seconds that the parts of a training take here, in ``blocks`` for one layer."""

    update: float
    teach: float
    """What the original makes of one chunk; in ``blocks`` both passes of a layer over it."""
    check: float
    """One held-out chunk, read once."""


class Timing(msgspec.Struct, frozen=True):
    """What was measured when a run began, on work that was thrown away: kept beside its checkpoints, so that
    the same follows from it after a kill."""

    costs: Costs
    left: float
    """Seconds of the time that was given."""
    layers: int = 1
    """Of which each takes its costs."""

    @property
    def seconds(self) -> float:
        """For each layer."""
        return max(0.0, self.left) * SHARE / self.layers

    def most_steps(self) -> int:
        """No schedule has more updates."""
        return max(1, int(self.seconds / self.costs.update))


class Schedule(msgspec.Struct, frozen=True):
    """What a run does."""

    steps: int
    """Updates: in ``blocks``, of each layer."""
    held_out: int
    """Chunks of held-out text that are read."""


def schedule(timing: Timing, options: TrainOptions, training: int, held_out: int) -> Schedule:
    """What fits into the time, with texts of ``training`` and ``held_out`` chunks: one update at least.

    The original is asked about each chunk that the updates read, once, so chunks that come again cost less.
    """
    costs = timing.costs
    of_held_out = costs.teach + (options.checks + 1) * costs.check
    judged = int(timing.seconds * HELD_OUT_SHARE / of_held_out)
    judged = min(held_out, max(LEAST_CHUNKS, judged))
    left = timing.seconds - judged * of_held_out
    steps = int(left / (costs.update + options.chunks * costs.teach))
    if steps * options.chunks >= training:
        steps = int((left - training * costs.teach) / costs.update)
    return Schedule(max(1, steps), judged)


def seconds_of(work: Callable[[], Any], enough: float) -> float:
    """What ``work`` takes when it is done a second time; the first time counts if it took ``enough``."""
    seconds = 0.0
    for _ in range(2):
        began = monotonic()
        work()
        seconds = monotonic() - began
        if seconds >= enough:
            break
    return seconds
