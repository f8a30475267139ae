"""Draws the pictures in ``docs/screens``: the terminal app over the demo model, driven key by key.

    python packaging/screenshots.py docs/screens --work .cache/screens

Everything in them is real: answers of the demo model at temperature 0, and a second quantization of it that
is made once, in ``--work``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path

from textual.pilot import Pilot

from app.cli.front import Front
from app.settings import Settings
from app.store import Store
from app.tui.app import LocalqApp, Opening
from app.tui.preferences import Preferences
from app.tui.screens.making import MakingModel

ROOT = Path(__file__).resolve().parent.parent
SMALL = "demo:q3_k_m"
SIZE = "110x32"
QUESTION = "What is the capital of France? Answer in one sentence."
STORY = "Tell a story of a fox and a river in five sentences."
CODE = "Write a Python function that adds two numbers."
SECONDS = 300.0


class Stage:
    """The app, and what a scene does in it."""

    def __init__(self, app: LocalqApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits, at most ``SECONDS``."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        while not condition():
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"the app did not come to what was waited for:\n{self.text()}")
            await self.pilot.pause(0.05)
        await self.pilot.pause(0.3)

    async def ready(self) -> None:
        """Until the model is loaded."""
        await self.until(lambda: self.app.host.loaded is not None)
        if (chat := self.app.chat_screen) is not None:
            chat.editor.put("")  # the draft of the scene before

    def text(self) -> str:
        """What the screen says."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def ask(self, text: str) -> None:
        """A question, and its whole answer."""
        chat = self.app.chat_screen
        assert chat is not None
        chat.editor.put(text)
        await self.press_for_answer("enter")

    async def press_for_answer(self, key: str) -> None:
        """Presses what brings an answer, and waits for the whole of it."""
        chat, before = self.app.chat_screen, self._answers()
        assert chat is not None
        await self.pilot.press(key)
        await self.until(lambda: self._answers() > before)
        await self.until(lambda: chat.answering is None)

    def _answers(self) -> int:
        """How many the open chat has, in all branches; one that is being written too."""
        chat = self.app.chat_screen
        assert chat is not None and chat.session is not None
        return sum(message.role == "assistant" for message in chat.session.tree.by_id.values())


async def chat(stage: Stage) -> None:
    """An answer with code, and the gauges."""
    await stage.ready()
    await stage.ask(QUESTION)
    await stage.ask(CODE)


async def branches(stage: Stage) -> None:
    """The tree of a chat with branches."""
    await stage.ready()
    await stage.ask(QUESTION)
    await stage.press_for_answer("f5")
    await stage.ask("And of Spain?")
    await stage.pilot.press("ctrl+t")
    await stage.pilot.pause(0.5)


async def commands(stage: Stage) -> None:
    """Slash commands with completion."""
    await stage.ready()
    await stage.pilot.press("/")
    await stage.pilot.pause(0.3)  # before the draft is kept


async def history(stage: Stage) -> None:
    """Search as one types."""
    await stage.ready()
    await stage.pilot.press("f2", *"capital")
    await stage.pilot.pause(1.0)


async def models(stage: Stage) -> None:
    """Quality and speed of two quantizations, and the chart of one's layers."""
    from textual.widgets import OptionList

    await stage.ready()
    await stage.pilot.press("f3")
    await stage.pilot.pause(1.0)
    stage.app.screen.query_one("#models", OptionList).highlighted = 1
    await stage.pilot.pause(1.5)


async def compare(stage: Stage) -> None:
    """Where two quantizations part."""
    from app.tui.screens.compare import Compare

    await stage.ready()
    stage.app.push_screen(Compare("demo", STORY))
    await stage.pilot.pause(0.5)
    await stage.pilot.press("enter")
    screen = stage.app.screen
    assert isinstance(screen, Compare)
    await stage.until(lambda: screen.running)
    await stage.until(lambda: not screen.running)


async def settings(stage: Stage) -> None:
    """Sampling, and what a longer context takes."""
    from textual.widgets import Input

    await stage.ready()
    await stage.pilot.press("f4")
    await stage.pilot.pause(0.5)
    stage.app.screen.query_one("#context", Input).value = "8192"
    await stage.pilot.pause(1.0)


async def memory(stage: Stage) -> None:
    """The ledger."""
    await stage.ready()
    stage.app.chat_screen.action_memory()  # type: ignore[union-attr]
    await stage.pilot.pause(0.5)


async def first(stage: Stage) -> None:
    """An empty machine."""
    await stage.until(lambda: "TOK/S" in stage.text() and "no Hub" in stage.text())


async def making(stage: Stage) -> None:
    """A model of the Hub on its way: fetched, and being quantized for little memory."""
    from app.tui.screens.adding import Adding

    await stage.until(lambda: isinstance(stage.app.screen, Adding))
    await stage.pilot.press(*"smollm2-135m")
    await stage.until(lambda: "runs in" in stage.text())
    await stage.pilot.press("enter")
    await stage.until(lambda: "Make the best file" in stage.text())
    await stage.pilot.press("enter")
    await stage.until(lambda: isinstance(stage.app.screen, MakingModel))
    shown = stage.app.screen
    assert isinstance(shown, MakingModel)
    await stage.until(lambda: len(shown.making.layers) > 20)


SCENES: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    chat,
    branches,
    commands,
    history,
    models,
    compare,
    settings,
    memory,
    first,
    making,
)

EMPTY = (first, making)
"""Scenes on a machine without a model."""
LITTLE = 230 << 20

NEED_TWO = (models, compare)
"""Scenes with a second model."""


def prepare(home: Path, two: bool) -> None:
    """A store with the demo model, and if ``two`` a smaller quantization of it."""
    localq = [sys.executable, "-m", "app.cli.main"]
    environment = {**os.environ, "LOCALQ_HOME": str(home)}

    def run(*words: str) -> None:
        subprocess.run([*localq, *words], env=environment, cwd=ROOT, check=True)

    stored = {model.name for model in Store(home).list()}
    if "demo" not in stored:
        run("import", str(ROOT / ".cache" / "demo.gguf"), "--name", "demo")
    if two and SMALL not in stored:
        texts = ("--calib-tokens", "4096", "--eval-chunks", "8")
        run("quantize", "demo", "--to", "q3_k_m", "--out", SMALL, *texts)


@contextmanager
def hub(home: Path) -> Iterator[None]:
    """A Hub on this machine that has the demo model as it was before it was quantized, as far as that is
    known."""
    from benchmarks.originals import make_original
    from tests.hub.server import FakeHub

    original = home.parent / "original.gguf"
    if not original.exists():
        make_original(ROOT / ".cache" / "demo.gguf", original, dither=1)
    with FakeHub() as served:
        served.add(
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            {"SmolLM2-135M-Instruct-F16.gguf": original},
            info={"gguf": {"total": 134_515_008, "architecture": "llama", "context_length": 8192}},
        )
        os.environ["HF_ENDPOINT"] = served.endpoint
        os.environ.pop("HF_HUB_OFFLINE", None)
        yield


async def draw(
    scene: Callable[[Stage], Awaitable[None]], home: Path, target: Path, theme: str, size: tuple[int, int]
) -> None:
    """One picture."""
    greedy = Preferences(temperature=0.0, max_tokens=160)
    opening = Opening(model=None if scene in EMPTY else "demo", new=True, preferences=greedy, theme=theme)
    app = LocalqApp(Front(), Settings(home=home, ram=LITTLE if scene is making else None), opening)
    with hub(home) if scene is making else nullcontext():
        async with app.run_test(size=size) as pilot:
            await app.begun.wait()
            stage = Stage(app, pilot)
            await scene(stage)
            picture = app.export_screenshot(title="localq", simplify=True)
            if isinstance(app.screen, MakingModel):
                app.screen.making.stop = True
    # The id in a picture is drawn by lot; with one of its own the same screen is the same file.
    target.write_text(re.sub(r"terminal-\d+", f"terminal-{target.stem}", picture))
    print(target)


def main() -> None:
    """Draws all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "screens")
    parser.add_argument("--theme", default="localq-dark")
    parser.add_argument("--size", default=SIZE, help="Columns and lines.")
    parser.add_argument("--only", nargs="*", default=[scene.__name__ for scene in SCENES])
    options = parser.parse_args()
    columns, lines = map(int, options.size.split("x"))
    folder, home = options.folder.absolute(), options.work.absolute() / "home"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [scene for scene in SCENES if scene.__name__ in options.only]
    prepare(home, any(scene in NEED_TWO for scene in chosen))
    empty = options.work.absolute() / "empty"
    with chdir(ROOT):
        for scene in chosen:
            place = empty / scene.__name__ if scene in EMPTY else home
            if scene in EMPTY:
                shutil.rmtree(place, ignore_errors=True)
            target = folder / f"{scene.__name__}.svg"
            asyncio.run(draw(scene, place, target, options.theme, (columns, lines)))


if __name__ == "__main__":
    main()
