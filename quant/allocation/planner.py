"""Context, KV cache, buffers and weights together, within the memory of one machine.

Everything but the weights follows from context, cache type and batch; the weights get what remains, and the
best choice of formats in it. What the whole takes is read off the header that the file would have, so that
mapped pages, repacked copies and shared matrices count as they will.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import msgspec

from quant.allocation.joint import CACHE_NATS, JointPlan, Model, planned_header
from quant.allocation.recipe import KEEP
from quant.allocation.solve import Choices, Option, solved, total_bytes
from quant.allocation.speed import Speeds
from quant.formats.registry import ANY_BY_NAME
from runtime.budget import best_mmap, plan_memory
from runtime.budget.reading import read_shares
from runtime.budget.shape import read_shape
from runtime.engine.config import EngineConfig, KvType
from runtime.errors import InvalidRequest
from runtime.hardware.machine import Machine
from runtime.hardware.memory import MemoryTerm

CONTEXTS: Final = (2048, 4096, 8192, 16384, 32768)
"""Lengths to choose from where the person names none, as far as the model was trained for them."""
WORTH: Final = 1.1
"""A longer context may cost so many times the divergence of the shortest one, or LEAST_WORTH more."""
LEAST_WORTH: Final = 0.001
BATCHES: Final = (512, 256, 128, 64)
"""Tokens of one pass: a smaller batch needs smaller buffers, and reads prompts more slowly."""
SLOWER_BATCH: Final = 0.02
LEAST_SAVED: Final = 0.0005
"""A smaller batch is taken where it saves this share of the divergence, and so many nats."""
CORRECTIONS: Final = 6
"""How often the room for the weights is put right by what the whole would take."""

Prefer: TypeAlias = Literal["quality", "balanced", "speed"]
GIVEN_UP: Final[Mapping[Prefer, tuple[float, float]]] = {
    "quality": (1.0, 0.0),
    "balanced": (1.0, 0.006),
    "speed": (1.25, 0.01),
}
"""What may be given up of the quality for speed: times the least divergence, and nats beside it. ``balanced``
gives up about what it costs to store all weights in 8 bits, most of which is the rounding of inputs."""
EXCHANGES: Final = tuple(2.0 ** (power / 2) for power in range(-8, 18))
"""Rates of exchange to try between divergence and time: thousandths of a nat for the time of all weights as
they are."""


class Planner:
    """Plans of one model on one machine. Raises GgufError where a header lacks a hyperparameter.

    Quality is given up for speed as far as ``prefer`` allows.
    """

    def __init__(
        self,
        model: Model,
        machine: Machine,
        *,
        threads: int = 0,
        slots: int = 1,
        speeds: Speeds | None = None,
        prefer: Prefer = "quality",
    ) -> None:
        self.model = model
        self.machine = machine
        self.speeds = speeds or Speeds()
        self.prefer = prefer
        self._base = EngineConfig(
            model_paths=tuple(str(header.path) for header in model.headers), threads=threads, slots=slots
        )
        self._shape = read_shape(model.headers[0])
        self._options = model.measured.options()
        self._nats = {
            (name, option.format): option.cost for name, found in self._options.items() for option in found
        }
        self._solved = {0.0: model.measured.solved()}
        """By what a second of reading weights is worth, in nats."""

    def within(self, available_bytes: int) -> Planner:
        """The same on a machine that has so much memory available; what was solved is shared."""
        other = copy.copy(self)
        other.machine = with_available(self.machine, available_bytes)
        return other

    def best(
        self, *, context: int | None = None, kv_type: KvType | None = None, file_bytes: int | None = None
    ) -> JointPlan | None:
        """The plan with the least divergence, for the longest context that is worth it; None if none fits.

        Without ``context`` that is the longest of :data:`CONTEXTS` that costs at most a tenth more divergence
        than the shortest. A smaller cache type is taken where the weights gain more by it than it costs.
        ``file_bytes`` is a bound for the file, beside that of the memory.
        """
        if context is not None:
            return self._faster(self._best_at(context, kv_type, file_bytes), file_bytes)
        chosen = shortest = None
        for length in self.contexts():
            plan = self._best_at(length, kv_type, file_bytes)
            if plan is None:
                break
            shortest = shortest or plan
            if plan.predicted_kl > shortest.predicted_kl * WORTH + LEAST_WORTH:
                break
            chosen = plan
        return self._faster(chosen, file_bytes)

    def least(self, *, context: int | None = None, kv_type: KvType | None = None) -> JointPlan:
        """What takes the least memory of all, whether it fits or not: the smallest formats, cache and batch.

        Raises :class:`InvalidRequest` for a cache type that the model's heads do not fit.
        """
        kinds = (kv_type,) if kv_type else tuple(CACHE_NATS)
        plans = []
        for kind in kinds:
            config = msgspec.structs.replace(
                self._base,
                context_tokens=context or self.contexts()[0],
                kv_type=kind,
                ubatch_tokens=BATCHES[-1],
            )
            try:
                plans += [self._plan(each.within(each.least_bytes), config) for each in self._solved[0.0]]
            except InvalidRequest:
                if kv_type:
                    raise
        return min(plans, key=lambda plan: plan.memory.total)

    def _faster(self, best: JointPlan | None, file_bytes: int | None) -> JointPlan | None:
        """A plan that reads its weights sooner than ``best``, for no more than may be given up."""
        times, nats = GIVEN_UP[self.prefer]
        if best is None or (times, nats) == (1.0, 0.0):
            return best
        most = best.predicted_kl * times + nats
        fastest = best
        low, high = 0, len(EXCHANGES)  # below low all give up little enough, from high on too much
        while low < high:
            middle = (low + high) // 2
            plan = self.fill(best.config, file_bytes, self._second_nats(EXCHANGES[middle]))
            if plan is not None and plan.predicted_kl <= most:
                fastest, low = plan, middle + 1
            else:
                high = middle
        return fastest

    def _second_nats(self, exchange: float) -> float:
        """What a second is worth, in nats, where as much time as the model takes now is worth ``exchange``
        thousandths."""
        return exchange / 1000 / self.speeds.weights_seconds(self.model.headers)

    def _with_time(self, second_nats: float) -> list[Choices]:
        """With the time that an option takes in its cost."""
        if second_nats not in self._solved:
            headers = self.model.headers
            shares = read_shares(headers)
            types = {tensor.name: tensor.type.name for header in headers for tensor in header.tensors}

            def timed(name: str, option: Option) -> Option:
                kind = types[name] if option.format == KEEP else option.format
                seconds = self.speeds.weight_seconds(kind, option.nbytes * shares[name])
                return replace(option, cost=option.cost + second_nats * seconds)

            self._solved[second_nats] = solved(
                {name: [timed(name, option) for option in found] for name, found in self._options.items()}
            )
        return self._solved[second_nats]

    @property
    def most_bytes(self) -> int:
        """What the model takes as it is, with the shortest context to choose."""
        config = msgspec.structs.replace(self._base, context_tokens=self.contexts()[0])
        return plan_memory(planned_header(self.model.headers, {}), config, self.machine).total

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
            if best is not None and (
                plan.predicted_kl > best.predicted_kl * (1 - SLOWER_BATCH)
                or plan.predicted_kl > best.predicted_kl - LEAST_SAVED
            ):
                break
            best = plan
        return best

    def fill(
        self, config: EngineConfig, file_bytes: int | None = None, second_nats: float = 0.0
    ) -> JointPlan | None:
        """The best weights that fit beside everything else of ``config``; None where none do.

        What counts is the divergence, and ``second_nats`` for each second that reading them takes.
        """

        def cost(plan: JointPlan) -> float:
            time = self.speeds.weights_seconds([plan.header]) if second_nats else 0.0
            return plan.weight_nats + second_nats * time

        found = [self._fill(config, file_bytes, each) for each in self._with_time(second_nats)]
        return min((plan for plan in found if plan), key=cost, default=None)

    def _fill(self, config: EngineConfig, file_bytes: int | None, choices: Choices) -> JointPlan | None:
        try:
            smallest = self._plan(choices.within(choices.least_bytes), config)
        except InvalidRequest:  # this type of cache does not fit the model's heads
            return None
        available, least = self.machine.memory.available, choices.least_bytes

        def beyond(plan: JointPlan) -> int:
            memory = plan.memory.total - available
            return memory if file_bytes is None else max(memory, plan.file_bytes - file_bytes)

        room = least - beyond(smallest)
        best = None
        for _ in range(CORRECTIONS):
            if room < least:
                break
            chosen = choices.within(room)
            plan = self._plan(chosen, config)
            over = beyond(plan)
            if over <= 0 and (best is None or plan.weight_nats < best.weight_nats):
                best = plan
            elif over <= 0:
                break
            room = (total_bytes(chosen.values()) if over > 0 else room) - over
        return best

    def _plan(self, chosen: Mapping[str, Option], config: EngineConfig) -> JointPlan:
        formats = dict(self.model.settled)
        formats |= {
            name: ANY_BY_NAME[option.format] for name, option in chosen.items() if option.format != KEEP
        }
        header = planned_header(self.model.headers, formats, self.model.inputs)
        config = msgspec.structs.replace(
            config, mmap=best_mmap(header, self.machine.features, self.machine.packs)
        )
        return JointPlan(
            config=config,
            memory=plan_memory(header, config, self.machine),
            header=header,
            formats=formats,
            weight_nats=sum(self._nats[name, option.format] for name, option in chosen.items()),
        )


def with_available(machine: Machine, nbytes: int) -> Machine:
    """The machine as if it had ``nbytes`` available."""
    term = MemoryTerm("the plan", max(nbytes, 0), "asked for")
    return replace(machine, memory=replace(machine.memory, terms=(term,)))
