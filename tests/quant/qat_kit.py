"""A small model, its quantization, and texts of random tokens, to train with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quant.files.source import Source, open_source
from quant.pipeline import quantize
from quant.qat.end_to_end import Lesson, original_states
from quant.qat.llama import output_name
from quant.qat.options import Mode, TrainOptions
from quant.qat.shape import Shape, shape_of
from quant.qat.student import Student, read_student, read_weights
from tests.quant import source_models
from tests.quant.stand_ins import request, stand_ins

SMALL = source_models.Shape(hidden=64, width=128, layers=2)
CONTEXT = 32


@dataclass(frozen=True)
class Pair:
    """An original, and what training begins at."""

    original: Source
    quantized: Source
    shape: Shape

    def student(self, *, codes: bool = True) -> Student:
        return read_student(self.original, self.quantized, codes=codes, dtype=torch.float32)

    def lesson(self, folder: Path) -> Lesson:
        weights = read_weights(self.original, torch.float32)

        def states(chunks: Any, name: str) -> Any:
            return original_states(self.shape, weights, chunks, folder / name, lambda share: None)

        return Lesson(
            shape=self.shape,
            head=weights[output_name(weights)],
            chunks=random_chunks(12, 0),
            states=states(random_chunks(12, 0), "states-training"),
            held_out=random_chunks(4, 1),
            held_states=states(random_chunks(4, 1), "states-held-out"),
        )


def random_chunks(count: int, seed: int) -> NDArray[np.int64]:
    """[count, context]"""
    return np.random.default_rng(seed).integers(0, source_models.VOCABULARY, (count, CONTEXT))


def options(mode: Mode = "full", **changes: Any) -> TrainOptions:
    """A short run, with rates for a model as small as this."""
    found: dict[str, Any] = {"steps": 12, "chunks": 2, "checks": 4, "latent_rate": 0.02, **changes}
    return TrainOptions(mode=mode, **found)


@contextmanager
def pair(folder: Path, target: str = "q2_0") -> Iterator[Pair]:
    """Both open; larger weights than a source's make predictions that quantizing changes."""
    source = source_models.write_source(
        folder / "source.gguf", SMALL, change=lambda _name, values: values * 4
    )
    wanted = request(source, folder / "quantized.gguf", target, evaluation=())
    quantize(wanted, steps=stand_ins())
    with open_source((source,)) as original, open_source((wanted.out,)) as quantized:
        yield Pair(original, quantized, shape_of(original.header))
