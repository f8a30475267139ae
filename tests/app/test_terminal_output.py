"""The ways out: a stream of any encoding, a line of JSON, a rich text."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.terminal import as_text, json_line, sanitize, write
from runtime.engine.messages import FinishedEvent, Timings, Usage
from tests.hostile.terminal import attacks, foreign


class Sink(io.TextIOWrapper):
    """A text stream in memory with an encoding."""

    def __init__(self, encoding: str) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding=encoding, newline="")

    def sent(self) -> bytes:
        self.flush()
        return self.raw_bytes.getvalue()


class TestWrite:
    def test_a_stream_that_can_hold_the_text_gets_it_as_it_is(self) -> None:
        sink = Sink("utf-8")
        write(sink, "␛[0m é 日本 😀 \x1b[1m")
        assert sink.sent().decode() == "␛[0m é 日本 😀 \x1b[1m"

    @pytest.mark.parametrize(
        ("encoding", "sent"),
        [
            ("ascii", rb"\u241b[2J caf\xe9 \u20ac \U0001f600"),
            ("latin-1", b"\\u241b[2J caf\xe9 \\u20ac \\U0001f600"),
            ("cp1252", b"\\u241b[2J caf\xe9 \x80 \\U0001f600"),
            ("koi8-r", rb"\u241b[2J caf\xe9 \u20ac \U0001f600"),
            ("gb2312", rb"\u241b[2J caf" + "é".encode("gb2312") + rb" \u20ac \U0001f600"),
        ],
    )
    def test_a_poorer_encoding_gets_backslash_escapes(self, encoding: str, sent: bytes) -> None:
        sink = Sink(encoding)
        write(sink, "␛[2J café € 😀")
        assert sink.sent() == sent

    def test_half_a_character_cannot_stop_it(self) -> None:
        sink = Sink("utf-8")
        write(sink, "a\ud800b")
        assert sink.sent() == rb"a\ud800b"

    def test_a_stream_without_an_encoding_is_taken_for_ascii(self) -> None:
        class Picky(io.StringIO):
            def write(self, text: str) -> int:
                text.encode("ascii")
                return super().write(text)

        picky = Picky()
        write(picky, "é")
        assert picky.getvalue() == r"\xe9"

    def test_a_broken_pipe_is_the_callers(self) -> None:
        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            write(Closed(), "x")

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
    def test_no_attack_can_stop_it_or_send_a_control(self, encoding: str) -> None:
        for attack in attacks():
            if len(attack.text) < 10_000:
                sink = Sink(encoding)
                write(sink, sanitize(attack.text))
                assert foreign(sink.sent().decode(encoding)) == set()


class Reply(msgspec.Struct):
    text: str
    tokens: tuple[str, ...] = ()


@dataclass
class Row:
    name: str
    size: int


DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
    )
    | st.text(st.characters(codec=None, exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


class TestJsonLine:
    def test_it_is_one_line_of_printable_ascii(self) -> None:
        line = json_line({"text": "\x00\n\x1b\x7f\x85\x9b\u2028\u202eé日😀"})
        assert line == (
            '{"text":"\\u0000\\n\\u001b\\u007f\\u0085\\u009b\\u2028\\u202e\\u00e9\\u65e5\\ud83d\\ude00"}\n'
        )

    def test_structs_and_dataclasses_go_out_as_objects(self) -> None:
        event = FinishedEvent(id=1, reason="stop", stop_text="\x1b", usage=Usage(), timings=Timings())
        assert json.loads(json_line(event))["stop_text"] == "\x1b"
        assert json_line([Reply("\u202e"), Row("é", 2)]) == (
            '[{"text":"\\u202e","tokens":[]},{"name":"\\u00e9","size":2}]\n'
        )

    def test_lone_surrogates_become_markers_and_pairs_one_character(self) -> None:
        document: dict[str, Any] = {half: half for half in "\udc80\udc81"}
        document |= {"replies": [Reply("a\ud800", ("\ud83d\ude00",))], "counts": {1: float("nan")}}
        assert json.loads(json_line(document)) == {
            "<U+DC80>": "<U+DC80>",
            "<U+DC81>": "<U+DC81>",
            "replies": [{"text": "a<U+D800>", "tokens": ["😀"]}],
            "counts": {"1": None},
        }

    def test_what_is_no_number_becomes_null(self) -> None:
        assert json_line([float("nan"), float("inf"), 0.1]) == "[null,null,0.1]\n"

    def test_what_cannot_be_encoded_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="object"):
            json_line({"x": object()})

    def test_no_attack_gets_through_and_all_can_be_read_back(self) -> None:
        for attack in attacks():
            line = json_line({"text": attack.text})
            assert line.isascii() and line[:-1].isprintable() and line[-1] == "\n"
            if attack.number != "O17":
                assert json.loads(line)["text"] == attack.text

    @settings(max_examples=300, deadline=None)
    @given(DOCUMENTS)
    def test_any_reader_of_json_reads_the_document_back(self, document: Any) -> None:
        line = json_line(document)
        assert line.isascii() and line[:-1].isprintable()
        assert json.loads(line) == document
        assert msgspec.json.decode(line) == document


class TestAsText:
    def test_markup_is_text(self) -> None:
        text = as_text("[bold]x[/] [link=https://evil.example]y[/link] [@click=app.quit]z[/]")
        assert text.plain == "[bold]x[/] [link=https://evil.example]y[/link] [@click=app.quit]z[/]"
        assert text.spans == []

    def test_it_is_sanitised(self) -> None:
        assert as_text("\x1b]8;;x\x1b\\a\nb").plain == "␛]8;;x␛\\a\nb"
        assert as_text("a\nb\x1b", newlines=False, style="bold").plain == "a␊b␛"
        assert as_text("a", style="bold").style == "bold"
