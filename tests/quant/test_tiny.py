"""The tiny Llama of ``assets/tiny`` is a sound, trained model of the shape that tests rely on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from quant.calibration.domains import by_domain
from quant.calibration.texts import builtin
from quant.evaluation.evaluate import evaluate
from quant.evaluation.result import Evaluation, EvaluationText
from runtime.gguf import open_model

TOKENS = 3072


@pytest.fixture(scope="module")
def held_out(tiny_path: Path) -> Evaluation:
    texts = by_domain(builtin("evaluation"))
    chosen = [EvaluationText(domain, texts[domain]) for domain in ("prose", "code", "unseen")]
    return evaluate(tiny_path, texts=chosen, context=512, chunks=12, threads=1)


def test_every_matrix_has_a_depth_that_256_divides(tiny_path: Path) -> None:
    header = open_model(tiny_path).header
    matrices = [tensor for tensor in header.tensors if len(tensor.shape) == 2]
    assert len(matrices) == 6 * 7 + 1
    assert {tensor.type.name for tensor in matrices} == {"F16"}
    assert {tensor.shape[0] % 256 for tensor in matrices} == {0}
    assert tiny_path.stat().st_size <= 12_000_000


def test_its_page_names_this_file(tiny_path: Path) -> None:
    digest = hashlib.sha256(tiny_path.read_bytes()).hexdigest()
    assert digest in (tiny_path.parent / "README.md").read_text()


def test_its_data_are_listed_with_free_licences(tiny_path: Path) -> None:
    data = json.loads((tiny_path.parent / "data.json").read_text())
    free = {"public domain", "MIT", "MIT OR Apache-2.0", "BSD-3-Clause", "PSF-2.0", "PostgreSQL", "Zsh"}
    assert {entry["licence"] for entry in data} <= free | {"Apache-2.0"}
    assert all(len(entry["sha256"]) == 64 and entry["origin"] for entry in data)


def test_it_has_learned_every_kind_of_held_out_text(held_out: Evaluation) -> None:
    # Knowing nothing gives the perplexity 3072; knowing how frequent each token is, 870 to 1260.
    assert held_out.perplexity < TOKENS / 10
    for figures in held_out.texts:
        assert figures.perplexity < TOKENS / 10, figures.name


def test_it_says_the_same_of_a_text_twice(held_out: Evaluation, tiny_path: Path) -> None:
    text = EvaluationText("prose", by_domain(builtin("evaluation"))["prose"])
    first, second = (evaluate(tiny_path, texts=[text], context=512, chunks=2, threads=1) for _ in range(2))
    assert first == second
    assert first.perplexity != held_out.perplexity
