"""What the fast tests take for true is what transformers and llama.cpp's converter say."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from quant.convert.convert import convert
from tests.quant import convert_reference as peers
from tests.quant.checkpoint_files import (
    GREEDY_PROMPT,
    GREEDY_TOKENS,
    PROMPT,
    described,
    write_checkpoint,
)
from tests.quant.llama_child import answering, computing, embedding, results

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
TOLERANCE = 2e-3
NAMES = tuple(described())


@pytest.fixture(scope="module")
def llama_cpp() -> Path:
    """The folder with convert_hf_to_gguf.py, of the llama.cpp that llama-cpp-python's source has."""
    named = os.environ.get("LOCALQ_LLAMA_CPP")
    if not named:
        pytest.skip("LOCALQ_LLAMA_CPP does not name a folder with convert_hf_to_gguf.py")
    return Path(named)


@pytest.mark.parametrize("name", NAMES)
def test_transformers_computes_what_is_written_down_and_what_llama_cpp_computes(
    name: str, tmp_path: Path
) -> None:
    reference = described()[name]
    folder = write_checkpoint(tmp_path / name, reference)
    rows, greedy = peers.computed(folder, embedder=reference.embedder)
    assert np.abs(rows[-1] - np.array(reference.last)).max() <= 1e-5 * reference.span
    assert greedy == reference.greedy
    path = convert(folder, tmp_path / "made.gguf").path
    if reference.embedder:
        (found,) = results([embedding(path, PROMPT)])
    else:
        found, answer = results([computing(path, PROMPT), answering(path, GREEDY_PROMPT, GREEDY_TOKENS)])
        assert answer == greedy
    assert np.abs(found - rows).max() <= TOLERANCE * (rows.max() - rows.min())


@pytest.mark.parametrize("outtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("name", NAMES)
def test_llama_cpps_converter_writes_the_bytes_that_are_written_down(
    name: str, outtype: str, llama_cpp: Path, tmp_path: Path
) -> None:
    reference = described()[name]
    folder = write_checkpoint(tmp_path / name, reference)
    out = peers.converted_by_llama_cpp(llama_cpp, folder, tmp_path / "theirs.gguf", outtype)
    assert reference.converted is not None
    assert peers.tensors_digest(out) == reference.converted[outtype]


def test_behind_its_first_context_a_long_model_takes_the_long_factors(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "phi3-long", described()["phi3-long"])
    long = (PROMPT * 4)[:150]
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        rows = model(torch.tensor([long])).logits[0].numpy()
    path = convert(folder, tmp_path / "made.gguf").path
    (found,) = results([computing(path, long, context=256)])
    assert np.abs(found - rows).max() <= TOLERANCE * (rows.max() - rows.min())
