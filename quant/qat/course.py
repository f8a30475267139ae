"""A run's course: how many updates it has, and the chunks of text that they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from quant.qat.data import WHOLE, Chunks, TrainingData, first_round
from quant.qat.options import TrainOptions
from quant.qat.schedule import Schedule, Timing, schedule


@dataclass(frozen=True)
class Course:
    """What is trained with."""

    options: TrainOptions
    """With the number of updates."""
    data: TrainingData
    """All that was read."""
    training: Chunks
    """What the updates read of it, in the order in which they first do."""
    held_out: Chunks


def plan_course(
    options: TrainOptions, timing: Timing | None, context: int, read: Callable[[int], TrainingData]
) -> Course:
    """The course of ``options.steps`` updates, or without a number of them of as many as ``timing`` allows.

    ``read`` gives texts to draw so many tokens from: of more than the updates can use nothing is read.
    """
    assert options.steps or timing is not None
    most = options.steps or (timing.most_steps() if timing else 0)
    data = read(min(WHOLE, most * options.chunks * context))
    chosen = Schedule(options.steps, len(data.held_out))
    if timing is not None and not options.steps:
        chosen = schedule(timing, options, len(data.training), len(data.held_out))
    learned = first_round(options.seed, len(data.training), chosen.steps * options.chunks)
    judged = np.linspace(0, len(data.held_out) - 1, chosen.held_out).round().astype(np.int64)
    return Course(
        options=msgspec.structs.replace(options, steps=chosen.steps),
        data=data,
        training=data.training[learned],
        held_out=data.held_out[judged],
    )
