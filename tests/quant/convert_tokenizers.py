"""Small tokenizers of every kind, trained on the texts that come with localq."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from quant.calibration.texts import builtin
from quant.convert.tokenizers.pre_tokenizers import DIGIT, GPT2

SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>"]
SPACE = "▁"


@cache
def corpus() -> tuple[str, ...]:
    """Every fourth line of the built-in texts, in several languages, and code."""
    return tuple(line for text in builtin("calibration") for line in text.text.splitlines()[::4] if line)


def save(tokenizer: Tokenizer, folder: Path, **config: Any) -> Tokenizer:
    """Writes it as a repository has it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


def byte_bpe(cuts: Sequence[str], *, ignore_merges: bool = False, size: int = 900) -> Tokenizer:
    """A byte-level BPE that cuts texts by ``cuts``, with three special tokens at the start."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    steps: list[Any] = []
    for cut in cuts:
        if cut == DIGIT:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        elif cut != GPT2:
            steps.append(pre_tokenizers.Split(Regex(cut), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cuts[-1] == GPT2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def spaced_bpe(*, begins_with_space: bool, size: int = 900) -> Tokenizer:
    """BPE with bytes to fall back to: like Llama 2's with a space before each text, else like Gemma's."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trained.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, show_progress=False))
    document = json.loads(trained.to_str())
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts = [*first, *document["model"]["vocab"]]
    document["model"] |= {
        "vocab": {text: token for token, text in enumerate(texts)},
        "byte_fallback": True,
        "unk_token": "<unk>",
        "fuse_unk": True,
    }
    found = Tokenizer.from_str(json.dumps(document))
    replace = normalizers.Replace(" ", SPACE)
    if begins_with_space:
        found.pre_tokenizer = None
        found.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace])
    else:
        found.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        found.normalizer = replace
    found.add_special_tokens(first[:3])
    found.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return found


def word_piece(size: int = 1200) -> Tokenizer:
    """Lower-case words and their parts, as BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        corpus(), trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def sentencepiece_model(path: Path, kind: str, size: int = 1500) -> Any:
    """A tokenizer.model of the ``kind`` bpe or unigram; returns SentencePiece's processor of it."""
    import sentencepiece

    bpe = kind == "bpe"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()),
            model_writer=out,
            vocab_size=size,
            model_type=kind,
            byte_fallback=bpe,
            normalization_rule_name="identity" if bpe else "nmt_nfkc",
            remove_extra_whitespaces=not bpe,
            character_coverage=0.9995,
            num_threads=1,
            minloglevel=2,
        )
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
