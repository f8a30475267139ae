"""Block-wise reconstruction: each layer learns to give what the original's layer gives, one in memory at a
time (BRECQ, Li et al. 2021; EfficientQAT, Chen et al. 2024).

A layer reads what the trained layers before it give, and is to give what the original's gives on the
original's stream: so it also makes up for errors before it. Errors count relative to the size of a token's
stream, which the norm of the next layer takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import torch

from quant.files.source import Source
from quant.qat import checkpoint
from quant.qat.data import Chunks, order
from quant.qat.llama import Weights, embed, layer, rotary
from quant.qat.options import TrainOptions
from quant.qat.progress import Check, OnCheck, OnStep, require_finite
from quant.qat.schedule import Costs, seconds_of
from quant.qat.shape import Shape
from quant.qat.stream import Size, Stream, digest, fill, is_whole, open_stream, remove
from quant.qat.student import State, Student, Updates, copied, read_student, read_weights

Tensor: TypeAlias = Any

MICRO_CHUNKS: Final = 4


@dataclass(frozen=True)
class Sample:
    """What a layer reads, and what it is to give. The last ``held_out`` chunks are not learned from."""

    read: Stream
    wanted: Stream
    held_out: int


@dataclass(frozen=True)
class Streams:
    """The files of streams in ``folder``; ``whole`` are all chunks, those to learn from in the order in which
    they first are, then the last ``held_out``, which are held out."""

    folder: Path
    shape: Shape
    whole: Chunks
    held_out: int

    @cached_property
    def of(self) -> str:
        """Names the texts."""
        return digest(self.whole)

    @property
    def size(self) -> Size:
        chunks, context = self.whole.shape
        return chunks, context, self.shape.width

    def path(self, whose: str, number: int) -> Path:
        """Of the stream before the layer ``number``."""
        return self.folder / f"stream-{whose}-{number}.f32"

    def has(self, whose: str, number: int) -> bool:
        """Whether the whole stream before the layer ``number`` is there."""
        return is_whole(self.path(whose, number), self.size, self.of)

    def open(self, whose: str, number: int) -> Stream:
        return open_stream(self.path(whose, number), self.size)

    def lead_to(self, number: int) -> bool:
        """Whether the layer ``number`` can be trained with what is there, all layers before it being done."""
        return (self.has("student", number) or (number > 0 and self.has("student", number - 1))) and (
            self.has("original", number) or self.has("original", number + 1)
        )

    def begin(self, whose: str, weights: Weights) -> None:
        """The embeddings."""
        self._write(whose, 0, lambda part: embed(weights, torch.from_numpy(self.whole[part])))

    def advance(self, whose: str, number: int, weights: Weights) -> None:
        """Through the layer ``number``, unless that was done; the stream before it stays."""
        if self.has(whose, number + 1) or not self.has(whose, number):
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
            remove(self.path(whose, number))

    def forget_all(self) -> None:
        """Removes all streams."""
        for path in self.folder.glob("stream-*.f32"):
            remove(path)

    def _write(self, whose: str, number: int, compute: Callable[[slice], Tensor]) -> None:
        def computed(part: slice) -> Any:
            with torch.no_grad():
                return compute(part).numpy()

        fill(self.path(whose, number), self.size, self.of, computed, MICRO_CHUNKS)


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
    made_of = f"{options} {streams.of}"
    _prepare(original, quantized, streams, made_of, dtype)
    for number in range(streams.shape.layers):
        path = layer_path(streams, number)

        def of_layer(name: str, number: int = number) -> bool:
            return name.startswith(f"blk.{number}.")

        student = read_student(original, quantized, codes=True, dtype=dtype, wanted=of_layer)
        checks = _take_up(student, path, made_of)
        if checks is None:
            streams.advance("original", number, read_weights(original, dtype, of_layer))

            def on_update(step: int, total: int, number: int = number) -> None:
                on_step(number * total + step, streams.shape.layers * total)

            sample = streams.sample(number)
            checks = train_layer(student, streams.shape, number, sample, options, on_update, on_check)
            state = {"of": made_of, "student": student.state(), "checks": msgspec.to_builtins(checks)}
            checkpoint.save(path, state)
        else:
            for check in checks:
                on_check(check)
        streams.advance("student", number, student.weights(learn=False))
        streams.forget(number)
        yield student


def layer_path(streams: Streams, number: int) -> Path:
    """Where the layer ``number`` lies when it is finished."""
    return streams.folder / f"layer-{number}.pt"


def _prepare(original: Source, quantized: Source, streams: Streams, made_of: str, dtype: Any) -> None:
    """Makes sure that the first layer that is not finished has its streams.

    Where a finished one was lost they are not there any more: then everything begins again.
    """
    layers = streams.shape.layers
    paths = (layer_path(streams, number) for number in range(layers))
    begin = next((number for number, path in enumerate(paths) if not _is_finished(path, made_of)), layers)
    if begin == layers or streams.lead_to(begin):
        return
    streams.forget_all()
    for number in range(layers):
        layer_path(streams, number).unlink(missing_ok=True)
    for whose, source in (("original", original), ("student", quantized)):
        streams.begin(whose, read_weights(source, dtype, "token_embd.weight".__eq__))


def _is_finished(path: Path, made_of: str) -> bool:
    saved = checkpoint.load(path, mapped=True)
    return saved is not None and saved["of"] == made_of


def _take_up(student: Student, path: Path, made_of: str) -> list[Check] | None:
    """Puts a finished layer's state into ``student``. -> its checks; None where it is not finished."""
    saved = checkpoint.load(path)
    if saved is None or saved["of"] != made_of:
        return None
    student.load(saved["student"])
    return msgspec.convert(saved["checks"], list[Check])


def train_layer(
    student: Student,
    shape: Shape,
    number: int,
    sample: Sample,
    options: TrainOptions,
    on_step: OnStep,
    on_check: OnCheck,
) -> list[Check]:
    """Trains one layer, which ends in the state that was best on the held-out chunks. -> all checks.

    Raises CannotTrain where the first loss is no number; a later one is no gain.
    """
    updates = Updates(student, options)
    learned = len(sample.read) - sample.held_out
    every = max(1, options.steps // options.checks)
    best, best_step = copied(student.state()), 0
    checks = [Check(0, held_out_error(student, shape, number, sample), number)]
    require_finite(checks[0])
    on_check(checks[0])
    least = checks[0].loss
    for step in range(options.steps):
        on_step(step, options.steps)
        chosen = order(options.seed, learned, step * options.chunks, options.chunks)
        gradients(student, shape, number, sample, chosen)
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


def costs_of(student: Student, shape: Shape, context: int, options: TrainOptions, enough: float) -> Costs:
    """What the layer 0, which ``student`` is, takes here, measured on work that is thrown away: what takes
    ``enough`` seconds is done once. The original's layer is taken to be as fast."""
    size = (options.chunks + 1, context, shape.width)
    ones = np.broadcast_to(np.float32(1), size)  # takes no memory
    sample = Sample(ones, ones, 1)
    weights = student.weights(learn=False)
    part = list(range(min(MICRO_CHUNKS, len(ones))))
    with torch.no_grad():
        check = seconds_of(lambda: _errors(weights, shape, 0, sample, part), enough) / len(part)
    update = seconds_of(lambda: gradients(student, shape, 0, sample, list(range(options.chunks))), enough)
    for _, tensor, _ in student.parameters():
        tensor.grad = None
    return Costs(update, 2 * check, check)


def _errors(weights: State, shape: Shape, number: int, sample: Sample, part: Sequence[int]) -> Tensor:
    """[tokens]"""
    read, wanted = (torch.from_numpy(np.array(stream[part])) for stream in (sample.read, sample.wanted))
    given = layer(shape, weights, number, read, rotary(shape, read.shape[1]))
    error: Tensor = (given - wanted).square().sum(dim=-1) / wanted.square().sum(dim=-1).clamp(min=1e-20)
    return error.reshape(-1)
