from __future__ import annotations

import json
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.chats import Attachment, Chats, Message, SavedChat
from app.chats.export import file_stem, to_json, to_markdown
from app.chats.imports import Found, read_export
from app.errors import UnreadableExport
from tests.app.chats_kit import talk
from tests.hostile import chat_exports
from tests.hostile.chat_exports import conversation, node, zipped


@pytest.fixture
def chats() -> Chats:
    return Chats(None)


def written(tmp_path: Path, document: Any, name: str = "export.json") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return path


def read(path: Path) -> list[SavedChat]:
    found = list(read_export(path))
    assert [item.unread for item in found if item.unread] == []
    return [item.chat for item in found if item.chat is not None]


def take(chats: Chats, path: Path) -> list[int]:
    return [chats.adopt(saved).chat_id for saved in read(path)]


def said(messages: list[Message] | Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


CHATGPT = conversation(
    {
        "root": {"id": "root", "message": None, "parent": None, "children": ["sys"]},
        "sys": node("system", "", "root", metadata={"is_visually_hidden_from_conversation": True}),
        "ask": node("user", "How many?", "sys", create_time=1700000000.5),
        "think": {
            "message": {
                "author": {"role": "assistant"},
                "content": {
                    "content_type": "thoughts",
                    "thoughts": [{"summary": "s", "content": "Let me count."}, {"content": "Three."}],
                },
            },
            "parent": "ask",
        },
        "code": node("assistant", "search('x')", "think", recipient="python"),
        "tool": node("tool", "42", "code"),
        "one": node("assistant", "Three.", "tool", metadata={"model_slug": "gpt-x"}),
        "two": node("assistant", "Four.", "ask"),
        "more": {
            "message": {
                "author": {"role": "user"},
                "content": {
                    "content_type": "multimodal_text",
                    "parts": [
                        {"content_type": "image_asset_pointer", "asset_pointer": "file://x"},
                        "And here?",
                    ],
                },
            },
            "parent": "one",
        },
    },
    create_time=1700000000,
    update_time=1700000100,
    current_node="more",
    title="Counting",
)


class TestChatGpt:
    def test_hidden_nodes_are_left_out_and_branches_stay(self, chats: Chats, tmp_path: Path) -> None:
        (chat_id,) = take(chats, written(tmp_path, [CHATGPT]))
        chat = chats.get(chat_id)
        assert (chat.title, chat.origin, chat.messages, chat.system) == ("Counting", "chatgpt", 4, None)
        assert chat.created == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        branch = chats.branch(chat_id)
        assert said(branch) == [
            ("user", "How many?"),
            ("assistant", "Three."),
            ("user", "[image]\n\nAnd here?"),
        ]
        assert branch[1].thinking == "Let me count.\n\nThree."
        assert branch[1].model == "gpt-x"
        tree = chats.tree(chat_id)
        assert [message.content for message in tree.siblings(branch[1].id)] == ["Three.", "Four."]

    def test_the_exported_zip_is_read_with_all_its_parts(self, tmp_path: Path) -> None:
        other = {**CHATGPT, "conversation_id": "d"}
        data = zipped(
            {
                "x/conversations-000.json": json.dumps([CHATGPT]).encode(),
                "x/conversations-001.json": json.dumps([other]).encode(),
                "shared_conversations.html": b"<html>",
                "user.json": b"{}",
            }
        )
        assert [chat.uid for chat in read(written(tmp_path, data, "chatgpt.zip"))] == ["c", "d"]

    def test_a_later_export_adds_what_is_new_and_nothing_twice(self, chats: Chats, tmp_path: Path) -> None:
        (chat_id,) = take(chats, written(tmp_path, [CHATGPT]))
        again = chats.adopt(read(written(tmp_path, [CHATGPT]))[0])
        assert (again.new, again.messages, again.chat_id) == (False, 0, chat_id)
        grown = {**CHATGPT, "mapping": {**CHATGPT["mapping"], "last": node("assistant", "Five.", "more")}}
        added = chats.adopt(read(written(tmp_path, [{**grown, "current_node": "last"}]))[0])
        assert (added.new, added.messages) == (False, 1)
        assert chats.branch(chat_id)[-1].content == "Five."

    def test_one_conversation_that_cannot_be_read_stops_no_other(self, tmp_path: Path) -> None:
        path = written(tmp_path, [{"mapping": 7}, CHATGPT, {"mapping": {"a": {"message": 3}}}])
        bad, good, worse = read_export(path)
        assert bad.unread is not None
        assert bad.unread.where == f"{path}: chat 1"
        assert "Expected `object`" in bad.unread.reason
        assert good.chat is not None
        assert worse.unread is not None


LM_STUDIO = {
    "name": "Colours",
    "pinned": True,
    "createdAt": 1700000000123,
    "systemPrompt": "Be brief.",
    "messages": [
        {
            "versions": [
                {"type": "singleStep", "role": "user", "content": [{"type": "text", "text": "Red?"}]},
            ],
            "currentlySelected": 0,
        },
        {
            "versions": [
                {
                    "type": "multiStep",
                    "role": "assistant",
                    "senderInfo": {"senderName": "qwen"},
                    "steps": [
                        {
                            "type": "contentBlock",
                            "style": {"type": "thinking", "title": "Thought"},
                            "content": [
                                {"type": "text", "text": "<think>", "isStructural": True},
                                {"type": "text", "text": "Hm."},
                            ],
                        },
                        {"type": "contentBlock", "content": [{"type": "text", "text": "Yes."}]},
                        {"type": "debugInfoBlock", "debugInfo": "x"},
                    ],
                },
                {"type": "singleStep", "role": "assistant", "content": [{"type": "text", "text": "No."}]},
            ],
            "currentlySelected": 1,
        },
        {
            "versions": [
                {
                    "role": "user",
                    "content": [{"type": "file", "name": "a.pdf"}, {"type": "text", "text": "Why?"}],
                }
            ],
            "currentlySelected": 0,
        },
    ],
}


class TestLmStudio:
    def test_versions_become_branches_and_thinking_is_told_apart(self, chats: Chats, tmp_path: Path) -> None:
        (chat_id,) = take(chats, written(tmp_path, LM_STUDIO, "1700000000123.conversation.json"))
        chat = chats.get(chat_id)
        assert (chat.title, chat.origin, chat.pinned, chat.system) == (
            "Colours",
            "lmstudio",
            True,
            "Be brief.",
        )
        branch = chats.branch(chat_id)
        assert said(branch) == [("user", "Red?"), ("assistant", "No."), ("user", "[file: a.pdf]\nWhy?")]
        first, _ = chats.tree(chat_id).siblings(branch[1].id)
        assert (first.content, first.thinking, first.model) == ("Yes.", "Hm.", "qwen")

    def test_a_folder_is_read_with_its_folders(self, tmp_path: Path) -> None:
        written(tmp_path, LM_STUDIO, "conversations/work/1.conversation.json")
        written(tmp_path, LM_STUDIO, "conversations/2.conversation.json")
        written(tmp_path, b"not one", "conversations/3.conversation.json")
        found = list(read_export(tmp_path / "conversations"))
        assert [item.chat.folder for item in found if item.chat] == ["", "work"]
        (unread,) = (item.unread for item in found if item.unread)
        assert unread.where.endswith("3.conversation.json")

    def test_a_folder_of_nothing_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(UnreadableExport, match="no chats"):
            list(read_export(tmp_path / "empty"))


class TestOllama:
    def test_the_apps_database_is_read(self, chats: Chats, tmp_path: Path) -> None:
        path = tmp_path / "db.sqlite"
        with sqlite3.connect(path) as connection:
            connection.executescript(
                "CREATE TABLE chats (id TEXT, title TEXT, created_at TIMESTAMP, browser_state TEXT);"
                "CREATE TABLE messages (id INTEGER PRIMARY KEY, chat_id TEXT, role TEXT, content TEXT, "
                "thinking TEXT, model_name TEXT, created_at TIMESTAMP);"
                "INSERT INTO chats VALUES ('u1', 'Rivers', '2025-08-01 10:00:00.123456789+02:00', NULL);"
                "INSERT INTO messages VALUES (1, 'u1', 'user', 'Longest?', '', NULL, 'nonsense');"
                "INSERT INTO messages VALUES (2, 'u1', 'assistant', 'Nile.', 'Hm.', 'llama3', "
                "'2025-08-01 10:00:05');"
                "INSERT INTO messages VALUES (3, 'u1', 'tool', 'x', '', NULL, NULL);"
            )
        connection.close()
        (chat_id,) = take(chats, path)
        assert (chats.get(chat_id).title, chats.get(chat_id).origin) == ("Rivers", "ollama")
        question, answer = chats.branch(chat_id)
        assert (question.content, answer.content, answer.thinking) == ("Longest?", "Nile.", "Hm.")
        assert (answer.model, answer.created) == ("llama3", datetime(2025, 8, 1, 10, 0, 5, tzinfo=UTC))

    def test_another_database_is_refused(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "db.sqlite") as connection:
            connection.execute("CREATE TABLE x (y)")
        connection.close()
        with pytest.raises(UnreadableExport, match="no chats of Ollama"):
            list(read_export(tmp_path / "db.sqlite"))

    def test_a_database_made_to_keep_sqlite_busy_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.chats.imports.ollama.PATIENCE_SECONDS", 0.2)
        with sqlite3.connect(tmp_path / "db.sqlite") as connection:
            connection.execute(
                "CREATE VIEW chats AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
                "SELECT x AS id, x AS title, x AS created_at FROM n"
            )
        connection.close()
        started = time.monotonic()
        with pytest.raises(UnreadableExport, match="interrupted"):
            list(read_export(tmp_path / "db.sqlite"))
        assert time.monotonic() - started < 10


class TestOthers:
    def test_open_webui_keeps_branches_and_tells_reasoning_apart(self, chats: Chats, tmp_path: Path) -> None:
        messages = {
            "q": {"id": "q", "parentId": None, "role": "user", "content": "Red?", "timestamp": 1700000000},
            "a": {
                "id": "a",
                "parentId": "q",
                "role": "assistant",
                "content": '<details type="reasoning" done="true">\n<summary>Thought</summary>\n&gt; Hm.\n'
                "</details>\nYes.",
                "model": "llama3",
            },
            "b": {"id": "b", "parentId": "q", "role": "assistant", "content": "No."},
        }
        entry = {"id": "w1", "title": "T", "chat": {"history": {"messages": messages, "currentId": "a"}}}
        (chat_id,) = take(chats, written(tmp_path, [entry]))
        question, answer = chats.branch(chat_id)
        assert (question.content, answer.content, answer.thinking) == ("Red?", "Yes.", "> Hm.")
        assert chats.tree(chat_id).branches() == 2

    @pytest.mark.parametrize("name", ["one.json", "lines.jsonl"])
    def test_messages_of_openais_shape(self, chats: Chats, tmp_path: Path, name: str) -> None:
        chat = {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url"}]},
                {"role": "assistant", "content": "Hello.", "reasoning_content": "Hm."},
            ],
        }
        lines = json.dumps(chat).encode() + b"\n\n" + json.dumps({**chat, "model": "n"}).encode()
        found = take(chats, written(tmp_path, lines if name.endswith("jsonl") else chat, name))
        assert said(chats.branch(found[0])) == [("user", "Hi\n\n[image]"), ("assistant", "Hello.")]
        assert chats.get(found[0]).system == "Be brief."
        assert chats.branch(found[0])[1].thinking == "Hm."

    def test_a_bare_list_of_messages_is_one_chat(self, chats: Chats, tmp_path: Path) -> None:
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
        (chat_id,) = take(chats, written(tmp_path, messages))
        assert said(chats.branch(chat_id)) == [("user", "Hi"), ("assistant", "Ho")]


class TestOwn:
    def test_an_export_comes_back_the_same_and_on_top_of_itself_changes_nothing(
        self, chats: Chats, tmp_path: Path
    ) -> None:
        chat = chats.create(title="T \u202e", folder="f", system="s", settings={"temperature": 0.5})
        question, _ = talk(chats, "Why?\x1b[2J\x9b\0", "Because.", chat_id=chat.id)
        chats.add(
            chat.id,
            "user",
            "Other",
            parent_id=None,
            attachments=[Attachment("a", "b")],
            facts={"usage": {"output_tokens": 1}},
        )
        chats.select(question.id)
        saved = chats.save(chat.id)
        data = to_json([saved])
        assert data.isascii()
        assert not set(data) & (set(range(32)) - {10})
        path = written(tmp_path, data)
        assert read(path) == [saved]
        assert chats.adopt(read(path)[0]).messages == 0
        with Chats(tmp_path / "other") as other:
            (chat_id,) = take(other, path)
            assert other.save(chat_id) == saved
            assert other.search("because")


class TestMarkdown:
    def test_it_is_one_branch_with_its_thinking_and_files_and_says_that_there_are_more(
        self, chats: Chats
    ) -> None:
        chat = chats.create(title="Lists", system="Be brief.")
        question = chats.add(
            chat.id,
            "user",
            "# How?\n```\n# code\n```",
            parent_id=None,
            attachments=[Attachment("a.txt", "x")],
        )
        chats.add(chat.id, "assistant", "Old.", parent_id=question.id)
        chats.add(
            chat.id,
            "assistant",
            "## So\x1b[2J",
            parent_id=question.id,
            thinking="Hm.\nWell.",
            model="tiny",
            state="stopped",
        )
        found = chats.get(chat.id)
        text = to_markdown(found, chats.branch(chat.id), chats.tree(chat.id).branches())
        assert text == (
            f"# Lists\n\n*{found.created:%Y-%m-%d} · 2 messages · one of 2 branches, "
            "the JSON export has all*\n\n## System\n\nBe brief.\n\n"
            "## You\n\n### How?\n```\n# code\n```\n\na.txt:\n```\nx\n```\n\n"
            "## tiny\n\n> *Thinking*\n>\n> Hm.\n> Well.\n\n#### So␛[2J\n\n*(stopped here)*\n"
        )

    @pytest.mark.parametrize(
        ("title", "stem"),
        [
            ("How do I sort?", "1-how-do-i-sort"),
            ("../../etc/passwd", "1-etc-passwd"),
            ("日本語のタイトル", "1-日本語のタイトル"),
            ("\x1b[2J\n", "1-2j"),
            ("", "1"),
            ("con", "1-con"),
        ],
    )
    def test_a_title_makes_a_harmless_file_name(self, chats: Chats, title: str, stem: str) -> None:
        assert file_stem(chats.create(title=title)) == stem


class TestHostile:
    @pytest.mark.parametrize("name", chat_exports.HARMLESS)
    def test_what_can_be_read_of_a_hostile_export_is_taken_in_as_data(
        self, name: str, tmp_path: Path
    ) -> None:
        started = time.monotonic()
        with Chats(tmp_path) as chats:
            (chat_id,) = take(chats, written(tmp_path, chat_exports.HARMLESS[name]()))
            tree = chats.tree(chat_id)
            assert tree.by_id
            assert all(message.role in ("user", "assistant") for message in tree.by_id.values())
            assert len(chats.get(chat_id).title) <= 200
            chats.branch(chat_id)
        assert time.monotonic() - started < 20

    @pytest.mark.parametrize("name", chat_exports.REFUSED)
    def test_a_file_without_chats_is_refused_with_a_reason(self, name: str, tmp_path: Path) -> None:
        ending = "zip" if "zip" in name else "json"
        path = written(tmp_path, chat_exports.REFUSED[name](), f"export.{ending}")
        found: list[Found] = []
        try:
            found += read_export(path)
        except UnreadableExport as error:
            assert str(error).startswith(str(path))
        else:
            assert [item for item in found if item.chat] == []
            assert all(item.unread and item.unread.reason for item in found)
            assert found

    def test_what_is_no_file_is_refused(self, tmp_path: Path) -> None:
        for path in (tmp_path / "nothing", Path("/dev/null"), tmp_path / "a\0b"):
            with pytest.raises(UnreadableExport):
                list(read_export(path))
