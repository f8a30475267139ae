"""The tokenizer of a repository, whatever its kind."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from quant.convert.config import Config
from quant.convert.json_file import read_optional
from quant.convert.tokenizers.byte_bpe import byte_bpe, is_byte_level
from quant.convert.tokenizers.chat_template import chat_template_keys
from quant.convert.tokenizers.sentencepiece_model import sentencepiece_vocabulary
from quant.convert.tokenizers.spaced_bpe import is_spaced, spaced_bpe
from quant.convert.tokenizers.special import special_tokens
from quant.convert.tokenizers.tokenizer_json import TokenizerJson, read_tokenizer_json
from quant.convert.tokenizers.unigram import unigram
from quant.convert.tokenizers.vocabulary import Vocabulary
from quant.convert.tokenizers.wordpiece import from_list, wordpiece
from quant.errors import CannotConvert
from quant.files.layout import Key


@dataclass(frozen=True)
class Tokenizer:
    """What the GGUF says of the tokenizer, and what a person should know of it."""

    keys: tuple[Key, ...]
    texts: Collection[str]
    """Of all tokens."""
    warnings: tuple[str, ...]


def read_tokenizer(config: Config) -> Tokenizer:
    """The tokenizer beside config.json: its tokenizer.json, or where there is none its vocab.txt or
    tokenizer.model.

    Raises :class:`CheckpointDamaged` for a file that breaks a rule, :class:`CannotConvert` for a tokenizer
    that llama.cpp has not.
    """
    folder, size = config.folder, config.integer("vocab_size")
    file = None
    if (folder / "tokenizer.json").exists():
        file = read_tokenizer_json(folder / "tokenizer.json")
        vocabulary = _from_json(file, size, folder)
    elif (folder / "tokenizer.model").exists():
        vocabulary = sentencepiece_vocabulary(folder / "tokenizer.model", size)
    elif (folder / "vocab.txt").exists():
        vocabulary = from_list(folder / "vocab.txt", size)
    else:
        raise CannotConvert(
            folder,
            "has no tokenizer.json, tokenizer.model or vocab.txt: fetch the tokenizer's files too, or write "
            "them with transformers' save_pretrained",
        )
    special = special_tokens(config, vocabulary, file)
    keys = (*vocabulary.keys(), *special.keys(), *chat_template_keys(folder))
    return Tokenizer(keys, frozenset(vocabulary.tokens), vocabulary.warnings)


def _from_json(file: TokenizerJson, size: int, folder: Path) -> Vocabulary:
    kind = file.model.kind
    if kind == "Unigram":
        return unigram(file, size, folder)
    if kind == "WordPiece":
        return wordpiece(file, size, folder)
    if kind == "BPE" and is_byte_level(file):
        clean = read_optional(folder / "tokenizer_config.json").get("clean_up_tokenization_spaces")
        return byte_bpe(file, size, folder, clean_spaces=clean is True)
    if kind == "BPE" and is_spaced(file):
        return spaced_bpe(file, size, folder)
    raise CannotConvert(folder, f"its tokenizer.json is of a kind that llama.cpp has not ({kind})")
