"""Context, KV cache, buffers and weights together, within the memory of one machine.

Everything but the weights follows from context, cache type and batch; the weights get what remains, and the
best choice of formats in it. What the whole takes is read off the header that the file would have, so that
mapped pages, repacked copies and shared matrices count as they will.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from quant.allocation.measure import Measured
from quant.allocation.recipe import KEEP
from quant.allocation.solve import Choices, Option
from quant.formats.format import Format
from quant.formats.registry import BY_NAME
from runtime.budget import MemoryPlan, best_mmap, plan_memory
from runtime.budget.shape import read_shape
from runtime.engine.config import EngineConfig, KvType
from runtime.errors import InvalidRequest
from runtime.gguf import GgufHeader, TensorInfo
from runtime.gguf.ggml_types import GGML_TYPES
from runtime.gguf.tensors import pad
from runtime.hardware.machine import Machine

CACHE_NATS: Final[Mapping[KvType, float]] = {"f16": 0.0, "q8_0": 0.0005, "q4_0": 0.08}
"""Divergence that a cache of each type adds: SmolLM2-135M and Gemma-3-270M, see docs/allocation.md."""
CONTEXTS: Final = (2048, 4096, 8192, 16384, 32768)
"""Lengths to choose from where the person names none, as far as the model was trained for them."""
WORTH: Final = 1.1
"""A longer context may cost so many times the divergence of the shortest one, or LEAST_WORTH more."""
LEAST_WORTH: Final = 0.001
BATCHES: Final = (512, 256, 128, 64)
"""Tokens of one pass: a smaller batch needs smaller buffers, and reads prompts more slowly."""
SLOWER_BATCH: Final = 0.02
"""A smaller batch is taken where it saves this share of the divergence."""
CORRECTIONS: Final = 6
"""How often the room for the weights is put right by what the whole would take."""


@dataclass(frozen=True)
class Model:
    """What planning needs to know of a model: its files' headers, and what its tensors may become."""

    headers: tuple[GgufHeader, ...]
    measured: Measured
    settled: Mapping[str, Format] = field(default_factory=dict)
    """A person's own choices, of tensors that are not in ``measured``."""


@dataclass(frozen=True)
class JointPlan:
    """One way to run a model in a budget."""

    config: EngineConfig
    memory: MemoryPlan
    header: GgufHeader
    """As the file would have it."""
    formats: Mapping[str, Format]
    """A tensor without one stays as it is."""
    weight_nats: float

    @property
    def predicted_kl(self) -> float:
        """Mean divergence from the original, in nats."""
        return self.weight_nats + CACHE_NATS[self.config.kv_type]

    @property
    def file_bytes(self) -> int:
        """Of the tensors with their padding, and the metadata as long as it was."""
        return self.header.file_size

    @property
    def bits_per_weight(self) -> float:
        elements = sum(tensor.elements for tensor in self.header.tensors)
        return 8 * sum(tensor.nbytes for tensor in self.header.tensors) / elements


class Planner:
    """Plans of one model on one machine. Raises GgufError where a header lacks a hyperparameter."""

    def __init__(self, model: Model, machine: Machine, *, threads: int = 0, slots: int = 1) -> None:
        self.model = model
        self.machine = machine
        self._base = EngineConfig(
            model_paths=tuple(str(header.path) for header in model.headers), threads=threads, slots=slots
        )
        self._shape = read_shape(model.headers[0])
        self._choices = Choices(model.measured.options(), max(machine.memory.available, 0))

    def best(
        self, *, context: int | None = None, kv_type: KvType | None = None, file_bytes: int | None = None
    ) -> JointPlan | None:
        """The plan with the least divergence, for the longest context that is worth it; None if none fits.

        Without ``context`` that is the longest of :data:`CONTEXTS` that costs at most a tenth more divergence
        than the shortest. A smaller cache type is taken where the weights gain more by it than it costs.
        ``file_bytes`` is a bound for the file, beside that of the memory.
        """
        if context is not None:
            return self._best_at(context, kv_type, file_bytes)
        chosen = shortest = None
        for length in self.contexts():
            plan = self._best_at(length, kv_type, file_bytes)
            if plan is None:
                break
            shortest = shortest or plan
            if plan.predicted_kl > shortest.predicted_kl * WORTH + LEAST_WORTH:
                break
            chosen = plan
        return chosen

    def contexts(self) -> tuple[int, ...]:
        """What the model was trained for, of :data:`CONTEXTS`."""
        trained = self._shape.trained_context
        fitting = tuple(length for length in CONTEXTS if not 0 < trained < length)
        return fitting or (trained,)

    def _best_at(self, context: int, kv_type: KvType | None, file_bytes: int | None) -> JointPlan | None:
        plans = [
            plan
            for kind in ((kv_type,) if kv_type else CACHE_NATS)
            if (plan := self._best_batch(context, kind, file_bytes)) is not None
        ]
        return min(plans, key=lambda plan: plan.predicted_kl, default=None)

    def _best_batch(self, context: int, kv_type: KvType, file_bytes: int | None) -> JointPlan | None:
        best = None
        for batch in BATCHES:
            config = msgspec.structs.replace(
                self._base, context_tokens=context, kv_type=kv_type, ubatch_tokens=min(batch, context)
            )
            plan = self.fill(config, file_bytes)
            if plan is None:
                continue
            if best is not None and plan.predicted_kl >= best.predicted_kl * (1 - SLOWER_BATCH):
                break
            best = plan
        return best

    def fill(self, config: EngineConfig, file_bytes: int | None = None) -> JointPlan | None:
        """The best weights that fit beside everything else of ``config``; None where none do."""
        try:
            smallest = self._plan(self._choices.within(self._choices.least_bytes), config)
        except InvalidRequest:  # this type of cache does not fit the model's heads
            return None
        available, least = self.machine.memory.available, self._choices.least_bytes
        most = available if file_bytes is None else least + file_bytes - smallest.file_bytes
        room = least + available - smallest.memory.total
        best = None
        for _ in range(CORRECTIONS):
            room = min(room, most)
            if room < least:
                break
            chosen = self._choices.within(room)
            plan = self._plan(chosen, config)
            over = plan.memory.total - available
            if over <= 0 and (best is None or plan.weight_nats < best.weight_nats):
                best = plan
            elif over <= 0:
                break
            if room == most and over <= 0:
                break
            room = (sum(option.nbytes for option in chosen.values()) if over > 0 else room) - over
        return best

    def _plan(self, chosen: Mapping[str, Option], config: EngineConfig) -> JointPlan:
        formats = dict(self.model.settled)
        formats |= {name: BY_NAME[option.format] for name, option in chosen.items() if option.format != KEEP}
        header = planned_header(self.model.headers, formats)
        config = msgspec.structs.replace(config, mmap=best_mmap(header, self.machine.features))
        return JointPlan(
            config=config,
            memory=plan_memory(header, config, self.machine),
            header=header,
            formats=formats,
            weight_nats=sum(option.cost for option in chosen.values()),
        )


def planned_header(headers: Sequence[GgufHeader], formats: Mapping[str, Format]) -> GgufHeader:
    """The header of the one file that a model of these ``headers`` becomes, its metadata as it is."""
    first = headers[0]
    offset = 0
    tensors = []
    for header in headers:
        for tensor in header.tensors:
            kind = GGML_TYPES[formats[tensor.name].ggml_type] if tensor.name in formats else tensor.type
            nbytes = kind.row_bytes(tensor.elements)
            tensors.append(TensorInfo(tensor.name, kind, tensor.shape, offset, nbytes))
            offset += pad(nbytes, first.alignment)
    return replace(first, tensors=tuple(tensors), file_size=first.data_offset + offset)
