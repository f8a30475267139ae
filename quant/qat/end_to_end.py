"""Distillation of the whole model: KL divergence from the original's predictions (Hinton et al. 2015; for
quantized language models Liu et al. 2023, LLM-QAT). In the mode ``full`` codes and scales learn, in
``scales`` the codes stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from quant.qat import checkpoint
from quant.qat.data import Chunks, order
from quant.qat.divergence import divergence
from quant.qat.llama import Weights, hidden, output_name
from quant.qat.options import TrainOptions
from quant.qat.progress import Check, OnCheck, OnStep, require_finite
from quant.qat.schedule import Costs, seconds_of
from quant.qat.shape import Shape
from quant.qat.stream import digest, fill
from quant.qat.student import State, Student, Updates

Tensor: TypeAlias = Any
States: TypeAlias = NDArray[np.float32]
"""[chunks, context, width]: what the original's output matrix multiplies."""

MICRO_TOKENS: Final = 1024
"""Go through the model at once."""


@dataclass(frozen=True)
class Lesson:
    """Texts, and what the original makes of them."""

    shape: Shape
    head: Tensor
    """The original's output matrix."""
    chunks: Chunks
    """In the order in which they are first learned from."""
    states: States
    held_out: Chunks
    held_states: States


def original_states(
    shape: Shape, weights: Weights, chunks: Chunks, path: Path, on_share: Callable[[float], None]
) -> States:
    """The original's last states on all ``chunks``, in the file ``path``: what an interrupted call left of
    them there is taken."""

    def compute(part: slice) -> Tensor:
        with torch.no_grad():
            return hidden(shape, weights, torch.from_numpy(chunks[part])).numpy()

    size = (*chunks.shape, shape.width)
    return fill(path, size, digest(chunks), compute, _together(chunks), on_share)


def held_out_divergence(student: Student, lesson: Lesson) -> float:
    """Mean KL divergence in nats over the second half of each held-out chunk."""
    weights = student.weights(learn=False)
    nats = [
        _divergence(weights, lesson, chunk, states)
        for chunk, states in zip(lesson.held_out, lesson.held_states, strict=True)
    ]
    return float(torch.cat(nats).double().mean())


def _divergence(weights: Weights, lesson: Lesson, chunk: NDArray[np.int64], states: Any) -> Tensor:
    """[context / 2], of the second half of a chunk."""
    half = len(chunk) // 2
    with torch.no_grad():
        mine = hidden(lesson.shape, weights, torch.from_numpy(chunk[None]))[0, half:]
    theirs = torch.from_numpy(np.array(states[half:]))
    return divergence(mine, weights[output_name(weights)], theirs, lesson.head, gradient=False)[0]


def gradients(student: Student, lesson: Lesson, chosen: Sequence[int]) -> float:
    """The mean divergence over the chunks ``chosen``; its gradients go into the student's parameters."""
    weights = student.weights(learn=True)
    head = weights[output_name(weights)].detach()
    together = _together(lesson.chunks)
    total = 0.0
    for start in range(0, len(chosen), together):
        part = list(chosen[start : start + together])
        mine = hidden(lesson.shape, weights, torch.from_numpy(lesson.chunks[part]))
        theirs = torch.from_numpy(np.array(lesson.states[part]))
        flat = (-1, lesson.shape.width)
        nats, towards = divergence(
            mine.detach().reshape(flat), head, theirs.reshape(flat), lesson.head, gradient=True
        )
        assert towards is not None
        share = len(part) / len(chosen)
        mine.backward((towards * share).reshape(mine.shape))
        total += share * float(nats.double().mean())
    student.backward(weights)
    return total


def costs_of(student: Student, shape: Shape, context: int, options: TrainOptions, enough: float) -> Costs:
    """What training ``student`` takes here, measured on work that is thrown away: what takes ``enough``
    seconds is done once. The original is taken to be as fast as the student."""
    head = student.fixed[output_name(student.fixed)]
    chunks = (np.arange(options.chunks * context) % len(head)).reshape(options.chunks, context)
    states = np.broadcast_to(np.float32(0), (*chunks.shape, shape.width))  # takes no memory
    lesson = Lesson(shape, head, chunks, states, chunks[:1], states[:1])
    teach, check = _costs_of_reading(student, lesson, enough)
    update = seconds_of(lambda: gradients(student, lesson, range(options.chunks)), enough)
    for _, tensor, _ in student.parameters():
        tensor.grad = None
    return Costs(update, teach, check)


def _costs_of_reading(student: Student, lesson: Lesson, enough: float) -> tuple[float, float]:
    """Of one chunk, by the original and in a check."""
    weights, part = student.weights(learn=False), lesson.chunks[: _together(lesson.chunks)]
    with torch.no_grad():
        teach = seconds_of(lambda: hidden(lesson.shape, weights, torch.from_numpy(part)), enough)
    check = seconds_of(
        lambda: _divergence(weights, lesson, lesson.held_out[0], lesson.held_states[0]), enough
    )
    return teach / len(part), check


def _together(chunks: Chunks) -> int:
    """Chunks that go through the model at once."""
    return max(1, MICRO_TOKENS // int(chunks.shape[1]))


class _Progress(msgspec.Struct):
    """Of a run, as it stands in its checkpoint."""

    step: int = 0
    checks: list[Check] = []
    best: int = 0
    """The step of the best check."""


def train(
    student: Student,
    lesson: Lesson,
    options: TrainOptions,
    folder: Path,
    *,
    on_step: OnStep = lambda done, total: None,
    on_check: OnCheck = lambda check: None,
) -> list[Check]:
    """Trains ``student``, which ends in the state that was best on the held-out text, that at the beginning
    included. -> all checks; ``on_check`` hears those of an interrupted run too.

    Checkpoints lie in ``folder``: the same call goes on from the last one, and ends in the same bits as if
    it had never been interrupted.
    """
    updates = Updates(student, options)
    every = max(1, options.steps // options.checks)
    earlier = _take_up(student, updates, options, folder)
    progress = earlier or _Progress()
    for check in progress.checks:
        on_check(check)
    if earlier is None:
        _check(student, student.state(), lesson, progress, folder, on_check)
    while progress.step < options.steps and not _gives_up(progress, options, every):
        on_step(progress.step, options.steps)
        begin = progress.step * options.chunks
        gradients(student, lesson, order(options.seed, len(lesson.chunks), begin, options.chunks))
        updates.step(progress.step)
        progress.step += 1
        if progress.step % every == 0 or progress.step == options.steps:
            with updates.guessed(student) as guess:
                _check(student, guess, lesson, progress, folder, on_check)
            checkpoint.save(
                folder / "checkpoint.pt",
                {
                    "options": str(options),
                    "progress": msgspec.to_builtins(progress),
                    "student": student.state(),
                    "updates": updates.state(),
                },
            )
    student.load(checkpoint.load(folder / "best.pt"))
    return progress.checks


def _take_up(student: Student, updates: Updates, options: TrainOptions, folder: Path) -> _Progress | None:
    """Puts an interrupted run's state into both; None where there is none, or its best state is lost.

    What was read is free again when this returns: training has no room for it.
    """
    if checkpoint.load(folder / "best.pt", mapped=True) is None:
        return None
    saved = checkpoint.load(folder / "checkpoint.pt")
    if saved is None or saved["options"] != str(options):
        return None
    student.load(saved["student"])
    updates.load(saved["updates"])
    return msgspec.convert(saved["progress"], _Progress)


def _check(
    student: Student, guess: State, lesson: Lesson, progress: _Progress, folder: Path, on_check: OnCheck
) -> None:
    """Reads the held-out text, and keeps ``guess``, the student's state, if nothing was better.

    Raises CannotTrain where the first loss is no number; a later one is no gain.
    """
    check = Check(progress.step, held_out_divergence(student, lesson))
    if not progress.checks:
        require_finite(check)
    least = min((earlier.loss for earlier in progress.checks), default=inf)
    progress.checks.append(check)
    if check.loss < least:
        progress.best = check.step
        checkpoint.save(folder / "best.pt", guess)
    on_check(check)


def _gives_up(progress: _Progress, options: TrainOptions, every: int) -> bool:
    """Whether so many checks in a row were no better than the best."""
    return progress.step - progress.best >= options.patience * every
