"""The app in a terminal of its own, led by itself: through every screen with texts of a kind, or asking on.

python -m tests.app.tui_child tour HOME hostile|harmless SEED
python -m tests.app.tui_child ask HOME ACKNOWLEDGED
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from app.chats import Attachment, Chats, Prompt
from app.hub.search import Result
from app.tui.app import LocalqApp
from app.tui.making import Making
from app.tui.offers import of_result
from app.tui.screens.adding import Adding
from app.tui.screens.chat import ChatScreen
from app.tui.screens.choose import Ask, Choose
from app.tui.screens.compare import Compare
from app.tui.screens.making import MakingModel
from runtime.engine.messages import Event, TokenEvent
from tests.app.fake_engine import FakeEngine, FakeGeneration, Request
from tests.app.tui_kit import Stage, answered, chat_of, until
from tests.hostile.terminal import attacks, streams

PLAIN = re.compile(r"[^\n ]")


def texts(kind: str, seed: int) -> list[str]:
    """One of each attack with a random mixture of all, or texts of the same lengths without any."""
    found = [attack.text[:20_000] for attack in attacks() if attack.number != "O10"]
    found += ["".join(pieces) for pieces in streams(seed, 200)]
    return found if kind == "hostile" else [PLAIN.sub("x", text) for text in found]


class Saying(FakeGeneration):
    """Says ``pieces``, some of them as thoughts."""

    def __init__(self, pieces: list[str]) -> None:
        super().__init__("", Request(""))
        self._said = pieces

    def __iter__(self) -> Iterator[Event]:
        yield TokenEvent(id=1, text="<think>", tokens=(1,))
        for number, piece in enumerate(self._said):
            if number == len(self._said) // 8:
                yield TokenEvent(id=1, text="</think>\n", tokens=(1,))
            yield TokenEvent(id=1, text=piece, tokens=(number,))
        yield self._finished("stop", len(self._said))


def engine_saying(pieces: list[str]) -> Callable[..., FakeEngine]:
    """Engines whose answers are these pieces."""

    class Engine(FakeEngine):
        def submit(self, *_: Any, **__: Any) -> FakeGeneration:
            return Saying(pieces)

    return Engine


def stage_of(home: Path, kind: str, seed: int) -> Stage:
    """A machine whose every name and text is of this kind."""
    said = texts(kind, seed)
    stage = Stage(home, make_engine=engine_saying(said), settings={"ram": 1 << 30})
    name = said[0][:60]
    stage.add_model("tiny", title=name, license=said[1][:60])
    stage.add_model("other", title=said[2][:60])
    with Chats(stage.home) as chats:
        for text in said[:40]:
            chat = chats.create(model="tiny", title=text[:200], folder=text[:80])
            files = (Attachment(text[:80], text[:400]),)
            asked = chats.add(chat.id, "user", text[:2000], parent_id=None, attachments=files)
            chats.add(
                chat.id, "assistant", text[:2000], parent_id=asked.id, model=text[:80], thinking=text[:99]
            )
        for kind_ in ("persona", "template"):
            chats.keep_prompt(Prompt(kind=kind_, name=said[3][:60], text=said[4][:500]))
    return stage


async def tour(app: LocalqApp, pilot: Pilot[None], said: list[str]) -> None:
    """Every screen and dialog once."""

    async def look(keys: str, *, leave: str = "escape") -> None:
        await pilot.press(*keys.split())
        await pilot.pause(0.3)
        await pilot.press(*leave.split())
        await pilot.pause(0.1)

    chat = chat_of(app)
    await until(pilot, lambda: app.host.loaded is not None)
    for text in said[5:9]:
        chat.editor.put("")
        await chat.send(text[:3000], ())
        await answered(pilot)
    await look("tab t up t down t up", leave="i")
    await look("ctrl+t")
    await look("f2 down down down x", leave="escape escape")
    await look("f3 tab down down", leave="escape")
    await look("f4")
    await look("f1")
    await look("ctrl+p x")
    await look("/", leave="escape")
    chat.editor.put("")
    for command in ("/personas", "/templates", "/memory"):
        chat.editor.put(command)
        await look("enter", leave="escape")
    for text in said[:8]:
        app.notify(app_text(text), markup=False)
        for screen in (Choose(text, text, [text, text]), Ask(text, text, text[:50])):
            await shown(app, pilot, screen)
    await adding(app, pilot, said)
    await making(app, pilot, said)
    app.push_screen(Compare("tiny", said[3][:200]))
    await pilot.pause(0.2)
    await pilot.press("enter")
    await pilot.pause(0.5)
    app.exit()


def app_text(text: str) -> str:
    """As ``LocalqApp.fail`` gives it to a toast."""
    from app.terminal import sanitize

    return sanitize(text[:600])


async def shown(app: LocalqApp, pilot: Pilot[None], screen: Any) -> None:
    app.push_screen(screen)
    await pilot.pause(0.1)
    app.pop_screen()


async def adding(app: LocalqApp, pilot: Pilot[None], said: list[str]) -> None:
    """Rows of a search whose texts come from the Hub."""
    screen = Adding()
    app.push_screen(screen)
    await until(pilot, lambda: screen._offers)
    screen._found = [of_result(result_of(text[:90])) for text in said[:30]]
    screen.query_one("#search").value = said[0][:20]  # type: ignore[attr-defined]
    await pilot.pause(0.2)
    for _ in range(10):
        screen.action_move(1)
        await pilot.pause(0.02)
    app.pop_screen()


def result_of(text: str) -> Result:
    return Result(
        repo=text, license=text, gated=False, downloads=1, likes=1, gguf=True, architecture=text,
        parameters=10**9, context=4096, quant=text, size_bytes=1 << 30, needed_bytes=1 << 30, fits=True,
        verdict=text, converts=False, fetched_bytes=1 << 30, nats=0.01, tokens_per_second=10.0,
    )  # fmt: skip


async def making(app: LocalqApp, pilot: Pilot[None], said: list[str]) -> None:
    """Notes and names that a pull tells."""

    def work(making: Making) -> str:
        for text in said[:30]:
            making.begin("plan", text[:200])
            making.say(text[:300])
            making.tensor = text[:100]
        return "tiny"

    app.push_screen(MakingModel(said[0][:50], work))
    await pilot.pause(0.6)


async def ask_on(app: LocalqApp, pilot: Pilot[None], acknowledged: int) -> None:
    """Questions without end; each is written to ``acknowledged`` when the transcript shows it as sent."""
    await until(pilot, lambda: app.host.loaded is not None)
    chat = chat_of(app)
    number = len(chat.transcript.entries)
    while True:
        text = f"question {os.getpid()} {number}"
        chat.editor.put(text)
        await pilot.press("enter")
        await until(pilot, partial(is_shown, chat, text))
        os.write(acknowledged, f"{text}\n".encode())
        await until(pilot, lambda: chat.answering is None and not chat.transcript.entries[-1].live)
        number += 1


def is_shown(chat: ChatScreen, text: str) -> bool:
    return any(entry.role == "user" and text in entry_text(entry) for entry in chat.transcript.entries[-2:])


def entry_text(entry: Any) -> str:
    return "".join(line.plain for line in entry.lines(60))


def main() -> None:
    """Runs the app until it ends or is killed."""
    kind, home, *rest = sys.argv[1:]
    os.environ["HF_HUB_OFFLINE"] = "1"
    lead: Callable[[Pilot[None]], Awaitable[None]]
    if kind == "tour":
        said = texts(rest[0], int(rest[1]))
        stage = stage_of(Path(home), rest[0], int(rest[1]))
        app = stage.app(model="tiny", new=True)

        async def lead(pilot: Pilot[None]) -> None:
            await asyncio.wait_for(app.begun.wait(), 20)
            await tour(app, pilot, said)
    else:
        stage = Stage(Path(home), settings={"ram": 1 << 30})
        app = stage.app(model="tiny")
        file = os.open(rest[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        async def lead(pilot: Pilot[None]) -> None:
            await asyncio.wait_for(app.begun.wait(), 20)
            await ask_on(app, pilot, file)

    app.run(auto_pilot=lead)  # type: ignore[arg-type]
    unexpected = [error for error in app.failures if type(error).__module__ == "builtins"]
    sys.exit(f"failed: {unexpected}" if unexpected else app.return_code or 0)


if __name__ == "__main__":
    main()
