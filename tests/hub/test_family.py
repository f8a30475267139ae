from __future__ import annotations

import pytest

from app.hub.catalog import catalog
from app.hub.family import family_of, smaller_relatives


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("qwen3-8b", "qwen3"),
        ("Qwen/Qwen3-30B-A3B", "qwen3"),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama3"),
        ("llama3.3-70b", "llama3"),
        ("HuggingFaceTB/SmolLM2-135M", "smollm2"),
        ("mistralai/Mistral-7B-v0.1", "mistral"),
        ("mistral-small3.2-24b", "mistral"),
        ("google/gemma-3-270m-it", "gemma3"),
        ("allenai/OLMo-2-1124-7B", "olmo2"),
        ("org/123", ""),
    ],
)
def test_a_family_is_letters_and_a_version(name: str, family: str) -> None:
    assert family_of(name) == family


def test_the_makers_name_and_ours_are_of_one_family() -> None:
    for entry in catalog().values():
        assert family_of(entry.original) == family_of(entry.name), entry.name


def test_relatives_are_smaller_and_come_largest_first() -> None:
    found = [entry.name for entry in smaller_relatives("Qwen/Qwen3-14B", 14_800_000_000)]
    assert found == ["qwen3-8b", "qwen3-4b", "qwen3-1.7b", "qwen3-0.6b"]
    assert smaller_relatives("Qwen/Qwen3-0.6B", 600_000_000) == []
    assert smaller_relatives("org/unheard-of-9b", 9_000_000_000) == []
