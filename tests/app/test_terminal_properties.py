"""What holds for every text, however hostile and however it is cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.terminal import Sanitizer, sanitize
from tests.app.test_terminal_samples import SAMPLES
from tests.hostile.terminal import PIECES, foreign

CHARACTERS = st.characters(codec=None, exclude_categories=[])
TRICKY = st.sampled_from([*PIECES, *SAMPLES])
TEXTS = st.lists(st.one_of(TRICKY, CHARACTERS, st.text(CHARACTERS, max_size=8)), max_size=12).map("".join)


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_nothing_foreign_comes_out(text: str) -> None:
    assert foreign(sanitize(text)) == set()


@settings(max_examples=600, deadline=None)
@given(cut_texts())
def test_any_cutting_gives_what_the_whole_gives(pieces: list[str]) -> None:
    sanitizer = Sanitizer()
    assert "".join(map(sanitizer.feed, pieces)) + sanitizer.flush() == sanitize("".join(pieces))


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_cutting_at_every_character_gives_what_the_whole_gives(text: str) -> None:
    sanitizer = Sanitizer()
    assert "".join(map(sanitizer.feed, text)) + sanitizer.flush() == sanitize(text)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_a_second_pass_changes_nothing(text: str) -> None:
    once = sanitize(text)
    assert sanitize(once) == once


@settings(max_examples=250, deadline=None)
@given(TEXTS)
def test_on_one_line_there_is_neither_break_nor_tab_and_all_else_is_the_same(text: str) -> None:
    line = sanitize(text, newlines=False)
    assert not {"\n", "\t"} & set(line)
    assert line == sanitize(text).replace("\n", "␊").replace("\t", "␉")


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(SAMPLES)))
def test_real_texts_side_by_side_pass_unharmed(texts: list[str]) -> None:
    text = " ".join(texts)
    assert sanitize(text) == text


@settings(max_examples=250, deadline=None)
@given(cut_texts())
def test_no_more_than_six_characters_are_held_back(pieces: list[str]) -> None:
    """What a flush adds comes from held characters and one count, so it is short whatever came before."""
    sanitizer = Sanitizer()
    for piece in pieces:
        sanitizer.feed(piece)
    held, _, count = sanitizer.flush().partition("<+")
    assert len(held) <= 6 * len("<U+E0061>")
    assert count == "" or count.endswith(" marks>")
