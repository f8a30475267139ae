from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from app.cli.output import Fields, Output, Styled, Table
from app.cli.text import align, columns_of, format_bytes, format_parameters, plural, shorten, wrap
from tests.app.fake_engine import HOSTILE

FORBIDDEN = set(map(chr, range(32))) - {"\n", "\t"} | {"\x7f", "\x9b", "\u202e", "\U000e0041"}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def on_a_terminal() -> Iterator[Terminal]:
    """Both streams are one terminal that knows colours."""
    stream = Terminal()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stream), redirect_stderr(stream):
        patch.delenv("NO_COLOR", raising=False)
        patch.setenv("TERM", "xterm")
        yield stream


def test_the_three_modes_print_a_text_a_document_or_bare_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for output, expected in (
        (Output(), "a text\n"),
        (Output(json=True), '{"a":1}\n'),
        (Output(quiet=True), "bare\n"),
        (Output(json=True, quiet=True), '{"a":1}\n'),
    ):
        output.result({"a": 1}, "a text", quiet=["bare"])
        assert capsys.readouterr().out == expected


def test_notes_are_for_people_only(capsys: pytest.CaptureFixture[str]) -> None:
    for output, expected in ((Output(), "hello\n"), (Output(json=True), ""), (Output(quiet=True), "")):
        output.note("hello")
        assert tuple(capsys.readouterr()) == ("", expected)


def test_a_warning_is_an_object_with_json_and_nothing_with_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Output().warn("look")
    Output(json=True).warn("look")
    Output(quiet=True).warn("look")
    assert capsys.readouterr().err == 'warning: look\n{"warning":"look"}\n'


def test_what_was_asked_for_is_told_even_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Output(quiet=True).tell("help")
    assert capsys.readouterr().err == "help\n"


@pytest.mark.parametrize("hostile", ["".join(HOSTILE), *HOSTILE])
def test_no_way_out_lets_a_foreign_sequence_through(hostile: str) -> None:
    output = Output(color="never")
    with on_a_terminal() as terminal:
        output.result({}, hostile, Table(("A", "B"), [(hostile, "b")]), Fields([("name", hostile)]))
        output.note(hostile)
        output.warn(hostile)
        output.error(hostile, hostile, {})
        output.text(hostile)
        Output(json=True).event({hostile: hostile})
        with output.stream() as stream:
            for character in hostile:
                stream.feed(character)
    assert terminal.getvalue().count("\n") >= 10
    assert not set(terminal.getvalue()) & FORBIDDEN


def test_a_cell_cannot_begin_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    Output().result({}, Table(("NAME",), [("one\ntwo\tthree",)]))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_json_brings_every_character_back(capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(HOSTILE) + "ä😀"
    Output(json=True).event({"text": text})
    raw = capsys.readouterr().out
    assert raw.isascii()
    assert json.loads(raw)["text"] == text


def test_colour_goes_round_the_text_and_keeps_columns_aligned() -> None:
    table = Table(("NAME", "SIZE"), [("a", Styled("1", "green")), ("bbb", "22")], right=frozenset({1}))
    with on_a_terminal() as terminal:
        Output().result({}, table)
    assert "\x1b[32m1\x1b[0m" in terminal.getvalue()
    assert "\x1b[1mNAME\x1b[0m" in terminal.getvalue()
    with on_a_terminal() as terminal:
        Output(color="never").result({}, table)
    assert terminal.getvalue() == "NAME  SIZE\na        1\nbbb     22\n"


def test_a_style_inside_a_value_is_text() -> None:
    with on_a_terminal() as terminal:
        Output().result({}, Styled("\x1b[31mred", "bold"))
    assert terminal.getvalue() == "\x1b[1m␛[31mred\x1b[0m\n"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_the_environment_switches_colour_off(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with on_a_terminal() as terminal:
        monkeypatch.setenv(variable, value)
        Output().result({}, Styled("plain", "bold"))
    assert terminal.getvalue() == "plain\n"


def test_a_pipe_gets_no_colour_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Output().result({}, Styled("x", "bold"))
    Output(color="always").result({}, Styled("x", "bold"))
    assert capsys.readouterr().out == "x\n\x1b[1mx\x1b[0m\n"


def test_fields_line_up_and_go_on_below_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    Output().result({}, Fields([("a", "1"), ("long", "2\n3"), ("none", "")]))
    assert capsys.readouterr().out == "a     1\nlong  2\n      3\nnone\n"


def test_progress_is_drawn_over_and_leaves_nothing() -> None:
    with on_a_terminal() as terminal, Output().progress("load\x1bing") as progress:
        progress.update(0.5)
        progress.update(1.5)
        progress.advance(1, 0)
    assert terminal.getvalue() == "\r\x1b[Kload␛ing\r\x1b[Kload␛ing 50%\r\x1b[K"


def test_what_is_said_meanwhile_stands_above_the_progress_and_not_behind_it() -> None:
    with on_a_terminal() as terminal:
        output = Output(color="never")
        with output.progress("loading") as progress:
            progress.update(0.5)
            output.note("found")
            output.warn("careful")
            progress.update(0.6)
        output.note("done")
    drawn = ["", "loading", "loading 50%", "found\n", "warning: careful\n", "loading 60%", "done\n"]
    assert terminal.getvalue().split("\r\x1b[K") == drawn


def test_progress_takes_no_more_than_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with on_a_terminal() as terminal, Output().progress("loading a-long-name.gguf") as progress:
        progress.say("checking 5%")
        progress._next = 0.0
        progress.say("checking what is there 5%")
    assert terminal.getvalue().split("\r\x1b[K")[1:-1] == [
        "loading a-long-nam…",
        "loadin… checking 5%",
        " checking what is …",
    ]


@pytest.mark.parametrize("output", [Output(quiet=True), Output(json=True)])
def test_progress_is_for_people_only(output: Output) -> None:
    with on_a_terminal() as terminal, output.progress("loading") as progress:
        progress.update(0.5)
    assert terminal.getvalue() == ""


def test_progress_is_not_written_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress("loading") as progress:
        progress.update(0.5)
    assert tuple(capsys.readouterr()) == ("", "")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [(10, "日本語 abc"), (9, "日本語 a…"), (8, "日本語 …"), (5, "日本…"), (1, "…"), (0, "")],
)
def test_what_is_too_long_is_cut_at_a_column(columns: int, expected: str) -> None:
    assert shorten("日本語 abc", columns) == expected


def test_a_stream_ends_its_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    for pieces, expected in ((["a", "b"], "ab\n"), (["a\n"], "a\n"), ([], "")):
        with Output().stream() as stream:
            for piece in pieces:
                stream.feed(piece)
        assert capsys.readouterr().out == expected


def test_a_stream_shows_each_piece_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().stream() as stream:
        stream.feed("now")
        assert capsys.readouterr().out == "now"


def test_a_letter_that_the_stream_cannot_hold_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        Output().result({}, "Zoë")
    assert (tmp_path / "out").read_text() == "Zo\\xeb\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1.00 KiB"),
        (98362432, "93.8 MiB"),
        (200 << 30, "200 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_bytes_read_well(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(7, "7"), (19936, "19.9K"), (134515008, "135M"), (1_100_000_000, "1.1B"), (2 * 10**12, "2.0T")],
)
def test_parameters_read_well(count: int, text: str) -> None:
    assert format_parameters(count) == text


def test_wide_and_combining_characters_count_as_the_terminal_shows_them() -> None:
    assert (columns_of("ab"), columns_of("漢字"), columns_of("e\u0301")) == (2, 4, 1)
    assert align([["漢", "x"], ["abc", "y"]]) == ["漢   x", "abc  y"]
    assert align([]) == []


def test_a_plural_needs_more_than_one() -> None:
    assert (plural(1, "model"), plural(2, "model"), plural(1234, "token")) == (
        "1 model",
        "2 models",
        "1,234 tokens",
    )


class TestWidth:
    @pytest.mark.parametrize(
        ("text", "columns"),
        [
            ("abc", 3),
            ("e\u0301", 1),
            ("\u0915\u093f", 1),
            ("\U0001f468\u200d\U0001f469", 4),
            ("\u2764\ufe0f", 1),
            ("\u65e5\u672c", 4),
            ("\uff21", 2),
            ("\u00a1", 1),
            ("a\u20dd", 1),
        ],
    )
    def test_columns_follow_category_and_east_asian_width(self, text: str, columns: int) -> None:
        assert columns_of(text) == columns

    @pytest.mark.parametrize(
        ("line", "pieces"),
        [
            ("", [""]),
            ("one two", ["one two"]),
            ("one two three", ["one two", "three"]),
            ("/a/long/path/of/it", ["/a/long/", "path/of/", "it"]),
            ("x /a/long/path", ["x", "/a/long/", "path"]),
            ("  one two", ["  one", "  two"]),
            ("\u65e5\u672c\u8a9e\u65e5\u672c", ["\u65e5\u672c\u8a9e\u65e5", "\u672c"]),
        ],
    )
    def test_a_line_is_broken_between_words_and_a_long_one_within(self, line: str, pieces: list[str]) -> None:
        assert wrap(line, 8) == pieces

    def test_values_hang_below_each_other_on_a_terminal_and_commands_stay_whole(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Output, "_columns", lambda self, stream: 40)
        command = "next: localq import " + "x" * 60
        Output().result({}, Fields([("name", "word " * 20 + "\n" + command)]))
        first, *rest = capsys.readouterr().out.splitlines()
        assert first.startswith("name  word") and len(first) <= 40
        assert all(line.startswith("      word") and len(line) <= 40 for line in rest[:-1])
        assert rest[-1] == f"      {command}"
