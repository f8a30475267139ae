"""The model that answers: resolved, planned, loaded, and changed for another. Methods block; any thread."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from app.cli.front import EngineLike, Front, GenerationLike
from app.settings import Settings
from runtime.engine.config import KvType
from runtime.engine.messages import ModelInfo, Prompt, SamplingParams
from runtime.errors import EngineError, LocalqError

if TYPE_CHECKING:
    from app.store import ChatDefaults, Manifest, Store
    from app.tui.served import Served
    from runtime.budget import MemoryPlan


class ChatEngine(EngineLike, Protocol):
    """What the app needs of ``runtime.engine.client.Engine`` beside what the command line does."""

    def submit(
        self,
        prompt: Prompt | Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        ignore_eos: bool = False,
        cache_prompt: bool = True,
    ) -> GenerationLike: ...

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, variables: Mapping[str, Any] | None = None
    ) -> Prompt: ...

    @property
    def pid(self) -> int | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Wanted:
    """A model, and how it is loaded: a change of any of these is another load. None = as the settings say."""

    reference: str
    context: int | None = None
    kv: KvType | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Loaded:
    """A model that answers."""

    wanted: Wanted
    name: str
    plan: MemoryPlan
    engine: ChatEngine
    context_tokens: int
    defaults: ChatDefaults
    info: ModelInfo | None = None
    """What its worker told; None of one that a server has."""
    served: str = ""
    """Address of the server that has it in memory; empty for a worker of our own."""

    @property
    def lost(self) -> bool:
        """Whether it is gone for good: a worker is started again by its engine, a server is not."""
        return not getattr(self.engine, "alive", True)


class Host:
    """Holds one model at a time. The one before is unloaded before the next is planned.

    ``on_progress`` hears of a load under way: what is done, and the share of it, 0 to 1.
    """

    def __init__(self, front: Front, settings: Settings) -> None:
        self.front = front
        self.settings = settings
        self.loaded: Loaded | None = None
        self.wanted: Wanted | None = None
        self.failure: LocalqError | None = None
        self.on_progress: Callable[[str, float], None] = lambda what, share: None
        self._loading = threading.Lock()
        self._engine: ChatEngine | None = None
        self._closed = False

    @cached_property
    def store(self) -> Store:
        """Where the models are; not looked for before somebody asks."""
        return self.front.store(self.settings)

    def load(self, wanted: Wanted, *, own: bool = False) -> Loaded:
        """The model, loaded now unless it is already; ``own``: even where a server has it in memory.

        Raises what ``resolve``, ``open_model``, the plan's ``check`` and the engine's ``start`` raise; then
        no model is loaded.
        """
        self.wanted = wanted
        with self._loading:
            if self.loaded is not None and self.loaded.wanted == wanted and not self.loaded.lost:
                return self.loaded
            self._unload()
            try:
                self.loaded = self._load(wanted, own)
                self.failure = None
            except LocalqError as error:
                self.failure = error
                raise
            return self.loaded

    def ready(self) -> Loaded:
        """The model that was wanted last, as soon as it is loaded. Raises EngineError where there is none."""
        if self.wanted is None:
            raise EngineError("no model is chosen; F3 shows those that there are")
        return self.load(self.wanted)

    @property
    def loading(self) -> bool:
        return self._loading.locked()

    def unload(self) -> None:
        """Gives the memory back; the next :meth:`ready` loads the model again."""
        with self._loading:
            self._unload()

    def close(self) -> None:
        """Unload for good; a load or a request that is under way ends."""
        self._closed = True
        engine = self._engine
        if engine is not None:
            engine.close()
        with self._loading:
            self._unload()

    def plan(self, wanted: Wanted) -> MemoryPlan:
        """What loading would take. Raises what ``resolve``, ``open_model`` and ``plan_memory`` raise."""
        return self._plan(wanted)[1]

    # -- within ---------------------------------------------------------------------------------------------

    def _plan(self, wanted: Wanted) -> tuple[Any, MemoryPlan]:
        from app.cli.loading import plan_model
        from app.models import require_unicode, resolve
        from runtime.gguf import open_model
        from runtime.hardware import this_machine

        found = resolve(wanted.reference, self.store, self._fetch)
        for path in found.paths:
            require_unicode(path)
        settings = dataclasses.replace(
            self.settings,
            context=wanted.context or self.settings.context,
            kv=wanted.kv or self.settings.kv,
            threads=wanted.threads or self.settings.threads,
        )
        return found, plan_model(open_model(found.paths), settings, this_machine(ram=settings.ram))

    def _load(self, wanted: Wanted, own: bool) -> Loaded:
        found, plan = self._plan(wanted)
        from app.store import ChatDefaults

        defaults = found.manifest.defaults if found.manifest else ChatDefaults()
        if not own and (served := self._served(found.name, wanted)) is not None:
            from app.tui.served import ServedEngine

            engine = self._engine = cast(ChatEngine, ServedEngine(served))
            tokens, url = served.context_tokens, served.server.url
            return Loaded(wanted, found.name, plan, engine, tokens, defaults, served=url)
        plan.check()
        said = f"loading {found.name}"
        self.on_progress(said, 0.0)
        opened = self.front.open_engine(plan.config, lambda share: self.on_progress(said, share))
        engine = self._engine = cast(ChatEngine, opened)
        try:
            if self._closed:
                raise EngineError("localq is ending")
            info = engine.start()
        except BaseException:
            engine.close()
            raise
        return Loaded(wanted, found.name, plan, engine, info.context_tokens, defaults, info)

    def _served(self, name: str, wanted: Wanted) -> Served | None:
        """The model on a server of this machine, unless it is wanted otherwise than it is there."""
        from app.tui.served import find_served

        if wanted.kv is not None or wanted.threads is not None:
            return None
        found = find_served(self.store.home, name)
        context = wanted.context or self.settings.context
        return found if found is not None and context in (None, found.context_tokens) else None

    def _fetch(self, store: Store) -> Manifest:
        from app.hub.demo import fetch_demo

        return fetch_demo(
            store, lambda done, total: self.on_progress("fetching the demo model", done / max(1, total))
        )

    def _unload(self) -> None:
        if self.loaded is not None:
            self.loaded.engine.close()
            self.loaded = self._engine = None
