from __future__ import annotations

import pytest

from quant.calibration.text import CalibrationText
from quant.errors import TextsOverlap
from quant.evaluation.overlap import Overlap, overlap, require_disjoint, runs
from quant.evaluation.result import EvaluationText

WORDS = [f"word{index}" for index in range(40)]
TEXT = " ".join(WORDS)


def test_a_text_overlaps_with_itself_in_every_run() -> None:
    found = overlap(TEXT, [TEXT])
    assert (found.shared, found.grams, found.share) == (28, 28, 1.0)
    assert found.example == " ".join(WORDS[:13])


def test_thirteen_shared_words_are_found_and_twelve_are_not() -> None:
    assert overlap(TEXT, ["before " + " ".join(WORDS[5:18]) + " behind"]).shared == 1
    assert overlap(TEXT, ["before " + " ".join(WORDS[5:17]) + " behind"]).shared == 0


def test_case_punctuation_and_white_space_do_not_hide_a_copy() -> None:
    copy = ",\n".join(word.upper() for word in WORDS[3:16]) + "!"
    assert overlap(TEXT, [copy]).example == " ".join(WORDS[3:16])


def test_a_run_over_the_border_of_two_texts_is_none() -> None:
    assert overlap(TEXT, [" ".join(WORDS[:8]), " ".join(WORDS[8:20])]) == Overlap(0, 28)


@pytest.mark.parametrize(
    "text", ["機械学習は、データから規則を見つける方法です。", "ภาษาไทยไม่มีช่องว่างระหว่างคำ"]
)
def test_scripts_without_spaces_are_compared_by_character(text: str) -> None:
    assert overlap(text, ["。" + text]).share == 1.0
    assert overlap(text, [text[:6] + " x " + text[6:]]).share < 1.0


def test_a_run_counts_once_however_often_it_comes() -> None:
    assert overlap("a b a b a b", ["a b a"], words=2) == Overlap(2, 2, "a b")
    assert len(list(runs("a b a b a b", 2))) == 5


def test_a_short_text_has_no_runs() -> None:
    assert overlap("too short to say", ["too short to say"]) == Overlap(0, 0)
    assert overlap("", []).share == 0.0


def test_a_text_that_calibration_would_see_is_refused_by_name() -> None:
    words = " ".join(f"word{number}" for number in range(40))
    judged = EvaluationText("mine.txt", f"An introduction. {words}")
    conversation = CalibrationText("chat/1", "dialogue", messages=({"role": "user", "content": words},))
    with pytest.raises(TextsOverlap, match=r"mine\.txt.*word0 word1"):
        require_disjoint((judged,), (conversation,), 1 << 20)
    require_disjoint((judged,), (conversation,), 20)
    require_disjoint((judged,), (CalibrationText("other", "prose", "Quite another text."),), 1 << 20)
