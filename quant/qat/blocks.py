"""Block-wise reconstruction: each layer learns to give what the original's layer gives, one in memory at a
time (BRECQ, Li et al. 2021; EfficientQAT, Chen et al. 2024).

A layer reads what the trained layers before it give, and is to give what the original's gives on the
original's stream: so it also makes up for errors before it. Errors count relative to the size of a token's
stream, which the norm of the next layer takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from quant.files.source import Source
from quant.qat import checkpoint
from quant.qat.data import order
from quant.qat.llama import Weights, embed, layer, rotary
from quant.qat.options import TrainOptions
from quant.qat.progress import Check, OnCheck, OnStep
from quant.qat.shape import Shape
from quant.qat.student import State, Student, Updates, copied, read_student, read_weights

Tensor: TypeAlias = Any
Stream: TypeAlias = NDArray[np.float32]
"""[chunks, context, width]: what lies between two layers."""

MICRO_CHUNKS: Final = 4


@dataclass(frozen=True)
class Sample:
    """What a layer reads, and what it is to give. The last ``held_out`` chunks are not learned from."""

    read: Stream
    wanted: Stream
    held_out: int


@dataclass(frozen=True)
class Streams:
    """The files of streams in ``folder``; ``whole`` are all chunks, the last ``held_out`` are held out."""

    folder: Path
    shape: Shape
    whole: NDArray[np.int64]
    held_out: int

    def path(self, whose: str, number: int) -> Path:
        """Of the stream before the layer ``number``."""
        return self.folder / f"stream-{whose}-{number}.f32"

    def open(self, whose: str, number: int) -> Stream:
        size = (*self.whole.shape, self.shape.width)
        return np.memmap(self.path(whose, number), np.float32, "r", shape=size)

    def begin(self, whose: str, weights: Weights) -> None:
        """The embeddings, unless a layer has been through already."""
        if not list(self.folder.glob(f"stream-{whose}-*.f32")):
            self._write(whose, 0, lambda part: embed(weights, torch.from_numpy(self.whole[part])))

    def advance(self, whose: str, number: int, weights: Weights) -> None:
        """Through the layer ``number``, unless that was done; the stream before it stays."""
        if self.path(whose, number + 1).exists() or not self.path(whose, number).exists():
            return
        before = self.open(whose, number)
        positions = rotary(self.shape, self.whole.shape[1])

        def compute(part: slice) -> Tensor:
            return layer(self.shape, weights, number, torch.from_numpy(np.array(before[part])), positions)

        self._write(whose, number + 1, compute)

    def sample(self, number: int) -> Sample:
        """For the layer ``number``."""
        return Sample(self.open("student", number), self.open("original", number + 1), self.held_out)

    def forget(self, number: int) -> None:
        """Removes what lies before the layer ``number``."""
        for whose in ("original", "student"):
            self.path(whose, number).unlink(missing_ok=True)

    def _write(self, whose: str, number: int, compute: Callable[[slice], Tensor]) -> None:
        path = self.path(whose, number)
        temporary = path.with_suffix(".new")
        stream = np.memmap(temporary, np.float32, "w+", shape=(*self.whole.shape, self.shape.width))
        with torch.no_grad():
            for start in range(0, len(self.whole), MICRO_CHUNKS):
                part = slice(start, start + MICRO_CHUNKS)
                stream[part] = compute(part).numpy()
        stream.flush()
        temporary.replace(path)


def train_blocks(
    original: Source,
    quantized: Source,
    streams: Streams,
    options: TrainOptions,
    dtype: Any,
    *,
    on_step: OnStep = lambda done, total: None,
    on_check: OnCheck = lambda check: None,
) -> Iterator[Student]:
    """Each layer in its best state, one after the other.

    What is finished lies in the streams' folder: the same call goes on with the layer that an interrupted
    one was at, and ends in the same bits. ``on_check`` hears those of finished layers too.
    """
    for whose, source in (("original", original), ("student", quantized)):
        streams.begin(whose, read_weights(source, dtype, "token_embd.weight".__eq__))
    for number in range(streams.shape.layers):
        saved = streams.folder / f"layer-{number}.pt"

        def of_layer(name: str, number: int = number) -> bool:
            return name.startswith(f"blk.{number}.")

        student = read_student(original, quantized, codes=True, dtype=dtype, wanted=of_layer)
        done = checkpoint.load(saved)
        if done is None:
            streams.advance("original", number, read_weights(original, dtype, of_layer))

            def on_update(step: int, total: int, number: int = number) -> None:
                on_step(number * total + step, streams.shape.layers * total)

            sample = streams.sample(number)
            checks = train_layer(student, streams.shape, number, sample, options, on_update, on_check)
            told = msgspec.json.encode(checks).decode()
            checkpoint.save(saved, {"student": student.state(), "checks": told})
        else:
            student.load(done["student"])
            for check in msgspec.json.decode(done["checks"], type=list[Check]):
                on_check(check)
        streams.advance("student", number, student.weights(learn=False))
        streams.forget(number)
        yield student


def train_layer(
    student: Student,
    shape: Shape,
    number: int,
    sample: Sample,
    options: TrainOptions,
    on_step: OnStep,
    on_check: OnCheck,
) -> list[Check]:
    """Trains one layer, which ends in the state that was best on the held-out chunks. -> all checks."""
    updates = Updates(student, options)
    learned = len(sample.read) - sample.held_out
    sequence = order(options.seed, learned, options.steps * options.chunks)
    every = max(1, options.steps // options.checks)
    best, best_step = copied(student.state()), 0
    checks = [Check(0, held_out_error(student, shape, number, sample), number)]
    on_check(checks[0])
    least = checks[0].loss
    for step in range(options.steps):
        on_step(step, options.steps)
        begin = step * options.chunks
        gradients(student, shape, number, sample, sequence[begin : begin + options.chunks].tolist())
        updates.step(step)
        if (step + 1) % every and step + 1 != options.steps:
            continue
        with updates.guessed(student) as guess:
            check = Check(step + 1, held_out_error(student, shape, number, sample), number)
            if check.loss < least:
                best, best_step, least = copied(guess), check.step, check.loss
        checks.append(check)
        on_check(check)
        if check.step - best_step >= options.patience * every:
            break
    student.load(best)
    return checks


def held_out_error(student: Student, shape: Shape, number: int, sample: Sample) -> float:
    """Squared error over squared values of the layer's output, a mean over tokens."""
    weights = student.weights(learn=False)
    errors = []
    with torch.no_grad():
        for index in range(len(sample.read) - sample.held_out, len(sample.read)):
            errors.append(_errors(weights, shape, number, sample, [index]))
    return float(torch.cat(errors).double().mean())


def gradients(student: Student, shape: Shape, number: int, sample: Sample, chosen: Sequence[int]) -> float:
    """The mean error over the chunks ``chosen``; its gradients go into the student's parameters."""
    weights = student.weights(learn=True)
    total = 0.0
    for start in range(0, len(chosen), MICRO_CHUNKS):
        part = list(chosen[start : start + MICRO_CHUNKS])
        loss = _errors(weights, shape, number, sample, part).mean() * (len(part) / len(chosen))
        loss.backward()
        total += float(loss.detach())
    student.backward(weights)
    return total


def seconds_of_update(
    student: Student, shape: Shape, number: int, sample: Sample, options: TrainOptions
) -> float:
    """What one takes here, by the second of two that are thrown away."""
    seconds = 0.0
    learned = len(sample.read) - sample.held_out
    for _ in range(2):
        began = monotonic()
        gradients(student, shape, number, sample, order(options.seed, learned, options.chunks).tolist())
        seconds = monotonic() - began
    for _, tensor, _ in student.parameters():
        tensor.grad = None
    return seconds


def _errors(weights: State, shape: Shape, number: int, sample: Sample, part: Sequence[int]) -> Tensor:
    """[tokens]"""
    read, wanted = (torch.from_numpy(np.array(stream[part])) for stream in (sample.read, sample.wanted))
    given = layer(shape, weights, number, read, rotary(shape, read.shape[1]))
    error: Tensor = (given - wanted).square().sum(dim=-1) / wanted.square().sum(dim=-1).clamp(min=1e-20)
    return error.reshape(-1)
