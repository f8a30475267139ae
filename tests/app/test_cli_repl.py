"""The chat on a real pseudo-terminal, in a process of its own, with an engine without a model."""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.chats import Chats
from app.cli.history import MAX_LINES, History
from app.cli.lines import LineReader, read_prompt
from app.cli.repl import PATIENCE_SECONDS
from app.store import Store
from tests.app.pseudo_terminal import CTRL_C, CTRL_D, PseudoTerminal
from tests.app.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
OWN_SEQUENCES = re.compile(r"\x1b\[(K|\?2004[hl]|[0-9;]*m|C|\d*[CDP@]|A|J|H)|\r|\x07")
"""What readline and the progress line send: none of it can be written by a model."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf")


@pytest.fixture
def chat(tmp_path: Path, model: Path) -> Iterator[PseudoTerminal]:
    with open_chat(tmp_path, model) as terminal:
        terminal.expect(">>> ")
        yield terminal


def open_chat(tmp_path: Path, model: Path, *words: str, **variables: str) -> PseudoTerminal:
    """``localq run MODEL`` on a terminal."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "LOCALQ_HOME": str(tmp_path / "home"),
        "LOCALQ_CONFIG": os.devnull,
        **variables,
    }
    command = [sys.executable, "-m", "tests.app.fake_cli", "run", str(model), *words]
    return PseudoTerminal(command, environment)


class TestChat:
    def test_a_line_is_answered_and_the_next_one_asked_for(self, chat: PseudoTerminal) -> None:
        chat.send(b"hello\r")
        chat.expect("You said: hello\r\n")
        chat.expect(">>> ")

    def test_ctrl_d_leaves_with_success(self, chat: PseudoTerminal) -> None:
        chat.send(CTRL_D)
        assert chat.wait() == 0

    @pytest.mark.parametrize("word", [b"/bye", b"/exit", b"/quit"])
    def test_bye_leaves_with_success(self, chat: PseudoTerminal, word: bytes) -> None:
        chat.send(word + b"\r")
        assert chat.wait() == 0

    def test_ctrl_c_stops_the_answer_and_not_the_program(self, chat: PseudoTerminal) -> None:
        chat.send(b"forever\r")
        chat.expect("x x x ")
        chat.send(CTRL_C)
        chat.expect("(stopped)")
        chat.expect(">>> ")
        chat.send(b"still there?\r")
        chat.expect("You said: still there?")

    def test_ctrl_c_at_the_prompt_drops_the_line_and_says_how_to_leave(self, chat: PseudoTerminal) -> None:
        chat.send(b"half a thou")
        chat.expect("half a thou")
        time.sleep(0.2)  # readline's loop sees a signal only while it waits for the next key
        chat.send(CTRL_C)
        chat.expect("Ctrl-D or /bye leaves")
        chat.expect(">>> ")
        chat.send(b"hello\r")
        chat.expect("You said: hello\r\n")

    def test_the_conversation_is_remembered_until_it_is_cleared(self, chat: PseudoTerminal) -> None:
        chat.send(b"hello\r")
        chat.expect("You said: hello")
        chat.send(b"roles\r")
        chat.expect("\x1b[Kuser assistant user\r\n")
        chat.send(b"/clear\r")
        chat.expect("forgotten")
        chat.send(b"roles\r")
        chat.expect("\x1b[Kuser\r\n")

    def test_a_dead_worker_ends_the_answer_and_not_the_chat(self, chat: PseudoTerminal) -> None:
        chat.send(b"die\r")
        chat.expect("partial")
        chat.expect("error: the worker process was ended by SIGSEGV")
        chat.expect("next: localq doctor")
        chat.expect(">>> ")
        chat.send(b"roles\r")
        chat.expect("\x1b[Kuser\r\n")

    def test_a_conversation_that_is_too_long_says_both_numbers_and_what_to_do(
        self, chat: PseudoTerminal
    ) -> None:
        chat.send(b"hello\r")
        chat.expect("You said")
        chat.send(b"overflow\r")
        chat.expect("/clear forgets the conversation")
        chat.expect("the prompt has 5000 tokens, the context holds 4096")
        chat.expect("next: shorten the prompt: it has 5000 tokens")
        chat.send(b"roles\r")
        chat.expect("\x1b[Kuser assistant user\r\n")

    def test_a_prompt_goes_on_after_a_backslash_and_between_quotes(self, chat: PseudoTerminal) -> None:
        chat.send(b"one\\\r")
        chat.expect("... ")
        chat.send(b"two\r")
        chat.expect("You said: one\r\ntwo\r\n")
        chat.send(b'"""three\r\rfour"""\r')
        chat.expect("You said: three\r\n\r\nfour\r\n")

    def test_the_system_prompt_can_be_set_and_shown(self, chat: PseudoTerminal) -> None:
        chat.send(b"/system\r")
        chat.expect("There is no system prompt")
        chat.send(b"/system Be brief.\r")
        chat.expect("is set")
        chat.send(b"roles\r")
        chat.expect("\x1b[Ksystem user\r\n")
        chat.send(b"/system\r")
        chat.expect("Be brief.")

    def test_statistics_help_and_unknown_commands(self, chat: PseudoTerminal) -> None:
        chat.send(b"/stats\r")
        chat.expect("There was no answer yet")
        chat.send(b"hi\r")
        chat.expect("You said: hi")
        chat.send(b"/stats\r")
        chat.expect("answer 1 tokens")
        chat.expect("context 11 of 512 tokens (2%)")
        chat.send(b"/help\r")
        chat.expect("/clear")
        chat.send(b"/nonsense\r")
        chat.expect("There is no command /nonsense")
        chat.send(b" /nonsense\r")
        chat.expect("You said:  /nonsense")

    def test_nothing_that_a_model_says_drives_the_terminal(self, chat: PseudoTerminal) -> None:
        chat.send(b"hostile\r")
        chat.expect("␛]0;owned␇")
        chat.expect(">>> ")
        rest = OWN_SEQUENCES.sub("", chat.seen.decode())
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\U000e0041]", rest), rest

    def test_statistics_after_each_answer_if_asked_for(self, tmp_path: Path, model: Path) -> None:
        with open_chat(tmp_path, model, "--stats", "--quiet", "--max-tokens", "1") as chat:
            chat.expect(">>> ")
            chat.send(b"hi\r")
            chat.expect("answer 1 tokens")

    def test_an_answer_that_fills_the_context_says_so(self, tmp_path: Path, model: Path) -> None:
        with open_chat(tmp_path, model, "--ctx", "11", "--max-tokens", "1") as chat:
            chat.send(b"hi\r")
            chat.expect("the context of 11 tokens is full")

    def test_raw_prompts_stand_alone(self, tmp_path: Path, model: Path) -> None:
        with open_chat(tmp_path, model, "--raw", "--max-tokens", "1") as chat:
            chat.expect(">>> ")
            chat.send(b"once\r")
            chat.expect("You said: once")
            chat.expect("stopped at --max-tokens")
            chat.send(b"/system x\r")
            chat.expect("no system prompt")

    def test_a_second_ctrl_c_in_a_chat_leaves_only_when_nothing_reacts(self, chat: PseudoTerminal) -> None:
        chat.send(b"stubborn\r")
        chat.expect("still ")
        chat.send(CTRL_C)
        time.sleep(0.3)
        chat.send(CTRL_C)
        chat.expect("Ctrl-C later again leaves")
        chat.expect("still ")
        time.sleep(PATIENCE_SECONDS)
        chat.send(CTRL_C)
        assert chat.wait() == 130

    def test_a_second_ctrl_c_ends_the_program(self, tmp_path: Path, model: Path) -> None:
        with open_chat(tmp_path, model, "stubborn") as one_shot:
            one_shot.expect("still ")
            one_shot.send(CTRL_C)
            one_shot.expect("still ")
            one_shot.send(CTRL_C)
            assert one_shot.wait() == 130


class TestOneShot:
    def test_ctrl_c_ends_one_answer_with_130_and_keeps_what_came(self, tmp_path: Path, model: Path) -> None:
        with open_chat(tmp_path, model, "forever") as terminal:
            terminal.expect("x x x ")
            terminal.send(CTRL_C)
            assert terminal.wait() == 130
            assert b"Traceback" not in terminal.seen

    def test_a_prompt_on_a_terminal_does_not_wait_for_piped_text(self, tmp_path: Path, model: Path) -> None:
        with open_chat(tmp_path, model, "hello") as terminal:
            terminal.expect("You said: hello")
            assert terminal.wait() == 0


class TestHistory:
    def test_lines_are_kept_for_the_next_time_and_for_the_owner_only(
        self, tmp_path: Path, model: Path
    ) -> None:
        with open_chat(tmp_path, model) as chat:
            chat.expect(">>> ")
            chat.send(b"remember me\r")
            chat.expect("You said: remember me")
            chat.expect(">>> ")
            chat.send(CTRL_D)
            assert chat.wait() == 0
        path = Store(tmp_path / "home").home / "history"
        assert path.read_text() == "remember me\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with open_chat(tmp_path, model) as chat:
            chat.expect(">>> ")
            chat.send(b"\x1b[A\r")  # arrow up
            chat.expect("You said: remember me")

    def test_a_history_that_others_could_read_is_closed_to_them(self, tmp_path: Path) -> None:
        path = tmp_path / "history"
        path.touch(mode=0o644)
        History(path).add("secret")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_only_the_last_lines_are_loaded(self, tmp_path: Path) -> None:
        history = History(tmp_path / "deep" / "history")
        assert history.load() == []
        for number in range(MAX_LINES + 5):
            history.add(f"line {number}")
        history.add("   ")
        history.add("two\nlines")
        assert history.load()[0] == "line 6"
        assert history.load()[-1] == "two lines"
        assert len(history.load()) == MAX_LINES

    def test_a_history_that_is_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("")
        (tmp_path / "history").symlink_to(tmp_path / "target")
        with pytest.raises(OSError, match="history"):
            History(tmp_path / "history").add("x")
        assert (tmp_path / "target").read_text() == ""

    def test_a_disk_that_refuses_costs_the_history_and_not_the_chat(
        self, tmp_path: Path, model: Path
    ) -> None:
        (tmp_path / "home" / "history").mkdir(parents=True)
        with open_chat(tmp_path, model) as chat:
            chat.expect("typed lines are not kept")
            chat.send(b"hello\r")
            chat.expect("You said: hello")

    def test_nothing_is_kept_where_the_setting_says_so(self, tmp_path: Path, model: Path) -> None:
        with open_chat(tmp_path, model, LOCALQ_HISTORY="false") as chat:
            chat.expect(">>> ")
            chat.send(b"secret\r")
            chat.expect("You said: secret")
            chat.expect(">>> ")
            chat.send(CTRL_D)
            assert chat.wait() == 0
        assert not (tmp_path / "home" / "history").exists()

    def test_a_python_without_readline_chats_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "readline", None)
        monkeypatch.setattr("app.cli.lines.sys", SimpleNamespace(stdin=Terminal(), stdout=Terminal()))
        monkeypatch.setattr("builtins.input", lambda prompt: f"after {prompt}")
        reader = LineReader(History(tmp_path / "history"), pytest.fail)
        assert reader.read(">>> ") == "after >>> "
        assert History(tmp_path / "history").load() == ["after >>> "]


class Terminal:
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


class TestReading:
    def test_lines_without_a_terminal_come_from_stdin_and_the_prompt_goes_to_stderr(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tmp_path / "typed"
        source.write_text("one\\\ntwo\nlast")
        with source.open() as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            reader = LineReader(History(tmp_path / "history"), pytest.fail)
            assert read_prompt(reader.read) == "one\ntwo"
            assert read_prompt(reader.read) == "last"
            with pytest.raises(EOFError):
                read_prompt(reader.read)
        assert tuple(capsys.readouterr()) == ("", ">>> ... >>> >>> ")
        assert not (tmp_path / "history").exists()

    @pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
    def test_a_line_that_is_no_text_is_dropped_and_said_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: str
    ) -> None:
        complaints: list[str] = []
        (tmp_path / "typed").write_bytes(b"caf\xe9\n")
        with (tmp_path / "typed").open(encoding="utf-8", errors=errors) as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            reader = LineReader(History(tmp_path / "history"), complaints.append)
            assert reader.read("") == ""
        assert complaints == ["that line is not UTF-8 text, so it was dropped"]

    @pytest.mark.parametrize(
        ("lines", "prompt"),
        [
            (["plain"], "plain"),
            (['"""a"""'], "a"),
            (['"""', "a", "", "b", '"""'], "a\n\nb"),
            (['  """a', 'b"""  '], "a\nb"),
            (["a\\", "b\\", "c"], "a\nb\nc"),
            (["\\", ""], "\n"),
        ],
    )
    def test_a_prompt_may_have_several_lines(self, lines: list[str], prompt: str) -> None:
        rest = iter(lines)
        assert read_prompt(lambda _shown: next(rest)) == prompt
        assert list(rest) == []


class TestKeeping:
    def _talk(self, tmp_path: Path, model: Path, **variables: str) -> None:
        with open_chat(tmp_path, model, **variables) as chat:
            for line, answer in ((b"one\r", "said: one"), (b"die\r", "partial"), (b"two\r", "said: two")):
                chat.expect(">>> ")
                chat.send(line)
                chat.expect(answer)
            chat.expect(">>> ")
            chat.send(b"/clear\r")
            chat.expect("forgotten")
            chat.expect(">>> ")
            chat.send(b"three\r")
            chat.expect("said: three")
            chat.expect(">>> ")
            chat.send(CTRL_D)
            assert chat.wait() == 0

    def test_conversations_are_kept_where_the_setting_asks_for_all_of_them(
        self, tmp_path: Path, model: Path
    ) -> None:
        self._talk(tmp_path, model, LOCALQ_CHATS="all")
        with Chats(tmp_path / "home") as chats:
            second, first = chats.list()
            assert [message.content for message in chats.branch(second.id)] == ["three", "You said: three"]
            branch = chats.branch(first.id)
            assert [message.content for message in branch] == ["one", "You said: one", "two", "You said: two"]
            assert branch[1].facts["usage"]["output_tokens"] == 1
            assert {message.content for message in chats.tree(first.id).by_id.values()} >= {"die"}

    @pytest.mark.parametrize("kept", ["app", "none"])
    def test_by_default_they_are_not(self, tmp_path: Path, model: Path, kept: str) -> None:
        self._talk(tmp_path, model, LOCALQ_CHATS=kept)
        assert not (tmp_path / "home" / "chats").exists()

    def test_a_disk_that_refuses_costs_the_keeping_and_not_the_chat(
        self, tmp_path: Path, model: Path
    ) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "chats").write_text("")
        with open_chat(tmp_path, model, LOCALQ_CHATS="all") as chat:
            chat.expect(">>> ")
            chat.send(b"one\r")
            chat.expect("this conversation is not kept")
            chat.expect("You said: one")
            chat.expect(">>> ")
            chat.send(b"two\r")
            chat.expect("You said: two")
