"""The parts of the app that know no screen."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import WrongUse
from app.tui.calls import CallSplitter
from app.tui.clipboard import MOST_BYTES, copying
from app.tui.commands import COMMANDS, parse
from app.tui.completing import suggest
from app.tui.entry import Entry
from app.tui.files import MOST_BYTES as MOST_FILE_BYTES
from app.tui.files import list_files, match_files, read_attachment
from app.tui.gauges import Gauges, draw
from app.tui.preferences import PARAMETERS, Preferences
from app.tui.screens.chat import ChatScreen
from app.tui.thinking import Splitter


def split(text: str, cuts: list[int], prompt: str = "") -> tuple[str, str]:
    """Thought and said, of a text that comes cut at these places."""
    splitter = Splitter(prompt)
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [piece for low, high in itertools.pairwise(bounds) for piece in splitter.feed(text[low:high])]
    pieces += splitter.flush()
    return (
        "".join(text for kind, text in pieces if kind == "thought"),
        "".join(text for kind, text in pieces if kind == "said"),
    )


class TestThinking:
    @pytest.mark.parametrize(
        ("text", "thought", "said"),
        [
            ("Plain.", "", "Plain."),
            ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
            ("  <thinking>Hm.</thinking>Yes.", "Hm.", "Yes."),
            ("<think></think>Yes.", "", "Yes."),
            ("<think>never closed", "never closed", ""),
            ("Use <think> in HTML", "", "Use <think> in HTML"),
            ("<thin ice", "", "<thin ice"),
            ("<think>a</thi b</think>c", "a</thi b", "c"),
        ],
    )
    def test_thoughts_at_the_beginning_are_told_from_what_is_said(
        self, text: str, thought: str, said: str
    ) -> None:
        assert split(text, []) == (thought, said)

    @given(st.lists(st.integers(0, 99), max_size=12))
    def test_where_the_text_is_cut_makes_no_difference(self, cuts: list[int]) -> None:
        text = "<think>Let me </thi see\n</think>\n\nThe <b>answer</b>"
        thought, said = split(text, cuts)
        assert (thought.rstrip("\n"), said) == ("Let me </thi see", "The <b>answer</b>")

    def test_a_template_may_have_opened_the_thoughts_already(self) -> None:
        assert split("Hm.</think>Yes.", [], "...assistant\n<think>\n") == ("Hm.", "Yes.")


class TestCalls:
    CALL = '{"name": "look", "arguments": {}}'
    TEXTS: ClassVar = {
        f"Let me see.\n<tool_call>\n{CALL}\n</tool_call>\nDone.": ("Let me see.\n\nDone.", [f"\n{CALL}\n"]),
        f"<tool_call>{CALL}</tool_call><tool_call>x": ("", [CALL, "x"]),
        "```\n<tool_call>\n```\nnot <tool_call> here": ("```\n<tool_call>\n```\nnot <tool_call> here", []),
        "<tool": ("<tool", []),
    }

    @pytest.mark.parametrize("text", TEXTS)
    def test_calls_are_told_from_text_wherever_it_is_cut(self, text: str) -> None:
        for size in (1, 2, 7, len(text)):
            splitter, said, calls = CallSplitter(), "", []
            pieces = [text[start : start + size] for start in range(0, len(text), size)]
            for part in [part for piece in pieces for part in splitter.feed(piece)] + splitter.flush():
                if part.begins:
                    calls.append("")
                if part.kind == "said":
                    said += part.text
                else:
                    calls[-1] += part.text
            assert (said, calls) == self.TEXTS[text]

    def test_they_are_folded_with_the_name_of_the_function(self) -> None:
        entry = Entry(1, "assistant", "m")
        entry.say(f"Wait.\n<tool_call>{self.CALL}</tool_call>")
        entry.end()
        folded = [line.plain for line in entry.lines(60)]
        assert folded[1:3] == ["Wait.", f"▸ Tool call look ({len(self.CALL)} characters)"]
        assert entry.folds_at(2) and entry.folded
        entry.open_thoughts = True
        entry.changed()
        assert any('"arguments"' in line.plain for line in entry.lines(60))

    def test_what_a_person_writes_is_text(self) -> None:
        entry = Entry(1, "user")
        entry.say("<tool_call>x")
        entry.end()
        assert not entry.folded and entry.lines(60)[1].plain == "<tool_call>x"


class TestCommands:
    def test_each_command_has_an_action_on_the_chat_screen(self) -> None:
        missing = [name.name for name in COMMANDS if not hasattr(ChatScreen, f"action_{name.action}")]
        assert missing == []

    def test_a_text_of_several_lines_or_a_path_is_no_command(self) -> None:
        assert parse("/help\nme") is None
        assert parse(" /help") is None
        assert parse("/etc/passwd is a file") is None
        assert parse("/halp") == "halp"

    def test_an_argument_is_what_follows(self) -> None:
        found = parse("/rename  A new title ")
        assert isinstance(found, tuple) and (found[0].name, found[1]) == ("rename", "A new title")

    def test_commands_are_suggested_by_their_beginning_first(self) -> None:
        names = [suggestion.text for suggestion in suggest("/mo", 3, 0, ())]
        assert names[:2] == ["/models", "/model"] and "/memory" in names

    def test_nothing_is_suggested_within_a_text(self) -> None:
        assert suggest("a /mo", 5, 0, ()) == []
        assert suggest("/mo", 3, 1, ()) == []
        assert suggest("mail@example.org", 16, 0, ["example.org"]) == []


class TestFiles:
    def test_files_are_found_by_letters_in_their_order_names_before_folders(self) -> None:
        names = ["notes/apple.md", "src/main.py", "docs/manual/index.md", "main.md"]
        assert match_files("mmd", names)[0] == "main.md"
        assert match_files("smain", names)[0] == "src/main.py"
        assert match_files("xyz", names) == []

    def test_hidden_and_built_files_are_not_offered(self, tmp_path: Path) -> None:
        for name in ("a.txt", "sub/b.txt", ".git/c", "node_modules/d.js", ".hidden"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
        (tmp_path / "loop").symlink_to(tmp_path)
        assert list_files(tmp_path) == ["a.txt", "sub/b.txt"]

    def test_a_text_is_read_without_its_byte_order_mark(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes("\ufeffgrüße".encode())
        attachment = read_attachment("a.txt", tmp_path)
        assert (attachment.name, attachment.text) == ("a.txt", "grüße")

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"PK\x03\x04\x00", b"x" * (MOST_FILE_BYTES + 1)])
    def test_what_is_no_text_or_too_large_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(WrongUse):
            read_attachment("a", tmp_path)

    @pytest.mark.parametrize("name", ["missing", ".", "a\0b", "x" * 5000])
    def test_what_is_no_file_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(WrongUse):
            read_attachment(name, tmp_path)


class TestCopying:
    def test_the_terminal_is_asked_in_base64_so_no_text_can_end_the_request(self) -> None:
        text = "\x07\x1b\\ grüße"
        sequence = copying(text, {})
        assert sequence.startswith("\x1b]52;c;") and sequence.endswith("\x07")
        assert base64.b64decode(sequence[7:-1]).decode() == text

    def test_inside_of_tmux_it_is_asked_and_what_is_around_it(self) -> None:
        sequence = copying("a", {"TMUX": "/tmp/tmux"})
        assert sequence == "\x1b]52;c;YQ==\x07\x1bPtmux;\x1b\x1b]52;c;YQ==\x07\x1b\\"

    def test_inside_of_screen_it_comes_in_pieces_that_it_takes(self) -> None:
        sequence = copying("a" * 3000, {"STY": "1"})
        pieces = sequence.split("\x1b\\")[:-1]
        assert all(piece.startswith("\x1bP") and len(piece) <= 514 for piece in pieces)

    def test_a_text_that_terminals_refuse_is_not_asked_for(self) -> None:
        assert copying("a" * MOST_BYTES, {}) == ""


class TestGauges:
    def test_the_line_is_never_wider_than_the_screen(self) -> None:
        gauges = Gauges(
            doing="reading 40%",
            writing=123.4,
            reading=1234,
            used=123456,
            context=131072,
            draft=999,
            dropped=12,
        )
        for width in range(20, 160):
            drawn = "".join(span.text for span in draw(gauges, width))
            assert len(drawn) <= max(width - 2, 31), width

    def test_a_context_that_is_nearly_full_or_overfull_is_marked(self) -> None:
        styles = [
            {span.style for span in draw(Gauges(used=used, context=1000), 80)} for used in (100, 900, 1100)
        ]
        assert "gauge-near" not in styles[0]
        assert "gauge-near" in styles[1] and "gauge-full" in styles[2]


class TestPreferences:
    def test_they_come_back_as_they_were_kept(self) -> None:
        chosen = Preferences(temperature=0.3, context=8192, kv="q8_0", drop_oldest=True)
        assert Preferences.of(chosen.stored()) == chosen

    def test_what_a_newer_localq_or_a_hand_wrote_does_no_harm(self) -> None:
        assert Preferences.of({"temperature": "hot"}) == Preferences()
        assert Preferences.of({"unknown": 1, "top_k": 3}) == Preferences(top_k=3)

    def test_the_models_temperature_counts_where_the_person_chose_none(self) -> None:
        assert Preferences().sampling(0.2).temperature == 0.2
        assert Preferences(temperature=1.0).sampling(0.2).temperature == 1.0
        assert Preferences(top_k=3).sampling(None).top_k == 3

    @pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
    def test_every_parameter_refuses_what_is_out_of_its_range(self, parameter: object) -> None:
        from app.tui.preferences import Parameter

        assert isinstance(parameter, Parameter)
        assert parameter.parse("  ") is None
        for wrong in ("abc", "nan", "1e999", "--1"):
            with pytest.raises(ValueError, match=parameter.title):
                parameter.parse(wrong)
