"""What the tests of the terminal app share: the app over a store of its own, with an engine by script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from app.chats import Chats
from app.cli.front import EngineLike, Front
from app.settings import Settings
from app.store import Source, Store
from app.tui.app import LocalqApp, Opening
from app.tui.screens.chat import ChatScreen
from runtime.engine.config import EngineConfig
from runtime.errors import LocalqError
from tests.app.fake_engine import FakeEngine
from tests.app.tiny_model import write_tiny_model

SMALL, LARGE = (80, 24), (120, 36)


@dataclass
class Stage:
    """A person's machine: a store with the model ``tiny``, chats, and engines that were opened."""

    folder: Path
    engines: list[FakeEngine] = field(default_factory=list)
    make_engine: Callable[..., FakeEngine] = FakeEngine
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def store(self) -> Store:
        return Store(self.home)

    def add_model(self, name: str = "tiny", **texts: Any) -> None:
        path = write_tiny_model(self.folder / f"{name}.gguf", **texts)
        source = Source(kind="file", origin="made for a test")
        self.store.import_file(path, name, source=source)

    def app(self, **opening: Any) -> LocalqApp:
        """The app, not running yet."""
        front = Front(open_engine=self._open_engine)
        return LocalqApp(front, Settings(home=self.home, **self.settings), Opening(**opening))

    @asynccontextmanager
    async def open(
        self, size: tuple[int, int] = SMALL, **opening: Any
    ) -> AsyncIterator[tuple[LocalqApp, Pilot[None]]]:
        """The app, running, with its chats open."""
        app = self.app(**opening)
        async with app.run_test(size=size) as pilot:
            await asyncio.wait_for(app.begun.wait(), 10)
            await pilot.pause()
            yield app, pilot
            assert [error for error in app.failures if not isinstance(error, LocalqError)] == []

    def chats(self) -> Chats:
        return Chats(self.home)

    def _open_engine(self, config: EngineConfig, on_progress: Callable[[float], None] | None) -> EngineLike:
        engine = self.make_engine(config, on_progress)
        self.engines.append(engine)
        return engine


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits until ``condition`` holds; fails where it never does."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"never: {condition}\n{text_of(pilot.app)}")
        await pilot.pause(0.02)


def text_of(app: Any) -> str:
    """What the screen says, line by line."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def chat_of(app: LocalqApp) -> ChatScreen:
    screen = app.chat_screen
    assert screen is not None
    return screen


async def say(pilot: Pilot[None], text: str) -> None:
    """Types a text into the editor, and sends it."""
    app = pilot.app
    assert isinstance(app, LocalqApp)
    chat_of(app).editor.put(text)
    await pilot.press("enter")


async def answered(pilot: Pilot[None], times: int = 1) -> None:
    """Waits until there are so many answers, and none is under way."""
    app = pilot.app
    assert isinstance(app, LocalqApp)

    def over() -> bool:
        entries = chat_of(app).transcript.entries
        answers = [entry for entry in entries if entry.role == "assistant" and not entry.live]
        return len(answers) >= times and chat_of(app).answering is None and chat_of(app)._live is None

    await until(pilot, over)
    await pilot.pause()
