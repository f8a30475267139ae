"""Models in memory: loaded when they are asked for, kept as long as the memory holds them.

What counts is memory, not a number of models. A model that answers is never unloaded; where there is no room
for another one, its request waits until an idle model can go, and the busy one then takes no new requests, so
that the two do not chase each other out with every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from app.server.admission import Admission, Gate
from app.server.catalog import Catalog, Offered
from app.server.planning import plan_serving
from app.settings import Settings
from runtime.budget import MemoryPlan
from runtime.engine.config import EngineConfig
from runtime.engine.messages import ModelInfo
from runtime.errors import DoesNotFit
from runtime.gguf import open_model
from runtime.hardware import Machine, this_machine
from runtime.units import format_bytes

SERVED_SECONDS = 5.0
"""A model that has just been loaded answers for so long before another one may claim its memory."""
REAP_SECONDS = 1.0
AHEAD = 2
"""Requests for each slot that the engine has at once: it places them well when it knows several."""

log = logging.getLogger("localq.server")


@dataclass(frozen=True)
class Prefixes:
    """Where long system prompts are kept for the next process, and how many bytes they may take there."""

    folder: Path
    nbytes: int


@dataclass(eq=False)
class Model:
    """A loaded model. ``users`` are requests that have it now."""

    offered: Offered
    engine: Any
    info: ModelInfo
    plan: MemoryPlan
    gate: Gate
    loaded: float
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)
    claimed: bool = False
    """Another model waits for its memory: it takes no new requests."""

    @property
    def name(self) -> str:
        return self.offered.name


class ModelPool:
    """Gives requests their model. All methods are for the loop's thread."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        admission: Admission,
        open_engine: Callable[[EngineConfig, Callable[[float], None] | None], Any],
        *,
        slots: int | None = None,
        gpu_layers: int = 0,
        ttl_seconds: float | None = None,
        force: bool = False,
        prefixes: Prefixes | None = None,
        machine: Callable[..., Machine] = this_machine,
    ) -> None:
        self.catalog = catalog
        self._settings = settings
        self._admission = admission
        self._open_engine = open_engine
        self._slots = slots
        self._gpu_layers = gpu_layers
        self._ttl = ttl_seconds
        self._force = force
        self._prefixes = prefixes
        self._machine = machine
        self._changing = asyncio.Lock()
        self._freed = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None
        self.models: dict[str, Model] = {}
        self.loads = 0
        self.loading: str | None = None

    @contextlib.asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Model]:
        """Have a model, loaded, for one request. Raises ModelNotFound, DoesNotFit, ModelLoadFailed,
        Refusal."""
        offered = await asyncio.to_thread(self.catalog.get, name) if name not in self.models else None
        model = self.models.get(name or "") or (self.models.get(offered.name) if offered else None)
        if model is None or model.claimed:
            assert offered is not None or model is not None
            wanted = offered or (model.offered if model else None)
            assert wanted is not None
            model = await self._load(wanted)
        else:
            model.users += 1
        try:
            yield model
        finally:
            model.users -= 1
            model.last_used = time.monotonic()
            self._freed.set()

    def start(self) -> None:
        """Begin to unload what rests too long."""
        if self._ttl is not None:
            self._reaper = asyncio.get_running_loop().create_task(self._reap())

    async def unload(self, name: str) -> bool:
        """Unload a model that rests; False for one that is not there or answers."""
        async with self._changing:
            model = self.models.get(name)
            if model is None or model.users:
                return False
            await self._drop(model)
            return True

    async def close(self) -> None:
        """Unload everything."""
        if self._reaper is not None:
            self._reaper.cancel()
        for model in list(self.models.values()):
            await self._drop(model)

    # -- inside ---------------------------------------------------------------------------------------------

    async def _load(self, offered: Offered) -> Model:
        """The model, with one more user. Waits in line with other loads."""
        with self._admission.wait():
            async with self._changing:
                model = self.models.get(offered.name)
                if model is None:
                    # A load goes on when its request is given up: the next one will want the model.
                    task = asyncio.get_running_loop().create_task(self._bring(offered))
                    model = await asyncio.shield(task)
                model.users += 1
                return model

    async def _bring(self, offered: Offered) -> Model:
        plan = await asyncio.to_thread(self._plan, offered)
        await self._make_room(plan, offered.name)
        started = time.monotonic()
        self.loading = offered.name
        try:
            engine = self._open_engine(self._with_prefixes(plan.config), None)
            try:
                info = await asyncio.to_thread(engine.start)
            except BaseException:
                await asyncio.to_thread(engine.close)
                raise
        finally:
            self.loading = None
        model = Model(
            offered, engine, info, plan, Gate(AHEAD * info.slots, self._admission), time.monotonic()
        )
        self.models[offered.name] = model
        self.loads += 1
        log.info(
            "loaded %s in %.1f s: context %d x %d, %s",
            offered.name,
            time.monotonic() - started,
            info.context_tokens,
            info.slots,
            format_bytes(plan.total),
        )
        return model

    def _with_prefixes(self, config: EngineConfig) -> EngineConfig:
        kept = self._prefixes
        if kept is None:
            return config
        return msgspec.structs.replace(config, prefix_folder=str(kept.folder), prefix_bytes=kept.nbytes)

    def _plan(self, offered: Offered) -> MemoryPlan:
        return plan_serving(
            open_model(offered.found.paths),
            self._settings,
            self._machine(ram=self._settings.ram),
            slots=self._slots,
            gpu_layers=self._gpu_layers,
        )

    async def _make_room(self, plan: MemoryPlan, name: str) -> None:
        """Unload idle models, and wait for busy ones, until ``plan`` fits. Raises DoesNotFit."""
        try:
            while not await asyncio.to_thread(self._fits, plan):
                movable = [model for model in self.models.values() if not model.offered.pinned]
                idle = [model for model in movable if not model.users]
                if idle:
                    await self._drop(min(idle, key=lambda model: model.last_used))
                elif movable:
                    await self._claim(min(movable, key=lambda model: model.loaded))
                elif self._force:
                    return
                else:
                    self._refuse(plan, name)
        finally:
            for model in self.models.values():
                model.claimed = False

    async def _claim(self, model: Model) -> None:
        """Wait for the end of what a busy model does; after a while it takes no new requests."""
        self._freed.clear()
        rest = model.loaded + SERVED_SECONDS - time.monotonic()
        model.claimed = rest <= 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if model.claimed else rest):
                await self._freed.wait()

    def _fits(self, plan: MemoryPlan) -> bool:
        """Whether ``plan`` fits beside what is loaded.

        What models have taken is no longer available, but for pages of mapped files: those count as available
        while they are needed.
        """
        ram = self._settings.ram
        held = sum(model.plan.total for model in self.models.values())
        mapped = sum(model.plan.reclaimable for model in self.models.values())
        if ram is not None and held + plan.total > ram:
            return False
        memory = self._machine(ram=None).memory
        return replace(plan, memory=memory).total + mapped <= memory.available

    def _refuse(self, plan: MemoryPlan, name: str) -> None:
        if not self.models:
            plan.check()
        held = sum(model.plan.total for model in self.models.values())
        available = self._machine(ram=None).memory.available
        raise DoesNotFit(
            f"{name} needs {format_bytes(plan.total)}; {format_bytes(available)} are available beside the "
            f"pinned models, which hold {format_bytes(held)}",
            needed_bytes=plan.total,
            available_bytes=available,
        )

    async def _drop(self, model: Model) -> None:
        del self.models[model.name]
        await asyncio.to_thread(model.engine.close)
        log.info("unloaded %s", model.name)

    async def _reap(self) -> None:
        assert self._ttl is not None
        while True:
            await asyncio.sleep(min(REAP_SECONDS, self._ttl))
            limit = time.monotonic() - self._ttl
            async with self._changing:
                for model in list(self.models.values()):
                    if not model.users and not model.offered.pinned and model.last_used < limit:
                        await self._drop(model)
