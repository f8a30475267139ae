"""Watching models of every kind: all of their matrices are seen, each with all tokens."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from runtime.engine.job import run_job
from runtime.engine.messages import Prompt
from runtime.engine.observation import MODULE, Observed, ObserveProgress, ObserveRequest, Passage
from runtime.errors import EngineError
from tests.runtime.budget_models import ZOO
from tests.runtime.byte_model import byte_tokens

TOKENS = 96
MULTIPLIED = re.compile(
    r"blk\.\d+\.(attn_(q|k|v|qkv|output|gate)|ffn_(gate|up|down)(_exps|_shexp)?|ssm_(in|out))\.weight"
)
NEED_WEIGHTS = {"gemma3n", "gemma4"}
"""The models here have weights of zeros: these divide by them."""


def write(name: str, path: Path) -> Path:
    """The model with a vocabulary of bytes."""
    model = ZOO[name]
    size = model.tensors["token_embd.weight"][1][1]
    spelled = [*byte_tokens(), "th"]
    vocabulary = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*spelled, *(f"<more{index}>" for index in range(size - len(spelled)))],
        "tokenizer.ggml.merges": ["t h"],
    }
    return dataclasses.replace(model, general={**model.general, **vocabulary}).write(path)


def watch(model: Path, folder: Path) -> Observed:
    folder.mkdir()
    request = ObserveRequest(
        model_paths=(str(model),),
        passages=(Passage("p", Prompt("abcdefgh" * TOKENS, parse_special=False)),),
        folder=str(folder),
        tokens=TOKENS,
        chunk_tokens=32,
        threads=2,
        memory_bytes=1 << 30,
        hessian=False,
    )
    return run_job(MODULE, request, progress=ObserveProgress, result=Observed)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ZOO.keys() - NEED_WEIGHTS))
def test_all_matrices_of_a_model_are_seen(name: str, tmp_path: Path) -> None:
    observed = watch(write(name, tmp_path / "m.gguf"), tmp_path / "out")
    assert not [tensor for tensor in observed.unseen if MULTIPLIED.fullmatch(tensor)]
    used = ZOO[name].hyper.get("expert_used_count", 1)
    for found in observed.inputs:
        routed = "_exps" in found.tensors[0]
        if routed:
            assert sum(found.tokens) == TOKENS * int(str(used))
        else:
            assert set(found.tokens) == {TOKENS}, found.tensors


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NEED_WEIGHTS))
def test_values_that_are_not_finite_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"the input of blk\.\d+\.\w+\.weight is not finite"):
        watch(write(name, tmp_path / "m.gguf"), tmp_path / "out")
