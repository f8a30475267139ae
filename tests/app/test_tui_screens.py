"""Settings, prompts, help, memory, commands, the palette, the first run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from app.chats import Prompt
from app.store import Manifest, Store
from app.tui.app import LocalqApp
from app.tui.offers import DEMO
from app.tui.screens.adding import Adding
from app.tui.screens.chat_orders import FIRST_QUESTION
from app.tui.screens.parameters import Parameters
from app.tui.screens.prompts import Prompts
from tests.app.tiny_model import write_tiny_model
from tests.app.tui_kit import Stage, answered, chat_of, say, text_of, until


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(tmp_path)
    stage.add_model()
    monkeypatch.chdir(tmp_path)
    return stage


async def settings(app: LocalqApp, pilot: Pilot[None], **values: str) -> None:
    """Opens the settings, and fills these in."""
    await pilot.press("f4")
    await until(pilot, lambda: isinstance(app.screen, Parameters))
    for name, value in values.items():
        app.screen.query_one(f"#{name}", Input).value = value


async def test_sampling_reaches_the_engine_and_loads_nothing_again(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await settings(app, pilot, temperature="0.3", top_k="7", seed="42", max_tokens="3")
        await until(pilot, lambda: "nothing is loaded again" in text_of(app))
        await pilot.press("f4")
        await until(pilot, lambda: app.screen is chat_of(app))
        await say(pilot, "echo a long enough answer")
        await answered(pilot)
        (engine,) = stage.engines
        options = engine.requests[0].options
        chosen = options["sampling"]
        assert (chosen.temperature, chosen.top_k, chosen.seed, options["max_tokens"]) == (0.3, 7, 42, 3)
    with stage.chats() as chats:
        assert chats.get(1).settings == {"temperature": 0.3, "top_k": 7, "seed": 42, "max_tokens": 3}


async def test_a_longer_context_says_what_it_takes_and_loads_the_model_again(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: app.host.loaded is not None)
        await settings(app, pilot, context="256")
        await until(pilot, lambda: "The model is loaded again" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: len(stage.engines) == 2 and app.host.loaded is not None)
        assert stage.engines[0].closed
        assert stage.engines[1].config.context_tokens == 256
        await until(pilot, lambda: "/256" in text_of(app))


@pytest.mark.parametrize(("name", "value"), [("temperature", "hot"), ("top_p", "1.5"), ("kv", "q3")])
async def test_a_wrong_value_is_named_and_not_taken(stage: Stage, name: str, value: str) -> None:
    async with stage.open() as (app, pilot):
        await settings(app, pilot, **{name: value})
        await until(pilot, lambda: "give" in text_of(app) or "not a number" in text_of(app))
        await pilot.press("f4")
        await pilot.pause(0.1)
        assert isinstance(app.screen, Parameters)
        await pilot.press("escape")
        assert chat_of(app).session.preferences.stored() == {}  # type: ignore[union-attr]


async def test_a_persona_becomes_the_system_prompt_of_the_chat(stage: Stage) -> None:
    with stage.chats() as chats:
        chats.keep_prompt(Prompt(kind="persona", name="Pirate", text="Talk like a pirate."))
    async with stage.open() as (app, pilot):
        await say(pilot, "/personas")
        await until(pilot, lambda: "Pirate" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is chat_of(app))
        await say(pilot, "roles")
        await answered(pilot)
        system = stage.engines[0].rendered[0][0]
        assert system == {"role": "system", "content": "Talk like a pirate."}


async def test_a_persona_is_kept_and_deleted(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "/personas")
        await until(pilot, lambda: isinstance(app.screen, Prompts) and "Teacher" in text_of(app))
        app.screen.query_one("#name", Input).value = "Mine"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Teacher" not in text_of(app))
        with stage.chats() as chats:
            assert [prompt.name for prompt in chats.prompts("persona")] == ["Mine"]
        await pilot.press("ctrl+d")
        await until(pilot, lambda: "Teacher" in text_of(app))
        with stage.chats() as chats:
            assert chats.prompts("persona") == []


async def test_a_template_is_put_into_the_editor(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "/templates")
        await until(pilot, lambda: "Summarise" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "five points" in chat_of(app).editor.text)


async def test_commands_complete_and_run(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await pilot.press(*"/mem")
        await until(pilot, lambda: "/memory" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "compute buffers" in text_of(app))
        await pilot.press("escape", *"/ren")
        await until(pilot, lambda: "/rename" in text_of(app))
        await pilot.press("tab")
        await until(pilot, lambda: chat_of(app).editor.text == "/rename ")


async def test_a_command_that_is_none_is_not_sent_and_a_space_before_it_sends_it(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "/nonsense")
        await pilot.pause(0.1)
        assert chat_of(app).transcript.entries == []
        await say(pilot, " /nonsense")
        await answered(pilot)
        assert "You said" in text_of(app)


async def test_a_file_is_found_by_its_letters_and_sent_along(stage: Stage) -> None:
    (stage.folder / "notes.md").write_text("the cat sat\n")
    async with stage.open() as (app, pilot):
        await pilot.press(*"see @nts")
        await until(pilot, lambda: "notes.md" in text_of(app))
        await pilot.press("tab")
        await until(pilot, lambda: "+ notes.md (12 B, 3 tokens)" in text_of(app))
        await pilot.press("enter")
        await answered(pilot)
        (turn,) = stage.engines[0].rendered[0]
        assert turn["content"] == "see \n\nnotes.md:\n```\nthe cat sat\n```"
        assert "+ notes.md" in text_of(app)


async def test_what_is_no_text_is_not_attached(stage: Stage) -> None:
    (stage.folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    async with stage.open() as (app, pilot):
        await say(pilot, "/attach image.png")
        await until(pilot, lambda: any("only text files" in str(error) for error in app.failures))
        assert chat_of(app).attachments == []


async def test_what_was_written_before_comes_back_with_up(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        for text in ("echo one", "echo two"):
            await say(pilot, text)
            await answered(pilot)
        await pilot.press("up")
        assert chat_of(app).editor.text == "echo two"
        await pilot.press("up")
        assert chat_of(app).editor.text == "echo one"
        await pilot.press("down", "down")
        assert chat_of(app).editor.text == ""


async def test_ctrl_j_begins_a_line_and_enter_sends_all(stage: Stage) -> None:
    async with stage.open() as (_app, pilot):
        await pilot.press(*"echo a", "ctrl+j", *"b", "enter")
        await answered(pilot)
    with stage.chats() as chats:
        assert chats.branch(1)[0].content == "echo a\nb"


async def test_the_message_and_its_code_are_copied_by_asking_the_terminal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(LocalqApp, "copy", lambda self, text, what: copied.append(text))
    async with stage.open() as (_app, pilot):
        await say(pilot, "echo Look:\n\n```py\nprint(1)\n```\n\n~~~\ntwo\n~~~\n")
        await answered(pilot)
        await pilot.press("tab", "c", "y", "y", "escape")
        await say(pilot, "/code")
        await pilot.pause(0.1)
    assert copied == ["Look:\n\n```py\nprint(1)\n```\n\n~~~\ntwo\n~~~\n", "two", "print(1)", "two"]


async def test_a_message_is_quoted_in_the_editor(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo first\nsecond")
        await answered(pilot)
        await pilot.press("tab", "q")
        assert chat_of(app).editor.text == "> first\n> second\n\n"


async def test_a_message_and_what_follows_are_deleted(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        for text in ("echo one", "echo two"):
            await say(pilot, text)
            await answered(pilot)
        await pilot.press("tab", "up", "x")
        await until(pilot, lambda: "Delete this message?" in text_of(app))
        await pilot.press("2")
        await until(pilot, lambda: len(chat_of(app).transcript.entries) == 2)


async def test_the_palette_has_every_command_by_name(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: type(app.screen).__name__ == "CommandPalette")
        await pilot.press(*"memory")
        await until(pilot, lambda: "what the model takes" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "compute buffers" in text_of(app))


async def test_a_theme_is_kept_for_the_next_time(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "/theme localq-light")
        await until(pilot, lambda: app.theme == "localq-light")
        with stage.chats() as chats:
            await until(pilot, lambda: chats.state("theme") == "localq-light")
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: app.theme == "localq-light")


async def test_an_empty_machine_is_led_to_its_first_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path)

    def fetch(store: Store, progress: Callable[[int, int], None]) -> Manifest:
        return store.import_file(write_tiny_model(tmp_path / "given.gguf"), "demo", progress=progress)

    monkeypatch.setattr("app.hub.demo.fetch_demo", fetch)
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Adding) and "cores" in text_of(app))
        assert "Welcome to localq" in text_of(app) and "memory" in text_of(app)
        await until(pilot, lambda: "no Hub" in text_of(app))
        assert isinstance(app.screen, Adding) and app.screen.current() is DEMO
        await pilot.press("enter")  # the demo model
        await until(pilot, lambda: app.screen is chat_of(app) and app.host.loaded is not None)
        await until(pilot, lambda: chat_of(app).editor.text == FIRST_QUESTION)
        await pilot.press("enter")  # the question that is proposed
        await answered(pilot)
        assert FIRST_QUESTION in text_of(app)


async def test_a_file_of_ones_own_is_added_by_its_path(stage: Stage) -> None:
    path = write_tiny_model(stage.folder / "Other-Q4.gguf", seed=1)
    async with stage.open() as (app, pilot):
        await pilot.press("f3")
        await until(pilot, lambda: "BITS" in text_of(app) and "tiny" in text_of(app))
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Adding))
        await until(pilot, lambda: "cores" in text_of(app))
        app.screen.query_one("#offers", OptionList).highlighted = 2
        await pilot.press("enter")
        await until(pilot, lambda: "Add a file" in text_of(app))
        app.screen.query_one(Input).value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: "Its name" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Copy it?" in text_of(app))
        await pilot.press("1")
        await until(pilot, lambda: "other-q4" in text_of(app) and "BITS" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.host.loaded is not None and app.host.loaded.name == "other-q4")
