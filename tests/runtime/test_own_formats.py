"""Models with matrices in LT formats: they answer as the weights that they stand for, or say why not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from runtime.budget import plan_memory
from runtime.engine.client import Engine
from runtime.engine.config import EngineConfig
from runtime.errors import ModelLoadFailed
from runtime.gguf import open_model
from runtime.hardware import this_machine
from runtime.kernels import available_isas
from tests.hostile.gguf_packed import packed_model
from tests.runtime.budget_fixtures import MIB
from tests.runtime.packed_models import write_pair
from tests.runtime.test_hook import log_probabilities
from tests.runtime.watched_model import WatchedLlama

CLOSE = 2e-3
"""Nats: what inputs of 8 bits do to a model of one layer whose weights are as coarse as drawn ones."""


def divergence(own: Path, plain: Path, folder: Path) -> float:
    """Mean KL(plain in llama.cpp || own) in nats."""
    _, wanted = log_probabilities(plain, folder, LOCALQ_GGML="off")
    _, got = log_probabilities(own, folder)
    return float((np.exp(wanted) * (wanted - got)).sum(axis=1).mean())


def llama(experts: int = 0) -> WatchedLlama:
    """With rows of 320, which 128 does not divide, and of 384, which it does."""
    return WatchedLlama(hidden=320, width=384, layers=1, experts=experts, used=min(experts, 2))


@pytest.mark.parametrize("experts", [0, 4], ids=["dense", "experts"])
@pytest.mark.parametrize(("form", "states"), [("lt1", 6), ("lt2", 4), ("lt2", 6), ("lt3", 6), ("lt4", 8)])
def test_a_packed_model_answers_as_its_weights_in_f32(
    tmp_path: Path, form: str, states: int, experts: int
) -> None:
    own, plain = write_pair(tmp_path, llama(experts), form, states)
    assert divergence(own, plain, tmp_path) <= CLOSE


def test_one_other_sign_of_an_input_is_noticed(tmp_path: Path) -> None:
    own, plain = write_pair(tmp_path, llama(), "lt2", 6)
    section = open_model(own).packed
    assert section is not None
    at = section.offset + section.tensors[0].input.offset
    data = bytearray(own.read_bytes())
    data[at : at + 40] = bytes(byte ^ 255 for byte in data[at : at + 40])
    own.write_bytes(data)
    assert divergence(own, plain, tmp_path) > CLOSE


def test_answers_depend_neither_on_the_instruction_set_nor_on_mapping(tmp_path: Path) -> None:
    own, _ = write_pair(tmp_path, llama(), "lt3", 6)
    _, wanted = log_probabilities(own, tmp_path)
    for isa in available_isas()[1:]:
        _, got = log_probabilities(own, tmp_path, LOCALQ_FORCE_ISA=isa)
        assert got.tobytes() == wanted.tobytes(), isa


def config(path: Path, **changes: object) -> EngineConfig:
    given: dict[str, object] = {"context_tokens": 256, "threads": 1, **changes}
    return EngineConfig(model_paths=(str(path),), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("mmap", [True, False])
def test_the_worker_loads_such_a_file_as_any_other(tmp_path: Path, mmap: bool) -> None:
    own, _ = write_pair(tmp_path, llama(), "lt2", 6)
    temporary = set(Path(tempfile.gettempdir()).glob("localq-*/packed.gguf"))
    with Engine(config(own, mmap=mmap)) as engine:
        assert engine.info.kernels
        opened = open_model(own)
        assert engine.info.size_bytes == sum(tensor.nbytes for tensor in opened.all_tensors)
        _, finished = engine.submit([5, 6, 7], max_tokens=8, ignore_eos=True).result()
        assert finished.usage.output_tokens == 8
        assert set(Path(tempfile.gettempdir()).glob("localq-*/packed.gguf")) <= temporary


def test_without_the_kernels_it_is_told_what_the_file_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = write_pair(tmp_path, llama(), "lt2", 6)
    monkeypatch.setenv("LOCALQ_GGML", "off")
    with pytest.raises(ModelLoadFailed) as caught:
        Engine(config(own)).start()
    assert "matrices in LT2, which only localq's kernels multiply" in str(caught.value)
    assert "LOCALQ_GGML=off. `localq export`" in str(caught.value)


def test_a_table_that_the_kernels_cannot_multiply_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(packed_model(table=[65] * 16))
    with pytest.raises(ModelLoadFailed, match="has a value beyond 64"):
        Engine(config(path)).start()


def test_a_stock_llama_cpp_refuses_the_file(tmp_path: Path) -> None:
    own, _ = write_pair(tmp_path, llama(), "lt2", 6)
    code = (
        "import sys; from llama_cpp import llama_cpp as native;"
        "native.llama_backend_init();"
        "sys.exit(0 if native.llama_model_load_from_file(sys.argv[1].encode(),"
        " native.llama_model_default_params()) else 3)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(own)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 3
    assert "output.weight' not found" in ran.stderr or "attn_q.weight' not found" in ran.stderr


@pytest.mark.parametrize("mmap", [True, False])
def test_the_workers_peak_is_within_the_forecast(tmp_path: Path, mmap: bool) -> None:
    large = WatchedLlama(hidden=1024, width=4096, heads=16, key_heads=4, layers=6)
    own, _ = write_pair(tmp_path, large, "lt4", 6)
    chosen = config(own, context_tokens=512, mmap=mmap)
    forecast = plan_memory(open_model(own), chosen, this_machine()).total
    with Engine(chosen) as engine:
        engine.submit([5 + n % 200 for n in range(480)], max_tokens=4, ignore_eos=True).result()
        measured = engine.peak_memory_bytes()
    assert measured <= forecast <= measured + 32 * MIB
