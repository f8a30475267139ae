"""What a command is given to work with: where to print, which settings, how to open a store and an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from app.cli.output import Output

if TYPE_CHECKING:
    from app.chats import Chats
    from app.settings import Settings
    from app.store import Store
    from runtime.engine.config import EngineConfig
    from runtime.engine.messages import Event, ModelInfo, Prompt, SamplingParams


class GenerationLike(Protocol):
    """One answer under way: typed events, the last of them a FinishedEvent; a failure is raised."""

    def __iter__(self) -> Iterator[Event]: ...

    def cancel(self) -> None: ...


class EngineLike(Protocol):
    """The part of ``runtime.engine.client.Engine`` that the command line uses."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self) -> ModelInfo: ...

    def submit(
        self,
        prompt: Prompt | Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        cache_prompt: bool = True,
    ) -> GenerationLike: ...

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> GenerationLike: ...

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]: ...

    def peak_memory_bytes(self) -> int: ...


def _open_engine(config: EngineConfig, on_progress: Callable[[float], None] | None) -> EngineLike:
    from runtime.engine.client import Engine

    return Engine(config, on_progress=on_progress)


def _open_store(home: Path | None) -> Store:
    from app.store import Store

    return Store.default() if home is None else Store(home)


@dataclass
class Front:
    """One invocation of the command line. Tests pass their own ``open_engine`` and ``open_store``."""

    out: Output = field(default_factory=Output)
    arguments: tuple[str, ...] = ()
    """The command line as it was given, without the program's name."""
    model: str | None = None
    """The model argument under way, for the commands that an error proposes."""
    piped: bool = False
    """Text came through a pipe: the same command again would lack it."""
    trained_context: int = 0
    """Tokens that the model under way was trained for; 0 where that is not known."""
    open_engine: Callable[[EngineConfig, Callable[[float], None] | None], EngineLike] = _open_engine
    open_store: Callable[[Path | None], Store] = _open_store

    def settings(self, **flags: Any) -> Settings:
        """The settings under these flags; a flag that is None was not given."""
        from app.settings import load_settings

        settings = load_settings(flags)
        self.out.color = settings.color
        return settings

    def store(self, settings: Settings | None = None) -> Store:
        """The person's store."""
        return self.open_store((settings or self.settings()).home)

    def chats(self, settings: Settings | None = None) -> Chats:
        """The person's chats. Where none were ever kept they are empty, and no file is made for that."""
        from app.chats import Chats

        home = self.store(settings).home
        return Chats(home if Chats.exist(home) else None)
