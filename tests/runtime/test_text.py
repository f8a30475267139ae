from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.text import TextStream, beginning_length


def test_a_code_point_that_is_split_over_tokens_comes_out_whole() -> None:
    stream = TextStream()
    assert [stream.push(piece) for piece in (b"\xf0\x9f", b"\xa6", b"\x99!")] == ["", "", "\U0001f999!"]
    assert stream.finish() == ""


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    stream = TextStream()
    assert stream.push(b"a\xffb") == "a\ufffdb"
    assert stream.push(b"\xe2\x82") == ""
    assert stream.finish() == "\ufffd"


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not() -> None:
    stream = TextStream(("END", "\n\n"))
    assert stream.push(b"one E") == "one "
    assert stream.push(b"N") == ""
    assert stream.push(b"TER\n") == "ENTER"
    assert stream.push(b"x") == "\nx"
    assert stream.stop_text is None


def test_the_earliest_stop_string_wins_and_the_rest_is_dropped() -> None:
    stream = TextStream(("late", "soon"))
    assert stream.push(b"as soon as late") == "as "
    assert stream.stop_text == "soon"
    assert stream.push(b"more") == ""
    assert stream.finish() == ""


def test_held_text_is_released_at_the_end() -> None:
    stream = TextStream(("stop",))
    assert stream.push(b"do not sto") == "do not "
    assert stream.finish() == "sto"


@given(text=st.text(), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_cutting_of_a_text_gives_the_text(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    stream = TextStream()
    pieces = [data[a:b] for a, b in itertools.pairwise(marks)]
    assert "".join(map(stream.push, pieces)) + stream.finish() == data.decode()


@given(text=st.text("abc", max_size=30), stop=st.text("abc", min_size=1, max_size=4), step=st.integers(1, 5))
def test_the_text_before_a_stop_string_is_all_that_comes_out(text: str, stop: str, step: int) -> None:
    stream = TextStream((stop,))
    out = [stream.push(text[at : at + step].encode()) for at in range(0, len(text), step)]
    assert "".join(out) + stream.finish() == text.split(stop, 1)[0]
    assert (stream.stop_text is not None) == (stop in text)


def test_a_whole_stop_string_is_not_a_beginning_of_itself() -> None:
    assert beginning_length("xxab", "ab") == 0
    assert beginning_length("xxa", "ab") == 1
