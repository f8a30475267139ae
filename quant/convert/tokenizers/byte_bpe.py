"""Byte-level BPE (GPT-2 and most since): a token's text is of 256 printable characters, one for each byte."""

from __future__ import annotations

from pathlib import Path

from gguf import Keys, TokenType

from quant.convert.tokenizers.pre_tokenizers import PreTokenizer, cuts_of, find_pre_tokenizer
from quant.convert.tokenizers.spaced_bpe import dropped_warning
from quant.convert.tokenizers.tokenizer_json import TokenizerJson
from quant.convert.tokenizers.vocabulary import Table, Vocabulary, kind_of_added
from quant.errors import CannotConvert


def is_byte_level(file: TokenizerJson) -> bool:
    return any(step.get("type") == "ByteLevel" for step in file.pre_tokenizers)


def byte_bpe(file: TokenizerJson, size: int, folder: Path, *, clean_spaces: bool) -> Vocabulary:
    """The vocabulary of ``size`` tokens. Raises :class:`CannotConvert` for an unknown pre-tokenizer."""
    table = Table.of_size(size)
    dropped = 0
    vocabulary = file.model.vocab
    if not isinstance(vocabulary, dict):
        raise CannotConvert(folder, "its tokenizer.json has a BPE model without a vocabulary")
    for text, token in vocabulary.items():
        dropped += not table.put(token, text, TokenType.NORMAL)
    for added in file.added_tokens:
        dropped += not table.put(added.id, added.content, kind_of_added(added))
    cuts = cuts_of(file.pre_tokenizers)
    ignore_merges = bool(file.model.ignore_merges)
    pre = find_pre_tokenizer(cuts, ignore_merges, clean_spaces) if cuts else None
    if pre is None:
        raise CannotConvert(
            folder,
            f"its tokenizer cuts texts in a way that localq does not know in llama.cpp: {_shown(file, cuts)}",
        )
    return Vocabulary(
        model="gpt2",
        tokens=table.tokens(),
        types=table.types,
        pre=pre.name,
        merges=[_merge(merge) for merge in file.model.merges],
        flags=_flags(file),
        warnings=_warnings(file, pre, dropped),
    )


def _merge(merge: str | tuple[str, str]) -> str:
    """Both parts with a space between; one inside a part is written as byte-level texts have it."""
    return merge if isinstance(merge, str) else " ".join(part.replace(" ", "Ġ") for part in merge)


def _flags(file: TokenizerJson) -> dict[str, bool]:
    prefixed = any(
        step.get("type") == "ByteLevel" and step.get("add_prefix_space") is True
        for step in file.pre_tokenizers
    )
    return {Keys.Tokenizer.ADD_PREFIX: True} if prefixed else {}


def _warnings(file: TokenizerJson, pre: PreTokenizer, dropped: int) -> tuple[str, ...]:
    warnings = [*dropped_warning(dropped)]
    # Nearly all texts are in NFC as they are.
    normalizers = sorted({str(step.get("type")) for step in file.normalizers} - {"NFC"})
    if normalizers:
        warnings.append(
            f"the tokenizer normalizes texts ({', '.join(normalizers)}), which llama.cpp does not do "
            "for BPE: a text that is not in that form already becomes other tokens"
        )
    if not pre.marks_are_letters:
        warnings.append(
            "llama.cpp cuts words with combining marks (as of Hindi, Thai or vocalized Arabic) in another "
            "way than this tokenizer: there the model sees other tokens than it was trained on"
        )
    return tuple(warnings)


def _shown(file: TokenizerJson, cuts: tuple[str, ...] | None) -> str:
    if cuts:
        return "; ".join(cuts)[:400]
    return ", ".join(str(step.get("type")) for step in file.pre_tokenizers)[:400]
