"""Unigram (XLM-RoBERTa and what was made of it): tokens with probabilities, and the likeliest way to cut
a text."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from gguf import Keys, TokenType

from quant.convert.tokenizers.spaced_bpe import BYTE, SPACE, begins_with_space, dropped_warning
from quant.convert.tokenizers.tokenizer_json import TokenizerJson
from quant.convert.tokenizers.vocabulary import Table, Vocabulary, kind_of_added
from quant.errors import CannotConvert


def unigram(file: TokenizerJson, size: int, folder: Path) -> Vocabulary:
    """The vocabulary of ``size`` tokens. Raises :class:`CannotConvert`."""
    if not isinstance(file.model.vocab, list):
        raise CannotConvert(folder, "its tokenizer.json has a Unigram model without probabilities")
    table = Table.of_size(size)
    dropped = 0
    for token, (text, score) in enumerate(file.model.vocab):
        kind = TokenType.BYTE if file.model.byte_fallback and BYTE.fullmatch(text) else TokenType.NORMAL
        kind = TokenType.UNKNOWN if token == file.model.unk_id else kind
        dropped += not table.put(token, text, kind, score)
    for added in file.added_tokens:
        kind = TokenType.UNKNOWN if added.id == file.model.unk_id else kind_of_added(added)
        text = added.content.replace(SPACE, " ") if kind is TokenType.USER_DEFINED else added.content
        dropped += not table.put(added.id, text, kind)
    return Vocabulary(
        model="t5",
        tokens=table.tokens(),
        types=table.types,
        scores=table.scores,
        charsmap=_charsmap(file, folder),
        flags={
            Keys.Tokenizer.ADD_PREFIX: begins_with_space(file),
            Keys.Tokenizer.REMOVE_EXTRA_WS: _joins_spaces(file),
        },
        warnings=dropped_warning(dropped),
    )


def _charsmap(file: TokenizerJson, folder: Path) -> bytes:
    for step in file.normalizers:
        found = step.get("precompiled_charsmap")
        if isinstance(found, str):
            try:
                return base64.b64decode(found, validate=True)
            except binascii.Error:
                raise CannotConvert(
                    folder, "its tokenizer.json has a table of normalizations that is none"
                ) from None
    return b""


def _joins_spaces(file: TokenizerJson) -> bool:
    """Whether several spaces are as one."""
    return any(step.get("type") == "WhitespaceSplit" for step in file.pre_tokenizers) or any(
        step.get("type") == "Replace" and step.get("content") in (" ", SPACE) for step in file.normalizers
    )
