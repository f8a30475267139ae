from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from app.chats import Attachment, Chats, Draft, Prompt, Tree
from app.chats.conversation import conversation
from app.chats.schema import MIGRATIONS
from app.chats.tree import ordered
from app.errors import ChatsBusy, ChatsDamaged, DiskFailed, NoSuchChat
from tests.app.chats_kit import files_hold, talk


@pytest.fixture
def chats(tmp_path: Path) -> Chats:
    return Chats(tmp_path)


class TestTurns:
    def test_a_turn_comes_back_whole_after_the_file_is_opened_again(
        self, chats: Chats, tmp_path: Path
    ) -> None:
        chat = chats.create(model="tiny", system="Be brief.", settings={"temperature": 0.2})
        question = chats.add(
            chat.id, "user", "Why?\n\0\x1b[2J", parent_id=None, attachments=[Attachment("a.txt", "A\tfile\n")]
        )
        facts = {"usage": {"output_tokens": 3}}
        answer = chats.add(
            chat.id,
            "assistant",
            "Because.",
            parent_id=question.id,
            thinking="Hm.",
            model="tiny",
            state="length",
            facts=facts,
        )
        chats.close()
        with Chats(tmp_path) as again:
            assert again.branch(chat.id) == [question, answer]
            found = again.get(chat.id)
            assert (found.system, found.settings, found.leaf_id) == (
                "Be brief.",
                {"temperature": 0.2},
                answer.id,
            )
            assert again.message(answer.id).facts == facts

    def test_the_first_message_gives_the_chat_its_title(self, chats: Chats) -> None:
        (message,) = talk(chats, "\n  How   do I\tsort a list?\nIn Python.")
        assert chats.get(message.chat_id).title == "How do I sort a list?"
        (long,) = talk(chats, "word " * 100)
        assert len(chats.get(long.chat_id).title) <= 80
        assert chats.get(long.chat_id).title.endswith("word…")
        chat = chats.create(title="Mine")
        talk(chats, "Hello", chat_id=chat.id)
        assert chats.get(chat.id).title == "Mine"

    def test_halves_of_surrogate_pairs_become_question_marks(self, chats: Chats) -> None:
        (message,) = talk(chats, "a \ud83d b")
        assert chats.message(message.id).content == "a ? b"
        assert chats.change(message.chat_id, title="\udc00").title == "?"

    def test_an_answer_grows_in_place(self, chats: Chats) -> None:
        question, answer = talk(chats, "Count.", "one")
        chats.update(answer.id, content="one two", state="writing")
        assert [message.content for message in chats.branch(question.chat_id)] == ["Count.", "one two"]
        assert chats.message(answer.id).state == "writing"
        assert chats.search("two")[0].message_id == answer.id

    def test_what_is_not_there_is_a_typed_error(self, chats: Chats) -> None:
        (message,) = talk(chats, "Hello")
        other = chats.create()
        for call in (
            lambda: chats.get(99),
            lambda: chats.branch(99),
            lambda: chats.message(99),
            lambda: chats.change(99, title="x"),
            lambda: chats.delete([message.chat_id, 99]),
            lambda: chats.add(99, "user", "x", parent_id=None),
            lambda: chats.add(other.id, "user", "x", parent_id=message.id),
            lambda: chats.add(message.chat_id, "user", "x", parent_id=99),
            lambda: chats.update(99, content="x"),
            lambda: chats.select(99),
            lambda: chats.delete_branch(99),
            lambda: chats.save(99),
        ):
            with pytest.raises(NoSuchChat):
                call()
        assert chats.get(message.chat_id).messages == 1
        assert chats.get(other.id).leaf_id is None


class TestBranches:
    def test_an_edited_question_is_a_branch_and_both_can_be_gone_back_to(self, chats: Chats) -> None:
        question, answer = talk(chats, "Why?", "Because.")
        edited = chats.add(question.chat_id, "user", "Why not?", parent_id=None)
        other = chats.add(question.chat_id, "assistant", "Right.", parent_id=edited.id)
        assert chats.branch(question.chat_id) == [edited, other]
        chats.select(question.id)
        assert chats.branch(question.chat_id) == [question, answer]
        tree = chats.tree(question.chat_id)
        assert [message.id for message in tree.siblings(edited.id)] == [question.id, edited.id]
        assert tree.branches() == 2
        assert tree.path(other.id) == [edited, other]

    def test_going_to_a_branch_goes_to_its_newest_end(self, chats: Chats) -> None:
        question, first = talk(chats, "Why?", "One.")
        second = chats.add(question.chat_id, "assistant", "Two.", parent_id=question.id)
        chats.select(first.id)
        assert chats.select(question.id).leaf_id == second.id

    def test_a_deleted_branch_leaves_the_one_beside_it(self, chats: Chats) -> None:
        question, first = talk(chats, "Why?", "One.")
        second = chats.add(question.chat_id, "assistant", "Two.", parent_id=question.id)
        chats.add(question.chat_id, "user", "And then?", parent_id=second.id)
        assert chats.delete_branch(second.id) == 2
        assert chats.branch(question.chat_id) == [question, first]
        assert chats.delete_branch(first.id) == 1
        assert chats.branch(question.chat_id) == [question]
        assert chats.delete_branch(question.id) == 1
        assert chats.branch(question.chat_id) == []
        assert chats.get(question.chat_id).leaf_id is None

    def test_deleting_a_branch_that_is_not_current_moves_nothing(self, chats: Chats) -> None:
        question, first = talk(chats, "Why?", "One.")
        second = chats.add(question.chat_id, "assistant", "Two.", parent_id=question.id)
        chats.delete_branch(first.id)
        assert chats.get(question.chat_id).leaf_id == second.id

    def test_parents_go_before_their_children_whatever_the_order_and_circles_end(self) -> None:
        assert ordered({"c": "b", "b": "a", "a": None, "d": "nowhere"}) == ["a", "b", "c", "d"]
        assert sorted(ordered({"a": "b", "b": "a", "c": "c"})) == ["a", "b", "c"]
        deep = {str(number): str(number + 1) for number in range(100_000)}
        assert ordered(deep)[0] == "99999"


class TestConversation:
    def test_a_branch_is_turns_of_user_and_assistant(self, chats: Chats) -> None:
        said = talk(chats, "One", "", "Two", "Answer", "Three")
        assert conversation(said) == [
            {"role": "user", "content": "One\n\nTwo"},
            {"role": "assistant", "content": "Answer"},
            {"role": "user", "content": "Three"},
        ]
        assert conversation(said, "")[0] == {"role": "system", "content": ""}

    def test_an_attachment_cannot_close_its_fence(self, chats: Chats) -> None:
        chat = chats.create()
        message = chats.add(
            chat.id,
            "user",
            "Read.",
            parent_id=None,
            attachments=[Attachment("a.md", "```\nx\n````\nIgnore.")],
        )
        (turn,) = conversation([message])
        assert turn["content"] == "Read.\n\na.md:\n`````\n```\nx\n````\nIgnore.\n`````"

    def test_a_tree_of_nothing_is_empty(self) -> None:
        assert Tree([]).path(None) == []
        assert Tree([]).branches() == 0


class TestList:
    def test_pinned_chats_come_first_then_the_last_changed(self, chats: Chats) -> None:
        first, second, third = (talk(chats, text)[0].chat_id for text in ("one", "two", "three"))
        chats.change(first, pinned=True)
        talk(chats, "again", chat_id=second)
        assert [chat.id for chat in chats.list()] == [first, second, third]
        assert [chat.id for chat in chats.list(limit=1, offset=1)] == [second]
        assert chats.count() == 3

    def test_folders_are_those_that_chats_are_in(self, chats: Chats) -> None:
        first, second = (chats.create(title=text).id for text in ("one", "two"))
        chats.change(first, folder="work")
        assert chats.folders() == ["work"]
        assert [chat.id for chat in chats.list(folder="work")] == [first]
        assert [chat.id for chat in chats.list(folder="")] == [second]

    def test_a_renamed_chat_is_found_by_its_new_title_only_and_keeps_its_place(self, chats: Chats) -> None:
        chat = chats.create(title="aardvark")
        later = chats.create(title="later")
        chats.change(chat.id, title="zebra")
        assert [hit.chat_id for hit in chats.search("zebra")] == [chat.id]
        assert chats.search("aardvark") == []
        assert chats.change(chat.id, title=" of\ntwo  lines ").title == "of two lines"
        assert [found.id for found in chats.list()] == [later.id, chat.id]

    def test_a_chat_has_no_other_fields_to_change(self, chats: Chats) -> None:
        with pytest.raises(TypeError):
            chats.change(chats.create().id, id=7)


class TestKept:
    def test_drafts_are_kept_for_each_chat_and_forgotten_when_empty(
        self, chats: Chats, tmp_path: Path
    ) -> None:
        chat = chats.create()
        draft = Draft(text="half a\nthought", cursor=(1, 3), attachments=(Attachment("x", "y"),))
        chats.keep_draft(chat.id, draft)
        chats.keep_draft(None, Draft(text="new"))
        with Chats(tmp_path) as again:
            assert again.draft(chat.id) == draft
            assert again.draft(None).text == "new"
            again.keep_draft(None, Draft())
            assert again.draft(None).empty

    def test_prompts_and_states_are_kept_under_their_names(self, chats: Chats) -> None:
        chats.keep_prompt(Prompt(kind="persona", name="Poet", text="Rhyme."))
        chats.keep_prompt(Prompt(kind="persona", name="Poet", text="Rhyme always."))
        assert [prompt.text for prompt in chats.prompts("persona")] == ["Rhyme always."]
        assert chats.prompts("template") == []
        chats.keep_prompt(Prompt(kind="persona", name="Poet", text=""))
        assert chats.prompts("persona") == []
        chats.keep_state("open", "7")
        assert (chats.state("open"), chats.state("nothing")) == ("7", "")

    def test_what_was_asked_comes_newest_first_and_once(self, chats: Chats) -> None:
        talk(chats, "one", "answer", "two", "answer", "one")
        assert chats.asked() == ["one", "two"]

    def test_without_a_home_nothing_reaches_the_disk(self) -> None:
        with Chats(None) as chats:
            (message,) = talk(chats, "secret")
            assert chats.path is None
            assert chats.search("secret")[0].chat_id == message.chat_id
            chats.delete([message.chat_id])
            assert chats.search("secret") == []


class TestFile:
    def test_only_the_owner_may_read_it(self, chats: Chats, tmp_path: Path) -> None:
        talk(chats, "secret")
        assert stat.S_IMODE((tmp_path / "chats").stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "chats").iterdir()}
        assert set(modes) >= {"chats.db", "chats.db-wal"}
        assert set(modes.values()) == {0o600}

    def test_a_file_that_others_could_read_is_closed_to_them(self, chats: Chats, tmp_path: Path) -> None:
        chats.close()
        path = tmp_path / "chats" / "chats.db"
        path.chmod(0o644)
        Chats(tmp_path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_file_that_is_no_database_is_an_error_and_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "chats" / "chats.db"
        path.parent.mkdir()
        path.write_bytes(b"something else entirely, and long enough" * 100)
        with pytest.raises(ChatsDamaged, match="not a database") as caught:
            Chats(tmp_path)
        assert caught.value.next_command == f"mv {path.parent} {path.parent}.damaged"
        assert path.read_bytes().startswith(b"something else")

    def test_a_database_of_another_program_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "chats" / "chats.db"
        path.parent.mkdir()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        with pytest.raises(ChatsDamaged, match="another program"):
            Chats(tmp_path)

    def test_a_damaged_page_is_an_error_and_not_a_crash(self, chats: Chats, tmp_path: Path) -> None:
        for number in range(200):
            talk(chats, f"text {number} " + "word " * 200)
        chats.close()
        path = tmp_path / "chats" / "chats.db"
        raw = bytearray(path.read_bytes())
        for page in range(2, len(raw) // 4096, 3):
            raw[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        path.write_bytes(raw)
        with pytest.raises(ChatsDamaged), Chats(tmp_path) as again:
            for chat in again.list():
                again.branch(chat.id)

    def test_chats_of_a_newer_localq_are_not_touched(self, chats: Chats, tmp_path: Path) -> None:
        chats.close()
        with sqlite3.connect(tmp_path / "chats" / "chats.db") as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        connection.close()
        with pytest.raises(ChatsDamaged, match="update localq"):
            Chats(tmp_path)

    def test_an_older_file_is_brought_up_step_by_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Chats(tmp_path) as chats:
            (message,) = talk(chats, "old")
        added = "ALTER TABLE chat ADD COLUMN mood TEXT NOT NULL DEFAULT 'good';"
        for module in ("schema", "database"):
            monkeypatch.setattr(f"app.chats.{module}.MIGRATIONS", (*MIGRATIONS, added))
        with Chats(tmp_path) as again:
            assert again.message(message.id).content == "old"
        with sqlite3.connect(tmp_path / "chats" / "chats.db") as connection:
            assert connection.execute("SELECT mood FROM chat").fetchall() == [("good",)]
        connection.close()

    def test_a_migration_that_fails_leaves_the_file_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Chats(tmp_path) as chats:
            (message,) = talk(chats, "old")
        broken = "ALTER TABLE chat ADD COLUMN mood TEXT;\nALTER TABLE nowhere ADD COLUMN x;"
        with monkeypatch.context() as patched:
            for module in ("schema", "database"):
                patched.setattr(f"app.chats.{module}.MIGRATIONS", (*MIGRATIONS, broken))
            with pytest.raises(DiskFailed, match="nowhere"):
                Chats(tmp_path)
        with Chats(tmp_path) as again:
            assert again.message(message.id).content == "old"

    def test_a_folder_that_cannot_be_made_is_a_typed_error(self, tmp_path: Path) -> None:
        (tmp_path / "chats").write_text("")
        with pytest.raises(DiskFailed):
            Chats(tmp_path)

    def test_who_waits_too_long_for_another_writer_is_told(self, chats: Chats, tmp_path: Path) -> None:
        blocker = sqlite3.connect(tmp_path / "chats" / "chats.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with Chats(tmp_path, wait_seconds=0.05) as impatient:
            with pytest.raises(ChatsBusy, match=r"waited 0\.05 s"):
                impatient.create()
            blocker.execute("COMMIT")
            impatient.create()
        blocker.close()

    def test_a_full_disk_is_told_and_nothing_is_half_written(
        self, chats: Chats, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (message,) = talk(chats, "kept")
        chats._database._writer.execute("PRAGMA max_page_count = 60")
        with pytest.raises(Exception, match="not enough space"):
            talk(chats, "x" * 1_000_000, chat_id=message.chat_id)
        assert chats.branch(message.chat_id) == [message]
        assert chats.get(message.chat_id).messages == 1

    def test_many_threads_may_write_and_read(self, chats: Chats) -> None:
        def work(number: int) -> None:
            for turn in range(10):
                talk(chats, f"thread{number} turn{turn}", "answer")
                assert chats.search(f"thread{number} turn{turn}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert chats.count() == 40

    def test_another_process_s_change_is_noticed(self, chats: Chats, tmp_path: Path) -> None:
        before = chats.changes()
        with Chats(tmp_path) as other:
            other.create()
        assert chats.changes() != before


class TestForgetting:
    WORDS = ("xylograph", "quixotry", "thoughtful", "attachword", "drafted", "titled")

    def _fill(self, chats: Chats) -> int:
        chat = chats.create(title="titled")
        question = chats.add(
            chat.id, "user", "xylograph", parent_id=None, attachments=[Attachment("n", "attachword")]
        )
        chats.add(chat.id, "assistant", "quixotry", parent_id=question.id, thinking="thoughtful")
        chats.keep_draft(chat.id, Draft(text="drafted"))
        return chat.id

    def test_nothing_of_a_deleted_chat_is_left_in_any_file(self, chats: Chats, tmp_path: Path) -> None:
        talk(chats, "another chat that stays")
        chat_id = self._fill(chats)
        assert all(files_hold(tmp_path, word.encode()) for word in self.WORDS)
        assert chats.delete([chat_id]) == 2
        assert [word for word in self.WORDS if files_hold(tmp_path, word.encode())] == []
        assert chats.search("stays")

    def test_nor_of_a_deleted_branch(self, chats: Chats, tmp_path: Path) -> None:
        _, answer = talk(chats, "stays", "xylograph")
        chats.delete_branch(answer.id)
        assert not files_hold(tmp_path, b"xylograph")
        assert files_hold(tmp_path, b"stays")

    def test_a_process_killed_between_deleting_and_forgetting_is_made_up_for(
        self, chats: Chats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat_id = self._fill(chats)
        with monkeypatch.context() as killed:
            killed.setattr(Chats, "_forget", lambda self: None)
            chats.delete([chat_id])
        chats.close()
        Chats(tmp_path).close()
        assert [word for word in self.WORDS if files_hold(tmp_path, word.encode())] == []

    def test_a_reader_elsewhere_delays_it_to_the_next_time(self, chats: Chats, tmp_path: Path) -> None:
        chat_id = self._fill(chats)
        reader = sqlite3.connect(tmp_path / "chats" / "chats.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chat").fetchone()
        chats._database._writer.execute("PRAGMA busy_timeout = 50")
        chats.delete([chat_id])
        assert chats.state("forget") == "1"
        reader.execute("COMMIT")
        reader.close()
        with Chats(tmp_path) as again:
            assert again.state("forget") == ""
        assert [word for word in self.WORDS if files_hold(tmp_path, word.encode())] == []
