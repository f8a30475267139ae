"""The chat screen: asking, stopping, branching, and what survives."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste

from app.chats import Attachment, Chats, Draft
from app.tui.screens.choose import Choose
from app.tui.widgets.editor import Editor
from runtime.engine.messages import Prompt
from tests.app.chats_kit import talk
from tests.app.fake_engine import FakeEngine
from tests.app.tui_kit import Stage, answered, chat_of, say, text_of, until


class WholeEngine(FakeEngine):
    """Its prompt is the whole conversation, so that it has as many tokens as that has words."""

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, variables: Mapping[str, Any] | None = None
    ) -> Prompt:
        super().render(messages)
        return Prompt("echo " + " ".join(message["content"] for message in messages))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.add_model()
    return stage


def contents(chats: Chats, chat_id: int = 1) -> list[tuple[str, str, str]]:
    return [(message.role, message.content, message.state) for message in chats.branch(chat_id)]


async def test_a_question_and_its_answer_are_shown_and_kept(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo Hello **world**")
        await answered(pilot)
        shown = text_of(app)
        assert "Hello world" in shown  # as Markdown
        assert "tok/s" in shown and "15/512" in shown
    with stage.chats() as chats:
        assert contents(chats) == [
            ("user", "echo Hello **world**", "done"),
            ("assistant", "Hello **world**", "done"),
        ]
        assert chats.get(1).model == "tiny"
        assert chats.message(2).facts["usage"]["output_tokens"] == 5


async def test_the_whole_conversation_is_sent_with_every_question(stage: Stage) -> None:
    async with stage.open() as (_app, pilot):
        await say(pilot, "echo one")
        await answered(pilot)
        await say(pilot, "echo two")
        await answered(pilot, 2)
        (engine,) = stage.engines
        roles = [[message["role"] for message in turns] for turns in engine.rendered]
        assert roles == [["user"], ["user", "assistant", "user"]]


async def test_escape_stops_an_answer_and_keeps_what_came(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "forever")
        await until(pilot, lambda: "x x x" in text_of(app))
        await pilot.press("escape")
        await answered(pilot)
        assert "(stopped)" in text_of(app)
    with stage.chats() as chats:
        message = chats.branch(1)[-1]
        assert message.state == "stopped" and message.content.startswith("x x x")


async def test_while_an_answer_is_written_another_question_stays_in_the_editor(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "forever")
        await until(pilot, lambda: "x x" in text_of(app))
        await say(pilot, "echo second")
        await pilot.pause(0.1)
        assert chat_of(app).editor.text == "echo second"
        await pilot.press("escape")
        await answered(pilot)
        await pilot.press("enter")
        await answered(pilot, 2)
        assert "second" in text_of(app)


async def test_a_worker_that_dies_leaves_the_text_so_far_and_f5_tries_again(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "die")
        await answered(pilot)
        assert "partial" in text_of(app) and "SIGSEGV" in text_of(app)
        assert "The text so far is kept" in str([note.message for note in app._notifications])
        await pilot.press("f5")
        await until(pilot, lambda: "‹ 2/2 ›" in text_of(app))
        await answered(pilot)
    with stage.chats() as chats:
        tree = chats.tree(1)
        states = [message.state for message in tree.children(tree.children(None)[0].id)]
        assert states == ["failed", "failed"]


async def test_f5_makes_another_answer_beside_the_last_and_arrows_move_between_them(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo again")
        await answered(pilot)
        await pilot.press("f5")
        await until(pilot, lambda: "‹ 2/2 ›" in text_of(app))
        await answered(pilot)
        await pilot.press("tab", "left")
        await until(pilot, lambda: "‹ 1/2 ›" in text_of(app))
        await pilot.press("right")
        await until(pilot, lambda: "‹ 2/2 ›" in text_of(app))


async def test_an_edited_question_becomes_a_branch_and_the_old_one_stays(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo first")
        await answered(pilot)
        await say(pilot, "echo more")
        await answered(pilot, 2)
        await pilot.press("tab", "up", "up", "up", "e")
        assert chat_of(app).editor.text == "echo first"
        await say(pilot, "echo other")
        await answered(pilot)
        assert "other" in text_of(app) and "more" not in text_of(app)
    with stage.chats() as chats:
        assert [content for _, content, _ in contents(chats)] == ["echo other", "other"]
        assert {message.content for message in chats.tree(1).by_id.values()} >= {"echo first", "more"}


async def test_the_draft_of_a_chat_that_has_begun_does_not_come_back_in_the_next(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        chat = chat_of(app)
        chat.editor.put("echo begun")
        await chat.keep_now()
        assert app.chats is not None and not app.chats.draft(None).empty
        await pilot.press("enter")
        await answered(pilot)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "New chat" in text_of(app))
        assert chat.editor.text == "" and app.chats.draft(None).empty


async def test_each_draft_stays_its_chat_s_while_another_is_opened_on_a_slow_disk(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo first")
        await answered(pilot)
        chat, chats = chat_of(app), app.chats
        assert chats is not None
        chat.editor.put("of the first")
        await pilot.press("ctrl+n")
        chat.editor.put("of no chat yet")
        read = chats.draft
        beside: list[str] = []

        def slow(chat_id: int | None) -> Draft:
            asyncio.run_coroutine_threadsafe(chat.keep_now(), loop).result()  # the clock strikes meanwhile
            beside.append(read(None).text)
            return read(chat_id)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(chats, "draft", slow)
        assert await chat.open_chat(1)
        assert (beside, chat.editor.text) == (["of no chat yet"], "of the first")
        assert (read(1).text, read(None).text) == ("of the first", "of no chat yet")


async def test_escape_leaves_an_edit_and_brings_the_draft_back(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo first")
        await answered(pilot)
        chat_of(app).editor.put("half a thought")
        await chat_of(app).keep_now()
        await pilot.press("tab", "e")
        await until(pilot, lambda: chat_of(app).editor.text == "echo first")
        await pilot.press("escape")
        await until(pilot, lambda: chat_of(app).editor.text == "half a thought")


async def test_the_tree_shows_all_branches_and_leads_to_each(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo one")
        await answered(pilot)
        await pilot.press("f5")
        await until(pilot, lambda: "‹ 2/2 ›" in text_of(app))
        await answered(pilot)
        await pilot.press("ctrl+t")
        await until(pilot, lambda: "Branches: 2" in text_of(app))
        await until(pilot, lambda: text_of(app).count("tiny  one") == 2)
        await pilot.press("up", "enter")
        await until(pilot, lambda: "‹ 1/2 ›" in text_of(app))


async def test_continue_adds_to_the_last_answer(stage: Stage) -> None:
    async with stage.open() as (_app, pilot):
        await say(pilot, "echo begun")
        await answered(pilot)
        await say(pilot, "/continue")
        await until(pilot, lambda: len(stage.engines[0].requests) == 2)
        await answered(pilot)
        prompt = stage.engines[0].requests[1].options["prompt"]
        (mark,) = prompt.protected
        assert prompt.text.endswith(mark) and prompt.protected[mark] == "begun"
    with stage.chats() as chats:
        (_, content, _) = contents(chats)[-1]
        assert content.startswith("begun") and len(content) > len("begun")


async def test_thoughts_are_folded_and_unfold(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo <think>secret musing</think>\n\nThe answer")
        await answered(pilot)
        # the question itself has the words too: look at the answer
        assert "▸ Thoughts (13 characters)" in text_of(app)
        await pilot.press("tab", "t")
        await until(pilot, lambda: "┊ secret musing" in text_of(app))
    with stage.chats() as chats:
        message = chats.branch(1)[-1]
        assert (message.thinking, message.content) == ("secret musing", "The answer")


async def test_what_is_typed_survives_a_crash(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo one")
        await answered(pilot)
        chat_of(app).editor.put("not sent\nyet", (1, 1))
        chat_of(app).attachments.append(Attachment("a.txt", "text"))
        with stage.chats() as chats:
            await until(pilot, lambda: not chats.draft(1).empty)
        # the app is not asked to end: what is on the disk now is what a kill leaves
        (stage.folder / "copy").mkdir()
        killed = Stage(stage.folder / "copy")
        await asyncio.to_thread(shutil.copytree, stage.home, killed.home)
    async with killed.open() as (app, pilot):
        assert "echo one" in text_of(app)
        assert chat_of(app).editor.text == "not sent\nyet"
        assert chat_of(app).editor.cursor_location == (1, 1)
        assert [file.name for file in chat_of(app).attachments] == ["a.txt"]


async def test_the_place_in_a_long_chat_comes_back(stage: Stage) -> None:
    with stage.chats() as chats:
        talk(chats, *(f"line\n\n{number} " * 5 for number in range(40)))
        chats.keep_state("place", '{"chat_id":1,"model":"tiny","top":[20,2]}')
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: chat_of(app).transcript.place == (20, 2))
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: chat_of(app).transcript.place == (20, 2))


async def test_an_answer_that_a_kill_interrupted_says_so(stage: Stage) -> None:
    with stage.chats() as chats:
        question, _ = talk(chats, "question", "half an ans")
        chats.update(2, state="writing")
        chats.keep_state("place", '{"chat_id":1}')
        assert question.id == 1
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: "interrupted" in text_of(app))
        assert "half an ans" in text_of(app)


async def test_a_file_that_was_made_meanwhile_is_offered_and_enter_attaches_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with stage.open() as (app, pilot):
        chat = chat_of(app)
        for name in ("first.txt", "second.txt"):
            (tmp_path / name).write_text(name)
            await pilot.press("@")
            await until(pilot, lambda name=name: name in chat._files)  # type: ignore[misc]
            await pilot.press(*name[:5])
            await until(pilot, lambda: chat.editor.suggesting)
            await pilot.press("enter")
            await until(pilot, lambda name=name: chat.attachments[-1:] == [Attachment(name, name)])  # type: ignore[misc]
        assert chat.editor.text == "" and len(chat.attachments) == 2


async def test_enter_that_is_quicker_than_the_suggestions_takes_the_first(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("notes")
    async with stage.open() as (app, pilot):
        chat = chat_of(app)
        chat._files = ["notes.txt"]
        chat.editor.insert("@no")
        chat.editor.post_message(Editor.Submitted("@no"))  # before anybody heard of the change
        await until(pilot, lambda: chat.attachments)
        assert chat.attachments == [Attachment("notes.txt", "notes")] and not chat.transcript.entries


async def test_what_is_typed_while_the_chats_are_opened_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.open() as (app, pilot):
        await pilot.press(*"kept ")
        await until(pilot, lambda: chat_of(app)._kept_draft[1].text == "kept ")  # type: ignore[index]
    slow = stage.app()
    open_chats = slow.open_chats

    def typed_meanwhile() -> Chats:
        slow.call_from_thread(lambda: chat_of(slow).editor.insert("early"))
        return open_chats()

    monkeypatch.setattr(slow, "open_chats", typed_meanwhile)
    async with slow.run_test():
        await asyncio.wait_for(slow.begun.wait(), 10)
        assert chat_of(slow).editor.text == "kept early"


async def test_a_long_paste_becomes_an_attachment_with_its_cost(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        chat_of(app).editor.post_message(Paste("word " * 200_000))  # 1 MB
        await until(pilot, lambda: "pasted-1.txt" in text_of(app))
        await until(pilot, lambda: "200,000 tokens" in text_of(app))
        assert chat_of(app).editor.text == ""
        chat_of(app).editor.post_message(Paste("short\r\npaste"))
        await until(pilot, lambda: chat_of(app).editor.text == "short\npaste")


async def test_a_conversation_that_does_not_fit_is_refused_until_the_person_chooses(stage: Stage) -> None:
    with stage.chats() as chats:
        talk(chats, "a " * 300, "b " * 300, "c " * 20, "d " * 20)
        chats.keep_state("place", '{"chat_id":1,"model":"tiny"}')
    stage.make_engine = WholeEngine
    async with stage.open() as (app, pilot):
        await say(pilot, "echo last")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        assert "the context holds 512" in text_of(app)
        assert stage.engines[0].requests == []  # nothing was sent
        await pilot.press("1")
        await until(pilot, lambda: stage.engines[0].requests)
        await answered(pilot)
        assert "−2 old" in text_of(app)
        await pilot.press("tab", "home")
        await until(pilot, lambda: "not sent: the context is too short" in text_of(app))
        sent = [message["content"][0] for message in stage.engines[0].rendered[-1]]
        assert sent in (["c", "d", "e"], ["e"])


async def test_a_question_that_alone_is_too_long_is_not_answered_by_leaving_out_others(stage: Stage) -> None:
    stage.make_engine = WholeEngine
    async with stage.open() as (app, pilot):
        await say(pilot, "word " * 600)
        await until(pilot, lambda: "The question alone has 601 tokens" in text_of(app))
        assert isinstance(app.screen, Choose)
        assert "Leave out" not in text_of(app)
        await pilot.press("escape")
        await answered(pilot)
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: "the question alone has 601 tokens" in text_of(app))  # also another day


async def test_what_was_said_is_left_for_the_scroll_back(stage: Stage) -> None:
    with stage.chats() as chats:
        talk(chats, "an old question", "an old answer")
        chats.keep_state("place", '{"chat_id":1,"model":"tiny"}')
    async with stage.open() as (app, pilot):
        await say(pilot, "echo one\ntwo")
        await answered(pilot, 2)
        await app.action_leave()
    assert app.said == "> echo one\n> two\n\none\ntwo"


async def test_an_answer_that_leaving_cuts_short_is_left_for_the_scroll_back_too(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "forever")
        await until(pilot, lambda: "x x x" in text_of(app))
        await app.action_leave()
    assert app.said.startswith("> forever\n\nx x x")
