"""What a request says of the formats that may come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant.allocation.recipe import Override
from tests.quant.stand_ins import request


@pytest.mark.parametrize(
    ("target", "more", "words", "experts"),
    [
        ("q4_k", {}, False, False),
        ("lt2", {}, True, True),
        ("q4_k", {"overrides": (Override("ffn", "lt3"),)}, True, True),
        (3.2, {}, True, False),  # chosen among others: too dear to ask of every expert
        (3.2, {"portable": True}, False, False),
        (3.2, {"feedback": False}, False, False),
        ("q4_k", {"expert_moments": True}, False, True),  # as a file had it that is made again
        ("lt2", {"expert_moments": False}, True, False),
        ("q4_k", {"expert_moments": True, "calibration": ()}, False, False),
    ],
)
def test_experts_get_moments_of_their_own_only_where_words_are_named(
    target: str | float, more: dict[str, object], words: bool, experts: bool, tmp_path: Path
) -> None:
    asked = request(tmp_path / "a.gguf", tmp_path / "b.gguf", target, **more)
    assert (asked.words, asked.calibrates_experts) == (words, experts)
