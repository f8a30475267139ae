"""tokenizer.model, as SentencePiece writes it, for repositories without a tokenizer.json.

The message is ``ModelProto`` of SentencePiece's sentencepiece_model.proto; its types of pieces are
llama.cpp's types of tokens.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final

from gguf import Keys, TokenType

from quant.convert.json_file import TOKENIZER_BYTES, read_bytes, read_optional
from quant.convert.tokenizers.protobuf import fields
from quant.convert.tokenizers.spaced_bpe import ADDED_SCORE, SPACE, dropped_warning
from quant.convert.tokenizers.tokenizer_json import AddedToken
from quant.convert.tokenizers.vocabulary import Table, Vocabulary, kind_of_added
from quant.errors import CannotConvert, CheckpointDamaged
from runtime.gguf import limits

UNIGRAM, BPE = 1, 2
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_MODELS: Final = {UNIGRAM: "t5", BPE: "llama"}


def sentencepiece_vocabulary(path: Path, size: int) -> Vocabulary:
    """The vocabulary of ``size`` tokens, with what was added to it later beside the file.

    Raises :class:`CheckpointDamaged`, and :class:`CannotConvert` for a model that is neither BPE nor Unigram.
    """
    table = Table.of_size(size, score=2 * ADDED_SCORE)
    dropped = count = 0
    algorithm = UNIGRAM
    normalizer: dict[int, Any] = {}
    for number, value in fields(path, memoryview(read_bytes(path, TOKENIZER_BYTES))):
        if number == _PIECE:
            text, score, kind = _piece(path, value)
            dropped += not table.put(count, text, kind, score)
            count += 1
        elif number == _TRAINER:
            found = dict(fields(path, _message(path, value))).get(3, UNIGRAM)
            algorithm = found if isinstance(found, int) else 0
        elif number == _NORMALIZER:
            normalizer = dict(fields(path, _message(path, value)))
    if count > limits.VOCABULARY:
        raise CheckpointDamaged(path, "vocabulary-too-large", f"has {count} tokens")
    if algorithm not in _MODELS:
        raise CannotConvert(path.parent, f"its {path.name} is neither BPE nor Unigram (type {algorithm})")
    for added in added_tokens(path.parent):
        dropped += not _add(table, added)
    unigram = algorithm == UNIGRAM
    return Vocabulary(
        model=_MODELS[algorithm],
        tokens=table.tokens(),
        types=table.types,
        scores=table.scores,
        charsmap=bytes(normalizer.get(2, b"")) if unigram else b"",
        flags={Keys.Tokenizer.ADD_PREFIX: bool(normalizer.get(3, 1))}
        | ({Keys.Tokenizer.REMOVE_EXTRA_WS: bool(normalizer.get(4, 1))} if unigram else {}),
        warnings=dropped_warning(dropped),
    )


def _message(path: Path, value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise CheckpointDamaged(path, "bad-protobuf", "has a number where a message belongs")
    return value


def _piece(path: Path, value: int | memoryview) -> tuple[str, float, TokenType]:
    """Text, score and type of a piece."""
    found = dict(fields(path, _message(path, value)))
    text, score, kind = found.get(1, b""), found.get(2, b"\0\0\0\0"), found.get(3, 1)
    if isinstance(text, int) or isinstance(score, int) or len(score) != 4 or kind not in range(1, 7):
        raise CheckpointDamaged(path, "bad-protobuf", "has a piece that is none")
    try:
        return bytes(text).decode("utf-8"), struct.unpack("<f", score)[0], TokenType(kind)
    except UnicodeDecodeError:
        raise CheckpointDamaged(path, "not-utf8", "has a piece that is not valid UTF-8") from None


def _add(table: Table, added: AddedToken) -> bool:
    kind = kind_of_added(added)
    text = added.content.replace(SPACE, " ") if kind is TokenType.USER_DEFINED else added.content
    if 0 <= added.id < len(table.types) and table.types[added.id] is TokenType.UNKNOWN:
        kind = TokenType.UNKNOWN
    return table.put(added.id, text, kind, ADDED_SCORE)


def added_tokens(folder: Path) -> list[AddedToken]:
    """Tokens that transformers keeps beside a tokenizer's own file. Raises :class:`CheckpointDamaged`."""
    path = folder / "tokenizer_config.json"
    found: dict[int, AddedToken] = {}
    for text, token in read_optional(folder / "added_tokens.json").items():
        if type(token) is not int:
            raise CheckpointDamaged(folder / "added_tokens.json", "wrong-type", "has an id that is no number")
        found[token] = AddedToken(token, text)
    decoder = read_optional(path).get("added_tokens_decoder")
    for token, entry in decoder.items() if isinstance(decoder, dict) else ():
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(content, str) or not token.isdecimal():
            raise CheckpointDamaged(path, "wrong-type", "has an added token without a number or a text")
        found[int(token)] = AddedToken(int(token), content, special=entry.get("special") is True)
    return [found[token] for token in sorted(found)]
