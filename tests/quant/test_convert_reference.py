"""What the fast tests take for true is what transformers and llama.cpp's converter say."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from quant.convert.convert import convert
from quant.convert.tokenizers.pre_tokenizers import cuts_of, find_pre_tokenizer
from quant.convert.tokenizers.tokenizer_json import TokenizerJson, read_tokenizer_json
from tests.quant import convert_reference as peers
from tests.quant.checkpoint_files import (
    GREEDY_PROMPT,
    GREEDY_TOKENS,
    PROMPT,
    described,
    write_checkpoint,
)
from tests.quant.hard_strings import hard_strings, has_marks
from tests.quant.llama_child import answering, computing, embedding, results
from tests.quant.test_convert_scales import blocks, eight_bits
from tests.quant.test_convert_tokenizers import differing, ids, reference, vocabulary_file

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


def test_the_tokenizers_of_released_models_give_the_same_ids(tmp_path: Path) -> None:
    """LOCALQ_TOKENIZERS names a folder with tokenizer.json files somewhere below it."""
    folder = os.environ.get("LOCALQ_TOKENIZERS")
    if not folder:
        pytest.skip("LOCALQ_TOKENIZERS does not name a folder with tokenizer.json files")
    found = sorted(Path(folder).rglob("tokenizer.json"))
    assert len(found) >= 4
    for path in found:
        file = read_tokenizer_json(path)
        texts = [text for text in hard_strings() if comparable(file, text)]
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        special = file.model.kind == "WordPiece"
        size = max(tokenizer.get_vocab().values()) + 1
        mine = ids(vocabulary_file(path.parent, size, into=tmp_path), texts, special=special)
        wrong = differing(texts, mine, reference(tokenizer, texts, special=special))
        print(f"{path}: {len(wrong)} of {len(texts)}, {len(hard_strings()) - len(texts)} left out")
        assert wrong == [], path


def comparable(file: TokenizerJson, text: str) -> bool:
    """Whether llama.cpp does with ``text`` what the tokenizer asks for (docs/convert.md)."""
    if file.model.kind == "WordPiece":
        return not has_marks(text, "Mc", "Me") and not any("가" <= character <= "힣" for character in text)
    if any(step.get("type") == "NFKC" for step in file.normalizers):
        return unicodedata.normalize("NFKC", text) == text
    known = find_pre_tokenizer(cuts_of(file.pre_tokenizers) or (), bool(file.model.ignore_merges), False)
    return known is None or known.marks_are_letters or not has_marks(text)


def test_blocks_of_eight_bits_become_the_same_bytes(llama_cpp: Path, tmp_path: Path) -> None:
    eight_bits(tmp_path / "fp8", blocks)
    out = peers.converted_by_llama_cpp(llama_cpp, tmp_path / "fp8", tmp_path / "theirs.gguf", "bf16")
    made = convert(tmp_path / "fp8", tmp_path / "ours.gguf")
    assert peers.tensors_digest(out) == peers.tensors_digest(made.path)
