from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.messages import Prompt
from runtime.engine.templates.control_text import ControlFinder, Piece, split_prompt


def partition(text: str, control_texts: set[str]) -> list[Piece]:
    """llama.cpp's rule: token by token, the longest in bytes first, in all that is still text.

    Tokens of one length do not follow a fixed order there; here all of them go together, from the left.
    """
    pieces = [Piece(text, False)] if text else []
    for size in sorted({len(control.encode()) for control in control_texts}, reverse=True):
        peers = [control for control in control_texts if len(control.encode()) == size]
        cut: list[Piece] = []
        for piece in pieces:
            rest = piece.text
            while not piece.is_control:
                places = [(rest.find(peer), peer) for peer in peers if peer in rest]
                if not places:
                    break
                place, peer = min(places)
                cut += [Piece(rest[:place], False)] * bool(place) + [Piece(peer, True)]
                rest = rest[place + len(peer) :]
            cut += [Piece(rest, piece.is_control)] * bool(rest)
        pieces = cut
    return pieces


letters = st.text("ab<é", max_size=5)


@given(st.sets(letters.filter(bool), max_size=8), st.lists(letters, max_size=12).map("".join))
def test_a_text_is_cut_as_llama_cpp_cuts_it(control_texts: set[str], text: str) -> None:
    assert split_prompt(Prompt(text), tuple(control_texts)) == partition(text, control_texts)


@given(st.sets(letters.filter(bool), max_size=8), st.lists(letters, max_size=12).map("".join))
def test_the_pieces_are_the_whole_text(control_texts: set[str], text: str) -> None:
    assert "".join(piece.text for piece in split_prompt(Prompt(text), tuple(control_texts))) == text


def test_the_longest_token_wins_even_from_the_right() -> None:
    assert ControlFinder(["ab", "bcd"]).spans("abcd") == [(1, 4)]
    assert ControlFinder(["ab", "abcd", "abc"]).spans("xabcdx") == [(1, 5)]
    assert ControlFinder(["<s>", "<s><s>"]).spans("<s><s><s>") == [(0, 6), (6, 9)]


def test_length_is_counted_in_bytes() -> None:
    assert ControlFinder(["xy1", "1é"]).spans("xy1é") == [(0, 3)]
    assert ControlFinder(["xy1", "1éé"]).spans("xy1éé") == [(2, 5)]


def test_protected_text_comes_back_and_is_never_control() -> None:
    prompt = Prompt("<s>1 is 12<s>", {"1": "<s>", "12": "</s>"})
    assert split_prompt(prompt, ("<s>", "</s>")) == [("<s>", True), ("<s> is </s>", False), ("<s>", True)]


def test_a_prompt_that_nobody_vouches_for_is_one_piece_of_text() -> None:
    prompt = Prompt("<s>hello", parse_special=False)
    assert split_prompt(prompt, ("<s>",)) == [Piece("<s>hello", False)]
    assert split_prompt(Prompt("", parse_special=False), ("<s>",)) == []
    assert split_prompt(Prompt(""), ("<s>",)) == []


def test_without_control_tokens_all_is_text() -> None:
    assert split_prompt(Prompt("hello"), ()) == [Piece("hello", False)]
    assert ControlFinder(["", ""]).spans("hello") == []


@pytest.mark.parametrize(
    "text",
    [
        *("the quick <b>fox</b> [jumps] " * 40_000, "<" * (1 << 20), "<|" * (1 << 19)),
        *("<|reserved_special_token_" * 45_000, "<|im_end|>" * 110_000, "漢字" * (1 << 19)),
    ],
    ids=["prose", "first-letters", "first-two", "long-beginnings", "tokens", "wide"],
)
def test_a_mebibyte_is_searched_for_a_thousand_control_texts_in_a_moment(text: str) -> None:
    finder = ControlFinder(["<|im_end|>", "<s>", *(f"<|reserved_special_token_{n}|>" for n in range(1000))])
    start = time.process_time()
    finder.spans(text)
    assert time.process_time() - start < 2.0


def test_a_vocabulary_of_control_tokens_only_does_not_stall() -> None:
    start = time.process_time()
    finder = ControlFinder([f"<{number:x}>" for number in range(100_000)] + ["<" * n for n in range(1, 999)])
    assert finder.spans("a<ff>b<<<c") == [(1, 5), (6, 9)]
    assert time.process_time() - start < 10.0
