"""A domain's running text is a fair sample from its beginning on, and loses nothing."""

from __future__ import annotations

import pytest

from quant.calibration.domains import by_domain
from quant.calibration.text import CalibrationText
from quant.calibration.texts import builtin


def document(name: str, lines: int, domain: str = "prose") -> CalibrationText:
    return CalibrationText(name, domain, "".join(f"{name}{number:04}\n" for number in range(lines)))


def test_every_line_is_there_once_and_in_its_documents_order() -> None:
    texts = [document("a", 500), document("b", 37), document("c", 3, "code")]
    running = by_domain(texts, piece=60)
    assert list(running) == ["prose", "code"]
    lines = [line for line in running["prose"].splitlines() if line]
    for text in texts[:2]:
        assert [line for line in lines if line[0] == text.name] == text.text.splitlines()
    assert running["code"] == texts[2].text


def test_a_first_part_holds_that_part_of_every_document() -> None:
    running = by_domain([document("a", 800), document("b", 200)], piece=60)["prose"]
    half = running[: len(running) // 2]
    assert 380 <= half.count("a") <= 420
    assert 90 <= half.count("b") <= 110


def test_one_long_document_in_front_is_what_the_spreading_prevents() -> None:
    texts = [document("a", 800), document("b", 200)]
    together = "".join(text.text for text in texts)
    assert together[: len(together) // 2].count("b") == 0


def test_a_conversation_is_its_contents() -> None:
    messages = ({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."})
    assert by_domain([CalibrationText("x", "dialogue", messages=messages)]) == {
        "dialogue": "Why?\n\nBecause.\n"
    }


def test_the_built_in_evaluation_has_a_long_text_in_each_domain_whose_start_is_mixed() -> None:
    running = by_domain(builtin("evaluation"))
    assert list(running) == ["prose", "code", "dialogue", "unseen"]
    assert running == by_domain(builtin("evaluation"))
    for domain in ("prose", "code", "unseen"):
        assert len(running[domain]) > 40_000
    half = running["unseen"][: len(running["unseen"]) // 2]
    kinds = ("Rays", "Heav", "Title:", "olive oil", "Zygmunt", "고구마", "Gunvor")
    assert sum(word in half for word in kinds) >= 5
    assert "Rays" in half[:15_000] and "Heav" in half[:15_000]


def test_pieces_of_nothing_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="use 1 or more"):
        by_domain([], piece=0)
