"""Small tokenizers of every kind, trained on the texts that come with localq."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).resolve().parents[2] / "quant" / "texts" / "calibration"
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>"]


def corpus() -> list[str]:
    """Lines in ten languages, and code."""
    return [line for path in sorted(TEXTS.glob("*.txt")) for line in path.read_text().splitlines() if line]


def save_byte_bpe(folder: Path, size: int = 320) -> None:
    """A byte-level BPE like Llama 3's, with three special tokens at the start."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    _save(tokenizer, folder, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2])


def _save(tokenizer: Any, folder: Path, **config: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
