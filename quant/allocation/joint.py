"""One way to run a model in a budget: context, KV cache, buffers and weights together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from quant.allocation.measure import Measured
from quant.allocation.running import Running
from quant.allocation.speed import Speeds
from quant.files.packed_layout import PackedEntry, packed_section
from quant.formats.lt import LtFormat
from quant.formats.registry import AnyFormat
from runtime.budget import MemoryPlan
from runtime.engine.config import EngineConfig, KvType
from runtime.gguf import GgufHeader, TensorInfo
from runtime.gguf.ggml_types import GGML_TYPES
from runtime.gguf.packed import SECTION_ALIGNMENT
from runtime.gguf.tensors import pad

CACHE_NATS: Final[Mapping[KvType, float]] = {"f16": 0.0, "q8_0": 0.0005, "q4_0": 0.08}
"""Divergence that a cache of each type adds: SmolLM2-135M and Gemma-3-270M, see docs/allocation.md."""


@dataclass(frozen=True)
class Model:
    """What planning needs to know of a model: its files' headers, and what its tensors may become."""

    headers: tuple[GgufHeader, ...]
    measured: Measured
    settled: Mapping[str, AnyFormat] = field(default_factory=dict)
    """A person's own choices, of tensors that are not in ``measured``."""
    settled_inputs: Mapping[str, str] = field(default_factory=dict)
    """Of those that are in LT formats: names -> those of their inputs, which several may share."""

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The same of all matrices that may be in LT formats."""
        free = {tensor.name: tensor.input for tensor in self.measured.tensors if tensor.input}
        return {**self.settled_inputs, **free}


@dataclass(frozen=True)
class JointPlan:
    """One way to run a model in a budget."""

    config: EngineConfig
    memory: MemoryPlan
    header: GgufHeader
    """As the file would have it."""
    formats: Mapping[str, AnyFormat]
    """A tensor without one stays as it is."""
    weight_nats: float

    def tokens_per_second(self, speeds: Speeds) -> float:
        """Of one conversation, foreseen."""
        return 1 / speeds.token_seconds([self.header], self.memory.kv_cache)

    @property
    def predicted_kl(self) -> float:
        """Mean divergence from the original, in nats."""
        return self.weight_nats + CACHE_NATS[self.config.kv_type]

    def format_shares(self) -> dict[str, float]:
        """Of the weights of all matrices, by the type that they get."""
        matrices = [tensor for tensor in self.header.all_tensors if len(tensor.shape) >= 2]
        elements = sum(tensor.elements for tensor in matrices)
        shares: dict[str, float] = {}
        for tensor in matrices:
            name = (tensor.type.name if isinstance(tensor, TensorInfo) else tensor.format).lower()
            shares[name] = shares.get(name, 0.0) + tensor.elements / elements
        return shares

    def running(self) -> Running:
        """What of it goes into a file's certificate."""
        return Running(
            budget_bytes=self.memory.available,
            context_tokens=self.config.context_tokens,
            kv_type=self.config.kv_type,
            batch_tokens=self.config.ubatch_tokens,
            peak_bytes=self.memory.total,
            kl=self.predicted_kl,
        )

    @property
    def file_bytes(self) -> int:
        """Of the tensors with their padding, and the metadata as long as it was."""
        return self.header.file_size

    @property
    def bits_per_weight(self) -> float:
        """What packed matrices share is counted."""
        packed = self.header.packed
        nbytes = sum(tensor.nbytes for tensor in self.header.tensors) + (packed.nbytes if packed else 0)
        return 8 * nbytes / sum(tensor.elements for tensor in self.header.all_tensors)


def planned_header(
    headers: Sequence[GgufHeader],
    formats: Mapping[str, AnyFormat],
    inputs: Mapping[str, str] | None = None,
) -> GgufHeader:
    """The header of the one file that a model of these ``headers`` becomes, its metadata as it is."""
    first = headers[0]
    offset = 0
    tensors = []
    words = []
    for header in headers:
        for tensor in header.tensors:
            fmt = formats.get(tensor.name)
            if isinstance(fmt, LtFormat):
                input_ = (inputs or {}).get(tensor.name, tensor.name)
                words.append(PackedEntry(tensor.name, fmt, tensor.shape, input_))
                continue
            kind = GGML_TYPES[fmt.ggml_type] if fmt else tensor.type
            nbytes = kind.row_bytes(tensor.elements)
            tensors.append(TensorInfo(tensor.name, kind, tensor.shape, offset, nbytes))
            offset += pad(nbytes, first.alignment)
    end = first.data_offset + offset
    if not words:
        return replace(first, tensors=tuple(tensors), file_size=end)
    section = packed_section(words, pad(end, SECTION_ALIGNMENT))
    size = section.offset + section.nbytes
    return replace(first, tensors=tuple(tensors), packed=section, file_size=size)
