"""The history: search as one types, folders, pins, titles, export, import, deletion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from app.tui.app import LocalqApp
from app.tui.screens.history import History
from tests.app.chats_kit import files_hold, talk
from tests.app.tui_kit import LARGE, Stage, chat_of, text_of, until


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(tmp_path)
    stage.add_model()
    with stage.chats() as chats:
        talk(chats, "How do magpies nest?", "In dense trees, with a roof of thorns.")
        talk(chats, "Tell me of copper", "It conducts.", "And of tin?", "It melts at 232 degrees.")
        talk(chats, "Ein Gedicht", "Der Regen fällt.")
    monkeypatch.chdir(tmp_path)
    return stage


async def open_history(app: LocalqApp, pilot: Pilot[None]) -> History:
    await pilot.press("f2")
    await until(pilot, lambda: isinstance(app.screen, History) and "Ein Gedicht" in text_of(app))
    screen = app.screen
    assert isinstance(screen, History)
    return screen


async def answer(pilot: Pilot[None], text: str) -> None:
    """Fills in the question of one line that is open."""
    await until(pilot, lambda: type(pilot.app.screen).__name__ == "Ask")
    pilot.app.screen.query_one(Input).value = text
    await pilot.press("enter")


async def test_all_chats_are_listed_the_newest_first_and_enter_opens_one(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        shown = text_of(app)
        assert "3 chats" in shown and shown.index("Ein Gedicht") < shown.index("magpies")
        await pilot.press("down", "enter")
        await until(pilot, lambda: "232 degrees" in text_of(app))
        assert chat_of(app).session is not None and chat_of(app).session.chat_id == 2  # type: ignore[union-attr]


async def test_typing_searches_titles_and_messages_and_opens_at_what_was_found(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        await pilot.press(*"thorn")
        await until(pilot, lambda: "1 place found" in text_of(app))
        assert "roof of thorns" in text_of(app) and "Gedicht" not in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: "In dense trees" in text_of(app))


async def test_escape_empties_the_search_and_then_leaves(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        await pilot.press(*"tin", "escape")
        await until(pilot, lambda: "3 chats" in text_of(app) and "Gedicht" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is chat_of(app))


async def test_a_chat_is_pinned_renamed_and_moved(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        await pilot.press("down", "down", "f5")
        await until(pilot, lambda: "★ " in text_of(app))
        assert text_of(app).index("magpies") < text_of(app).index("Gedicht")
        await pilot.press("f3")
        await answer(pilot, "Birds \x1b[2J of the hedge")
        await until(pilot, lambda: "Birds ␛[2J of the hedge" in text_of(app))
        await pilot.press("f4")
        await answer(pilot, "Nature")
        await until(pilot, lambda: "Nature / Birds" in text_of(app))
    with stage.chats() as chats:
        chat = chats.get(1)
        assert (chat.pinned, chat.folder) == (True, "Nature")


async def test_one_folder_alone_can_be_shown(stage: Stage) -> None:
    with stage.chats() as chats:
        chats.change(2, folder="Metals")
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "Those in no folder" in text_of(app))
        await pilot.press("3")
        await until(pilot, lambda: "in Metals" in text_of(app) and "Gedicht" not in text_of(app))
        assert "copper" in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: "Gedicht" in text_of(app))


async def test_deletion_asks_first_and_leaves_nothing(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        await pilot.press(*"magpies")
        await until(pilot, lambda: "2 places found" in text_of(app))
        await pilot.press("f8")
        await until(pilot, lambda: "Delete this chat?" in text_of(app))
        await pilot.press("enter")  # the first answer changes nothing
        await pilot.pause(0.1)
        with stage.chats() as chats:
            assert chats.count() == 3
        await pilot.press("f8")
        await until(pilot, lambda: "Delete this chat?" in text_of(app))
        await pilot.press("2")
        await until(pilot, lambda: "2 chats" in text_of(app))
    with stage.chats() as chats:
        assert [chat.id for chat in chats.list()] == [3, 2]
    assert not files_hold(stage.home, b"thorns")


async def test_the_open_chat_may_be_deleted(stage: Stage) -> None:
    with stage.chats() as chats:
        chats.keep_state("place", '{"chat_id":3,"model":"tiny"}')
    async with stage.open() as (app, pilot):
        assert "Der Regen" in text_of(app)
        await open_history(app, pilot)
        await pilot.press("f8")
        await until(pilot, lambda: "Delete this chat?" in text_of(app))
        await pilot.press("2")
        await until(pilot, lambda: "2 chats" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: "New chat" in text_of(app))


async def test_a_chat_is_exported_once_and_never_over_another_file(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        await pilot.press("f6")
        await answer(pilot, "")
        path = stage.folder / "3-ein-gedicht.md"
        await until(pilot, path.exists)
        assert "Der Regen fällt." in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
        path.write_text("mine")
        await pilot.press("f6")
        await answer(pilot, path.name)
        await until(pilot, lambda: any("exists already" in str(error) for error in app.failures))
        assert path.read_text() == "mine"
        await pilot.press("f6")
        await answer(pilot, "all.json")
        await until(pilot, (stage.folder / "all.json").exists)
        assert len(json.loads((stage.folder / "all.json").read_text())["chats"]) == 1


async def test_chats_of_other_programs_are_taken_in(stage: Stage) -> None:
    export = {"messages": [{"role": "user", "content": "Imported question"}]}
    (stage.folder / "other.json").write_text(json.dumps(export))
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        await pilot.press("f7")
        await answer(pilot, "other.json")
        await until(pilot, lambda: "4 chats" in text_of(app) and "Imported question" in text_of(app))
        await pilot.press("f7")
        await answer(pilot, "missing.json")
        await until(pilot, lambda: any("missing.json" in str(error) for error in app.failures))


async def test_a_wide_screen_shows_the_chat_beside_the_list(stage: Stage) -> None:
    async with stage.open(LARGE) as (app, pilot):
        await open_history(app, pilot)
        await pilot.press(*"thorns")
        await until(pilot, lambda: "1 place found" in text_of(app))
        await until(pilot, lambda: "▌ In dense trees" in text_of(app))


async def test_what_another_process_adds_appears(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await open_history(app, pilot)
        with stage.chats() as chats:
            talk(chats, "Said elsewhere")
        await until(pilot, lambda: "Said elsewhere" in text_of(app))
