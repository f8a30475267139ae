"""The tokenizing job, in its own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.engine.job import run_job
from runtime.engine.messages import Prompt
from runtime.engine.observation import Passage
from runtime.engine.tokens import MODULE, Tokenized, TokenizeProgress, TokenizeRequest
from runtime.errors import ModelLoadFailed
from tests.quant.llama_child import results, tokenizing

TEXTS = ("The cat sat on the mat.", "def f(x):\n    return x", "Über uns: 你好!", "")
DOMAINS = ("prose", "code", "prose", "none")


def request(model: Path, file: Path) -> TokenizeRequest:
    passages = tuple(
        Passage(domain, Prompt(text, parse_special=False))
        for domain, text in zip(DOMAINS, TEXTS, strict=True)
    )
    return TokenizeRequest(model_path=str(model), passages=passages, file=str(file))


def read(asked: TokenizeRequest) -> tuple[Tokenized, list[TokenizeProgress]]:
    heard: list[TokenizeProgress] = []
    found = run_job(MODULE, asked, progress=TokenizeProgress, result=Tokenized, on_progress=heard.append)
    return found, heard


def test_texts_become_llama_cpps_tokens_domain_behind_domain(tiny_path: Path, tmp_path: Path) -> None:
    found, heard = read(request(tiny_path, tmp_path / "tokens"))
    (expected,) = results([tokenizing(tiny_path, TEXTS)])
    assert found.domains == {
        "prose": len(expected[0]) + len(expected[2]),
        "code": len(expected[1]),
        "none": 0,
    }
    tokens = np.fromfile(tmp_path / "tokens", "<i4").tolist()
    assert tokens == [*expected[0], *expected[2], *expected[1]]
    assert [(each.done, each.total) for each in heard] == [(number, 4) for number in range(4)]


def test_what_every_sequence_begins_with_is_told_and_not_in_the_file(tiny_path: Path, tmp_path: Path) -> None:
    found, _ = read(request(tiny_path, tmp_path / "tokens"))
    (with_first,) = results([tokenizing(tiny_path, TEXTS[:1], special=True)])
    begins = with_first[0][0]
    assert found.first_token in (None, begins)
    (plain,) = results([tokenizing(tiny_path, TEXTS[:1])])
    assert (found.first_token is None) == (with_first[0] == plain[0])
    assert np.fromfile(tmp_path / "tokens", "<i4")[0] == plain[0][0]


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelLoadFailed):
        read(request(tmp_path / "bad.gguf", tmp_path / "tokens"))
