"""The terminal app's way from a machine without a model over the Hub to a first answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.hub.catalog import Entry
from app.tui.making import Making
from app.tui.screens.adding import Adding
from app.tui.screens.chat_orders import FIRST_QUESTION
from app.tui.screens.making import MakingModel
from quant import pipeline
from tests.app.tui_kit import LARGE, Stage, answered, chat_of, text_of, until
from tests.hub.pulling import model_bytes
from tests.hub.server import FakeHub
from tests.quant.checkpoint_files import described, write_checkpoint
from tests.quant.stand_ins import stand_ins

ENTRY = Entry(
    name="small",
    repo="org/Small-GGUF",
    quant="Q8_0",
    original="org/Small",
    license="MIT",
    parameters="0.1B",
    good_for="tests",
)


@pytest.fixture
def stage(fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A machine without a model, and a Hub with one of the catalog, as safetensors and as GGUF."""
    folder = write_checkpoint(tmp_path / "made", described()["llama2"], dtype="BF16", shards=2)
    fake_hub.add(
        "org/Small",
        {path.name: path.read_bytes() for path in folder.iterdir()},
        info={"safetensors": {"parameters": {"BF16": 200_000}, "total": 200_000}, "downloads": 7},
    )
    fake_hub.add("org/Small-GGUF", {"Small-Q8_0.gguf": model_bytes(), "Small-F16.gguf": model_bytes(1)})
    for module in ("app.tui.offers", "app.hub.catalog"):
        monkeypatch.setattr(f"{module}.catalog", lambda: {ENTRY.name: ENTRY})
    monkeypatch.setattr(pipeline, "real_steps", stand_ins)
    return Stage(tmp_path, settings={"ram": 100 << 20, "context": 64})


async def test_the_hub_says_how_good_and_how_fast_each_model_would_be(stage: Stage) -> None:
    async with stage.open(LARGE) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Adding) and "as original" in text_of(app))
        await pilot.press("down", "down")
        assert "fetches" in text_of(app) and "runs in" in text_of(app)


async def test_a_model_of_the_hub_is_fetched_made_and_answers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    hear = Making.hear

    def spy(making: Making, event: object) -> None:
        heard.append(type(event).__name__)
        hear(making, event)

    monkeypatch.setattr(Making, "hear", spy)
    async with stage.open(LARGE) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Adding) and "as original" in text_of(app))
        app.screen.action_move(2)  # type: ignore[attr-defined]
        await pilot.press("enter")  # the model
        await until(pilot, lambda: "Make the best file for this memory" in text_of(app))
        await pilot.press("enter")  # how
        await until(pilot, lambda: app.host.loaded and app.host.loaded.name == "small:fit", seconds=60)
        await until(pilot, lambda: chat_of(app).editor.text == FIRST_QUESTION)
        await pilot.press("enter")  # the question
        await answered(pilot)
    assert {"FileEvent", "PhaseEvent"} <= set(heard)
    assert [model.name for model in stage.store.list()] == ["small:fit"]
    assert not list(stage.store.work.iterdir())


async def test_what_nobody_expected_is_said_and_the_screen_closes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(pipeline, "real_steps", broken)
    async with stage.open(LARGE) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Adding) and "as original" in text_of(app))
        app.screen.action_move(2)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: "Make the best file for this memory" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.failures and isinstance(app.screen, Adding), seconds=30)
        assert str(app.failures.pop()) == "broken"


async def test_typing_searches_the_hub_and_a_finished_file_is_fetched(stage: Stage) -> None:
    async with stage.open(LARGE) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Adding) and "as original" in text_of(app))
        await pilot.press(*"gguf")
        await until(pilot, lambda: "org/Small-GGUF" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Fetch a finished" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.host.loaded is not None)
    assert [model.name for model in stage.store.list()] == ["org/small-gguf:q8_0"]


async def test_work_is_stopped_after_a_question_and_what_is_there_is_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tui.making.Making.go_on", slowly)
    async with stage.open(LARGE) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Adding) and "as original" in text_of(app))
        app.screen.action_move(2)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: "Make the best file" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MakingModel))
        await pilot.press("escape")
        await until(pilot, lambda: "Stop making this model?" in text_of(app))
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, Adding))
        assert stage.store.list() == []


def slowly(making: object) -> None:
    """As ``Making.go_on``, but every step takes its time."""
    import time

    from app.tui.making import Stopped

    time.sleep(0.3)
    if making.stop:  # type: ignore[attr-defined]
        raise Stopped("stopped")
