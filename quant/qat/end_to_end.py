"""Distillation of the whole model: KL divergence from the original's predictions (Hinton et al. 2015; for
quantized language models Liu et al. 2023, LLM-QAT). In the mode ``full`` codes and scales learn, in
``scales`` the codes stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
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
from quant.qat.progress import Check, OnCheck, OnStep
from quant.qat.shape import Shape
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
    states: States
    held_out: Chunks
    held_states: States


def original_states(
    shape: Shape, weights: Weights, chunks: Chunks, path: Path, on_share: Callable[[float], None]
) -> States:
    """The original's last states on all ``chunks``, in the file ``path``: one that is whole is taken."""
    size = (*chunks.shape, shape.width)
    if path.exists() and path.stat().st_size == 4 * int(np.prod(size)):
        return np.memmap(path, np.float32, "r", shape=size)
    temporary = path.with_suffix(".new")
    states = np.memmap(temporary, np.float32, "w+", shape=size)
    together = max(1, MICRO_TOKENS // chunks.shape[1])
    with torch.no_grad():
        for start in range(0, len(chunks), together):
            part = slice(start, start + together)
            states[part] = hidden(shape, weights, torch.from_numpy(chunks[part])).numpy()
            on_share(min(1.0, (start + together) / len(chunks)))
    states.flush()
    temporary.replace(path)
    return np.memmap(path, np.float32, "r", shape=size)


def held_out_divergence(student: Student, lesson: Lesson) -> float:
    """Mean KL divergence in nats over the second half of each held-out chunk."""
    weights = student.weights(learn=False)
    head = weights[output_name(weights)]
    nats = []
    with torch.no_grad():
        for chunk, states in zip(lesson.held_out, lesson.held_states, strict=True):
            half = len(chunk) // 2
            mine = hidden(lesson.shape, weights, torch.from_numpy(chunk[None]))[0, half:]
            theirs = torch.from_numpy(np.array(states[half:]))
            nats.append(divergence(mine, head, theirs, lesson.head, gradient=False)[0])
    return float(torch.cat(nats).double().mean())


def gradients(student: Student, lesson: Lesson, chosen: Sequence[int]) -> float:
    """The mean divergence over the chunks ``chosen``; its gradients go into the student's parameters."""
    weights = student.weights(learn=True)
    head = weights[output_name(weights)].detach()
    together = max(1, MICRO_TOKENS // lesson.chunks.shape[1])
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


def seconds_of_update(student: Student, lesson: Lesson, options: TrainOptions) -> float:
    """What one takes here, by the second of two that are thrown away."""
    seconds = 0.0
    for _ in range(2):
        began = monotonic()
        gradients(student, lesson, order(options.seed, len(lesson.chunks), options.chunks).tolist())
        seconds = monotonic() - began
    for _, tensor, _ in student.parameters():
        tensor.grad = None
    return seconds


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
    updates, progress = Updates(student, options), _Progress()
    every = max(1, options.steps // options.checks)
    saved = checkpoint.load(folder / "checkpoint.pt")
    if saved is not None and saved["options"] == str(options):
        progress = msgspec.json.decode(saved["progress"], type=_Progress)
        student.load(saved["student"])
        updates.load(saved["updates"])
        for check in progress.checks:
            on_check(check)
    else:
        _check(student, student.state(), lesson, progress, folder, on_check)
    sequence = order(options.seed, len(lesson.chunks), options.steps * options.chunks)
    while progress.step < options.steps and not _gives_up(progress, options, every):
        on_step(progress.step, options.steps)
        begin = progress.step * options.chunks
        gradients(student, lesson, sequence[begin : begin + options.chunks].tolist())
        updates.step(progress.step)
        progress.step += 1
        if progress.step % every == 0 or progress.step == options.steps:
            with updates.guessed(student) as guess:
                _check(student, guess, lesson, progress, folder, on_check)
            checkpoint.save(
                folder / "checkpoint.pt",
                {
                    "options": str(options),
                    "progress": msgspec.json.encode(progress).decode(),
                    "student": student.state(),
                    "updates": updates.state(),
                },
            )
    student.load(checkpoint.load(folder / "best.pt"))
    return progress.checks


def _check(
    student: Student, guess: State, lesson: Lesson, progress: _Progress, folder: Path, on_check: OnCheck
) -> None:
    """Reads the held-out text, and keeps ``guess``, the student's state, if nothing was better."""
    check = Check(progress.step, held_out_divergence(student, lesson))
    least = min((earlier.loss for earlier in progress.checks), default=float("inf"))
    progress.checks.append(check)
    if check.loss < least:
        progress.best = check.step
        checkpoint.save(folder / "best.pt", guess)
    on_check(check)


def _gives_up(progress: _Progress, options: TrainOptions, every: int) -> bool:
    """Whether so many checks in a row were no better than the best."""
    return progress.step - progress.best >= options.patience * every
