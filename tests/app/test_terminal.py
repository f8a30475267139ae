"""No attack of the list reaches a terminal, and a reader sees that there was one."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from collections import defaultdict
from itertools import accumulate

import pytest

from app.terminal import MARK_LIMIT, Sanitizer, sanitize
from app.terminal.characters import CONTEXT, MARK, NEEDS, PLAIN, Shown
from tests.hostile.terminal import (
    AS_WRITTEN,
    INVISIBLE,
    MARKS,
    SEQUENCES,
    TAGGED,
    Attack,
    attacks,
    foreign,
)

UNUSED_SELECTORS = map(chr, range(0xFE03, 0xFE0E))
BY_NUMBER: dict[str, list[Attack]] = defaultdict(list)
for _attack in attacks():
    BY_NUMBER[_attack.number].append(_attack)


def stream(*pieces: str, newlines: bool = True) -> str:
    sanitizer = Sanitizer(newlines=newlines)
    return "".join(map(sanitizer.feed, pieces)) + sanitizer.flush()


def test_the_whole_list_of_attacks_is_played() -> None:
    assert sorted(BY_NUMBER) == [f"O{number:02}" for number in range(1, 21)]


@pytest.mark.parametrize("number", sorted(BY_NUMBER))
def test_no_attack_reaches_the_terminal(number: str) -> None:
    for attack in BY_NUMBER[number]:
        shown = stream(*attack.pieces)
        assert foreign(shown) == set(), attack
        assert shown == sanitize(attack.text), attack
        assert sanitize(shown) == shown, attack


def test_the_judge_finds_every_attack_in_the_raw_text() -> None:
    harmless = {number for number, _ in AS_WRITTEN}
    for attack in attacks():
        assert bool(foreign(attack.text)) == (attack.number not in harmless), attack


@pytest.mark.parametrize(
    "text", [text for texts in AS_WRITTEN.values() for text in texts], ids=lambda text: text[:9]
)
def test_markup_and_floods_are_text_as_written(text: str) -> None:
    assert sanitize(text) == text


@pytest.mark.parametrize("text", [text for texts in SEQUENCES.values() for text in texts])
def test_a_sequence_stays_readable_with_its_controls_as_pictures(text: str) -> None:
    as_spelt = re.sub("[\x00-\x1f]", lambda control: chr(0x2400 + ord(control.group())), text)
    as_spelt = re.sub("[\x80-\x9f]", lambda control: f"<U+{ord(control.group()):04X}>", as_spelt)
    assert sanitize(text) == as_spelt


@pytest.mark.parametrize("text", INVISIBLE)
def test_what_nobody_would_see_is_shown(text: str) -> None:
    assert re.search(r"<U\+[0-9A-F]{4,6}>|<\+[0-9]+ marks>", sanitize(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x00\x1b\x7f\x9b", "␀␛␡<U+009B>"),
        ("a\u202eb", "a<U+202E>b"),
        ("\U000e0041", "<U+E0041>"),
        ("\U0010fffd", "<U+10FFFD>"),
        ("\ufeff\ufffe", "<U+FEFF><U+FFFE>"),
        ("a\u2028b\x85c", "a<U+2028>b<U+0085>c"),
        ("soft\u00adhyphen", "soft<U+00AD>hyphen"),
        ("a\u200bb", "a<U+200B>b"),
        ("a\u200db", "a<U+200D>b"),
        ("\ufffc \ufffd", "\ufffc \ufffd"),
        ("\u0378", "<U+0378>"),
    ],
)
def test_each_kind_has_one_form(text: str, shown: str) -> None:
    assert sanitize(text) == shown


def test_every_code_point_is_judged_as_unicode_describes_it() -> None:
    characters = [chr(code) for code in range(0x110000) if chr(code) not in "\r\n"]
    lines = sanitize("\n".join(characters)).split("\n")
    passed = {char for char, line in zip(characters, lines, strict=True) if char == line}
    assert foreign("\n".join(passed)) == set()
    visible = {char for char in characters if unicodedata.category(char)[0] in "LMNPS"}
    fillers = set("\u115f\u1160\u17b4\u17b5\u3164\uffa0\U0001d159")
    assert visible - passed == fillers | {char for char in NEEDS if char in visible} | set(UNUSED_SELECTORS)


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u200c", "\u200d", "\u034f", "\u180b", "\ufe00", "\ufe0f", "\U000e0100"]
)
def test_an_invisible_character_passes_only_after_what_the_judge_allows(hidden: str) -> None:
    scripts = [
        *range(0x20, 0x3500),
        *range(0xA000, 0xAC00),
        *range(0xD7B0, 0x17000),
        *range(0x1B000, 0x20100),
    ]
    pairs = [chr(code) + hidden for code in scripts]
    lines = sanitize("\n".join(pairs)).split("\n")
    passed = [pair for pair, line in zip(pairs, lines, strict=True) if pair == line]
    assert 0 < len(passed) < len(pairs) / 4
    assert foreign("\n".join(passed)) == set()


def test_characters_that_skip_the_closer_look_need_none() -> None:
    judge = Shown()
    assert [
        hex(code) for code in range(0x110000) if chr(code) in PLAIN and judge[chr(code)] != chr(code)
    ] == []


def test_no_invisible_character_can_carry_another() -> None:
    assert [char for char in NEEDS for bases in NEEDS.values() if char in bases] == []


def test_the_memory_of_characters_is_bounded() -> None:
    shown = Shown()
    for code in range(0x4E00, 0x9FFF):
        assert shown[chr(code)] == chr(code)
        assert len(shown) <= Shown.CAPACITY
    assert shown["\r"] == CONTEXT and shown["\x00"] == "␀" and shown["\u0301"] == MARK


class TestLineBreaks:
    def test_a_carriage_return_before_a_line_feed_is_dropped(self) -> None:
        assert sanitize("a\r\nb\r\n") == "a\nb\n"

    def test_a_carriage_return_alone_is_shown(self) -> None:
        assert sanitize("rm -rf /\recho ok\r\r\n\r") == "rm -rf /␍echo ok␍\n␍"

    def test_the_pair_may_be_cut(self) -> None:
        assert stream("a\r", "\nb\r", "c\r") == "a\nb␍c␍"

    def test_on_one_line_breaks_and_tabs_are_shown(self) -> None:
        assert sanitize("a\nb\tc\r\nd\r", newlines=False) == "a␊b␉c␊d␍"
        assert stream("a\r", "\n", "\t", newlines=False) == "a␊␉"


class TestSurrogates:
    def test_halves_in_two_pieces_make_one_character(self) -> None:
        assert stream("a\ud83d", "\ude00b") == "a😀b"
        assert sanitize("\ud83d\ude00") == "😀"

    def test_a_half_alone_is_shown(self) -> None:
        assert stream("\ud83d", "\ud83d", "\ude00", "\udcff", "\ud800") == "<U+D83D>😀<U+DCFF><U+D800>"

    def test_a_pair_is_judged_as_the_character_it_makes(self) -> None:
        assert stream("\udb40", "\udc41") == "<U+E0041>"
        assert stream("👩\u200d\ud83d", "\udcbb") == "👩\u200d💻"


class TestJoiners:
    @pytest.mark.parametrize(
        "text", ["a\u200d💻", "👩\u200da", "👩\u200d", "\u200d💻", "👩\u200d\u200d💻", "1\u200d💻"]
    )
    def test_a_joiner_outside_an_emoji_is_shown(self, text: str) -> None:
        assert "<U+200D>" in sanitize(text)

    def test_a_joiner_waits_for_what_it_joins(self) -> None:
        sanitizer = Sanitizer()
        assert sanitizer.feed("👩\u200d") == "👩"
        assert sanitizer.feed("💻") == "\u200d💻"
        assert sanitizer.flush() == ""

    def test_only_one_joiner_follows_a_letter(self) -> None:
        assert sanitize("می\u200c\u200cخ") == "می\u200c<U+200C>خ"

    def test_a_break_opportunity_passes_only_where_words_are_not_spaced(self) -> None:
        assert sanitize("ខ\u200bម a\u200bb") == "ខ\u200bម a<U+200B>b"


class TestSelectors:
    def test_bytes_smuggled_in_selectors_are_shown(self) -> None:
        assert sanitize("😀\ufe0f\ufe01\U000e0101x") == "😀\ufe0f<U+FE01><U+E0101>x"

    def test_a_keycap_needs_its_cap(self) -> None:
        assert stream("1\ufe0f", "\u20e3 2\ufe0f", "3") == "1\ufe0f\u20e3 2<U+FE0F>3"

    def test_an_ideograph_carries_one_variant(self) -> None:
        assert sanitize("葛\U000e0100\U000e0101") == "葛\U000e0100<U+E0101>"


class TestTags:
    england = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"

    def test_a_flag_may_be_cut_anywhere(self) -> None:
        for cut in range(1, len(self.england)):
            assert stream(self.england[:cut], self.england[cut:]) == self.england

    def test_no_part_of_a_flag_is_given_out_before_it_is_whole(self) -> None:
        sanitizer = Sanitizer()
        given = list(accumulate(map(sanitizer.feed, self.england)))
        assert given == ["🏴"] * 6 + [self.england]

    def test_a_flag_of_any_other_place_is_spelt_out(self) -> None:
        assert sanitize("🏴\U000e0075\U000e0073\U000e007f") == "🏴<U+E0075><U+E0073><U+E007F>"
        assert stream(self.england[:4], self.england[5:]) == "🏴<U+E0067><U+E0062><U+E0065><U+E0067><U+E007F>"

    def test_its_last_tag_may_come_as_two_surrogates(self) -> None:
        assert stream(self.england[:-1] + "\udb40", "\udc7f") == self.england

    def test_the_tags_of_a_flag_without_a_flag_are_spelt_out(self) -> None:
        assert sanitize("x" + self.england[1:]).startswith("x<U+E0067><U+E0062>")

    def test_hidden_text_is_spelt_out(self) -> None:
        assert sanitize(f"hi{TAGGED}") == "hi" + "".join(f"<U+{ord(tag):04X}>" for tag in TAGGED)


class TestMarks:
    def test_as_many_as_real_scripts_use_pass(self) -> None:
        text = "e" + MARKS[:MARK_LIMIT] + "x"
        assert sanitize(text) == text

    def test_the_rest_is_counted(self) -> None:
        assert sanitize(f"e{MARKS[:10]}x") == f"e{MARKS[:8]}<+2 marks>x"
        assert sanitize("e" + "\u0301" * 10_000) == "e" + "\u0301" * 8 + "<+9992 marks>"

    @pytest.mark.parametrize("after", ["x", "\n", "é", "\x1b", "\u202e", "\r\n", ""])
    def test_the_count_stands_before_what_comes_next(self, after: str) -> None:
        assert sanitize("e" + "\u0301" * 9 + after).startswith("e" + "\u0301" * 8 + "<+1 marks>")

    def test_marks_in_many_pieces_are_one_stack(self) -> None:
        assert stream("e", *"\u0301" * 20, "x" * 40) == "e" + "\u0301" * 8 + "<+12 marks>" + "x" * 40
        assert stream("e" + "\u0301" * 20, "x") == stream("e" + "\u0301" * 20, "", "x")

    def test_invisible_characters_do_not_begin_a_new_stack(self) -> None:
        stack = "ب" + "\u064e" * 4 + "\u200d" + "\u064e" * 4 + "\u200d"
        assert sanitize(stack + "\u064e" * 4 + "\u200d") == stack + "<+4 marks><U+200D>"

    def test_no_joiner_follows_a_mark_that_is_not_shown(self) -> None:
        assert sanitize("ب" + "\u064e" * 9 + "\u200d") == "ب" + "\u064e" * 8 + "<+1 marks><U+200D>"


def test_after_flush_a_new_text_begins() -> None:
    sanitizer = Sanitizer()
    sanitizer.feed("👩\u200d")
    assert sanitizer.flush() == "<U+200D>"
    assert sanitizer.feed("👩") + sanitizer.flush() == "👩"
    assert sanitizer.feed("\u200d💻") + sanitizer.flush() == "<U+200D>💻"
    assert sanitizer.feed("e" + "\u0301" * 9) + sanitizer.flush() == "e" + "\u0301" * 8 + "<+1 marks>"
    assert sanitizer.feed("\u0301" * 8) + sanitizer.flush() == "\u0301" * 8


def test_a_piece_of_plain_text_is_given_out_at_once() -> None:
    sanitizer = Sanitizer()
    assert sanitizer.feed("") == ""
    for piece in ("Hello", ",", " wörld\n", "日本"):
        assert sanitizer.feed(piece) == piece
    assert sanitizer.flush() == ""


def test_the_example_in_the_documentation_is_true() -> None:
    import doctest

    import app.terminal

    results = doctest.testmod(app.terminal)
    assert results.attempted == 1 and results.failed == 0


def test_importing_it_brings_in_neither_rich_nor_msgspec() -> None:
    code = "import sys, app.terminal; print({'rich', 'msgspec', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
