"""A model in training, or a layer of it: matrices behind fake quantizers, norms and biases, and what is
fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from quant.allocation.recipe import OUTER_ROLES, role_of
from quant.files.source import Source, SourceTensor
from quant.formats.registry import BY_GGML_TYPE
from quant.qat.fake import FakeQuantizer, fake_quantizer
from quant.qat.options import TrainOptions
from quant.qat.words import FakeWords, fake_words

Tensor: TypeAlias = Any
State: TypeAlias = dict[str, Any]
"""Parameters, by name."""

BETAS: Final = (0.9, 0.99)
LEAST: Final = 1e-30
"""Adam's epsilon: gradients are as small as the scales are, so nothing larger may damp them."""


@dataclass(frozen=True)
class Student:
    """All by the tensors' names in the file."""

    quantizers: Mapping[str, FakeQuantizer | FakeWords]
    plain: Mapping[str, Tensor]
    """Norms and biases, float32: they learn."""
    fixed: Mapping[str, Tensor]
    """Embeddings, output matrix and matrices that are not quantized, in ``dtype``."""
    dtype: Any
    """What products are computed in."""

    def parameters(self) -> Iterator[tuple[str, Tensor, float]]:
        """What learns: name, tensor, and what a learning rate of 1 moves it by."""
        for name, quantizer in self.quantizers.items():
            for part, tensor in quantizer.parameters():
                yield f"{name}:{part}", tensor, quantizer.unit(part)
        for name, tensor in self.plain.items():
            yield name, tensor, float(tensor.detach().abs().mean()) or 1.0

    def weights(self, *, learn: bool) -> dict[str, Tensor]:
        """All tensors as the forward pass takes them; with ``learn`` the matrices collect gradients."""
        found = dict(self.fixed)
        for name, quantizer in self.quantizers.items():
            found[name] = quantizer.values().to(self.dtype).requires_grad_(learn)
        for name, tensor in self.plain.items():
            found[name] = tensor if learn else tensor.detach()
        return found

    def backward(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the gradients that ``weights`` collected to the parameters, and empties them."""
        for name, quantizer in self.quantizers.items():
            matrix = weights[name]
            if matrix.grad is not None:
                quantizer.backward(matrix.grad)
                matrix.grad = None

    def state(self) -> State:
        """All that learns, as it is now: it changes with the next update."""
        return {name: tensor.detach() for name, tensor, _ in self.parameters()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Puts back what :meth:`state` gave."""
        with torch.no_grad():
            for name, tensor, _ in self.parameters():
                tensor.copy_(state[name])

    def packed(self) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of every tensor that learned, as they lie in a file."""
        for name, quantizer in self.quantizers.items():
            yield name, quantizer.packed().tobytes()
        for name, tensor in self.plain.items():
            yield name, tensor.detach().cpu().numpy().astype("<f4").tobytes()


class Updates:
    """Adam (Kingma and Ba 2015) with the rates of the options, and the moving average of what learns."""

    def __init__(self, student: Student, options: TrainOptions) -> None:
        self._options = options
        self._parameters = [(name, tensor) for name, tensor, _ in student.parameters()]
        groups = [
            {"params": [tensor], "lr": 0.0, "full": options.rate_of(name) * unit}
            for name, tensor, unit in student.parameters()
        ]
        self._adam = torch.optim.Adam(groups, betas=BETAS, eps=LEAST, fused=True)
        self._average = copied(student.state()) if options.average else {}

    def step(self, number: int) -> None:
        """The update ``number``, from 0, with the gradients that lie in the parameters."""
        share = self._options.rate(number)
        for group in self._adam.param_groups:
            group["lr"] = group["full"] * share
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        if self._average:
            kept = min(self._options.average, (1 + number) / (10 + number))
            with torch.no_grad():
                for name, tensor in self._parameters:
                    self._average[name].lerp_(tensor, 1 - kept)

    @contextmanager
    def guessed(self, student: Student) -> Iterator[State]:
        """``student`` as the result would be now, which is the average where one is kept."""
        if not self._average:
            yield student.state()
            return
        now = copied(student.state())
        student.load(self._average)
        yield student.state()
        student.load(now)

    def state(self) -> State:
        return {"adam": self._adam.state_dict(), "average": self._average}

    def load(self, state: State) -> None:
        self._adam.load_state_dict(state["adam"])
        for name, value in state["average"].items():
            self._average[name].copy_(value)


def copied(state: State) -> State:
    """One that stays as it is."""
    return {name: value.clone() for name, value in state.items()}


def read_student(
    original: Source,
    quantized: Source,
    *,
    codes: bool,
    dtype: Any,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Student:
    """The tensors of ``quantized`` whose names are ``wanted``, as they are; with ``codes`` the codes of block
    formats learn.
    """
    sources = {tensor.name: tensor for tensor in original.tensors}
    quantizers: dict[str, FakeQuantizer | FakeWords] = {}
    plain: dict[str, Tensor] = {}
    fixed: dict[str, Tensor] = {}
    for tensor in quantized.tensors:
        if not wanted(tensor.name):
            continue
        if len(tensor.shape) == 1:
            values = torch.tensor(quantized.rows(tensor, 0, tensor.rows).reshape(-1))
            if tensor.type.name == "F32":
                plain[tensor.name] = values.requires_grad_(True)
            else:
                fixed[tensor.name] = values
        elif not is_trained(tensor):
            fixed[tensor.name] = torch.tensor(quantized.rows(tensor, 0, tensor.rows)).to(dtype)
        elif tensor.packed is not None:
            quantizers[tensor.name] = fake_words(quantized, tensor)
        else:
            quantizers[tensor.name] = _quantizer(original, sources[tensor.name], quantized, tensor, codes)
    return Student(quantizers, plain, fixed, dtype)


def read_weights(
    source: Source, dtype: Any, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, Tensor]:
    """An original's tensors for the forward pass."""
    found = {}
    for tensor in source.tensors:
        if wanted(tensor.name):
            values = torch.tensor(source.rows(tensor, 0, tensor.rows))
            found[tensor.name] = values.reshape(-1) if len(tensor.shape) == 1 else values.to(dtype)
    return found


def is_trained(tensor: SourceTensor) -> bool:
    """Whether a matrix of a quantized file learns: those of the layers, in blocks or in words."""
    if role_of(tensor.name) in OUTER_ROLES:
        return False
    return tensor.packed is not None or tensor.type.id in BY_GGML_TYPE


def _quantizer(
    original: Source, source: SourceTensor, quantized: Source, tensor: SourceTensor, codes: bool
) -> FakeQuantizer:
    fmt = BY_GGML_TYPE[tensor.type.id]
    raw = np.frombuffer(quantized.raw(tensor, 0, tensor.rows), np.uint8).reshape(-1, fmt.block_bytes)
    weights = original.rows(source, 0, source.rows) if codes else None
    return fake_quantizer(fmt, fmt.unpack(raw), (tensor.rows, tensor.columns), weights)
