"""Every screen as text, at the size of a plain terminal and at a large one.

``make test PYTEST_FLAGS=--snapshot-update`` takes over what is meant to have changed; look at the difference.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.pilot import Pilot
from textual.screen import ModalScreen

from app.tui.app import LocalqApp
from app.tui.machine import Facts
from app.tui.screens.compare import Compare
from quant.certificate.document import to_json
from tests.app.test_tui_models import certificate, speaking
from tests.app.tui_kit import LARGE, SMALL, Stage, answered, chat_of, say, text_of, until
from tests.hostile.pictures import small_png

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "120x36"])

ANSWER = """echo ## Rain

It falls on **roofs** and `leaves`:

1. first softly,
2. then not.

| hour | mm |
|------|---:|
| 6    | 0.2 |
| 7    | 4.0 |

```python
def wet(hours):
    return sum(hours) > 3  # enough
```

> Take a coat.
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The same at any time, on any machine that has a gibibyte free."""
    moment = datetime(2020, 5, 17, 12, 0, tzinfo=UTC)
    monkeypatch.setattr("app.chats.chats.now", lambda: moment)
    monkeypatch.setattr("app.tui.screens.history.when", lambda moment: f"{moment:%Y-%m-%d}")
    monkeypatch.setattr("runtime.hardware.energy.EnergyMeter.joules", property(lambda self: None))
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sea.png").write_bytes(
        small_png([[(60, 90, 30 * row) for _ in range(24)] for row in range(8)])
    )
    stage = Stage(tmp_path, settings={"ram": 1 << 30, "threads": 2})
    stage.add_model("good", seed=0)
    stage.add_model("small", seed=1)
    store = stage.store
    made = certificate("token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_up.weight")
    store.keep_certificate(store.get("small"), to_json(made))
    return stage


async def empty(app: LocalqApp, pilot: Pilot[None]) -> None:
    await until(pilot, lambda: "0/512" in text_of(app))


async def chat(app: LocalqApp, pilot: Pilot[None]) -> None:
    await empty(app, pilot)
    await say(pilot, ANSWER)
    await answered(pilot)


async def picture(app: LocalqApp, pilot: Pilot[None]) -> None:
    await empty(app, pilot)
    await say(pilot, "echo Rain ![sea](sea.png) and ![no](none.png)")
    await answered(pilot)
    await until(pilot, lambda: text_of(app).count("none.png: no such file") == 2 and "▀" in text_of(app))


async def messages(app: LocalqApp, pilot: Pilot[None]) -> None:
    await chat(app, pilot)
    await pilot.press("tab", "up")
    await until(pilot, lambda: "Quote" in text_of(app))


async def commands(app: LocalqApp, pilot: Pilot[None]) -> None:
    await chat(app, pilot)
    await pilot.press("/", "m")
    await until(pilot, lambda: "/models" in text_of(app))


async def tree(app: LocalqApp, pilot: Pilot[None]) -> None:
    await chat(app, pilot)
    await pilot.press("f5")
    await until(pilot, lambda: chat_of(app).transcript.entries[-1].place == (2, 2))
    await answered(pilot)
    await pilot.press("ctrl+t")
    await until(pilot, lambda: "Branches: 2" in text_of(app) and text_of(app).count("○ good") == 1)


async def history(app: LocalqApp, pilot: Pilot[None]) -> None:
    await chat(app, pilot)
    await pilot.press("ctrl+n")
    await say(pilot, "echo What is hail?")
    await answered(pilot)
    await pilot.press("f2")
    await until(pilot, lambda: "2 chats" in text_of(app))
    await pilot.press(*"coat")
    await until(pilot, lambda: "2 places" in text_of(app) and "Take a" in text_of(app))
    await pilot.pause(0.3)


async def models(app: LocalqApp, pilot: Pilot[None]) -> None:
    await empty(app, pilot)
    await pilot.press("f3")
    await until(pilot, lambda: "● " in text_of(app) and "BITS" in text_of(app))
    app.screen.query_one("#models").highlighted = 1  # type: ignore[attr-defined]
    await until(pilot, lambda: "Tiny-F16.gguf" in text_of(app))


async def settings(app: LocalqApp, pilot: Pilot[None]) -> None:
    await empty(app, pilot)
    await pilot.press("f4")
    await until(pilot, lambda: "Settings of this chat" in text_of(app))


async def personas(app: LocalqApp, pilot: Pilot[None]) -> None:
    await empty(app, pilot)
    await say(pilot, "/personas")
    await until(pilot, lambda: "Brief" in text_of(app))


async def keys(app: LocalqApp, pilot: Pilot[None]) -> None:
    await empty(app, pilot)
    await pilot.press("f1")
    await until(pilot, lambda: "Keys and commands" in text_of(app))


SCENES: dict[str, Callable[[LocalqApp, Pilot[None]], Awaitable[None]]] = {
    scene.__name__: scene
    for scene in (empty, chat, picture, messages, commands, tree, history, models, settings, personas, keys)
}


@SIZES
@pytest.mark.parametrize("scene", SCENES)
async def test_the_screen_is_as_it_was(
    stage: Stage, size: tuple[int, int], scene: str, snapshot: SnapshotAssertion
) -> None:
    async with stage.open(size, model="good") as (app, pilot):
        app.cursor_blink = False  # type: ignore[attr-defined]
        await SCENES[scene](app, pilot)
        if isinstance(app.screen, ModalScreen):
            await until(pilot, lambda: "F1 Help" in text_of(app))  # the chat behind it, which is drawn later
        await pilot.pause()
        assert text_of(app).replace(str(stage.folder), "(folder)") == snapshot


@SIZES
async def test_a_comparison_is_as_it_was(
    stage: Stage, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    speaking(stage)
    async with stage.open(size, model="good") as (app, pilot):
        await until(pilot, lambda: app.host.loaded is not None)
        app.push_screen(Compare("good", "How is the sea?"))
        await until(pilot, lambda: isinstance(app.screen, Compare) and "Run" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "83% of 6" in text_of(app))
        await pilot.pause()
        assert text_of(app) == snapshot


@SIZES
async def test_the_first_run_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    facts = Facts(12 << 30, 16 << 30, "MemAvailable", 8, "avx2", 100 << 30, 40e9)
    monkeypatch.setattr("app.tui.screens.adding.look", lambda settings, home, held: facts)
    async with Stage(tmp_path).open(size) as (app, pilot):
        await until(pilot, lambda: "12.0 GiB" in text_of(app) and "\n  Apache-2.0." in text_of(app))
        assert text_of(app) == snapshot
