"""BPE as SentencePiece does it, out of a tokenizer.json: Llama 2, Mistral, Phi 3, Gemma.

Spaces are the character U+2581, and what is no token falls back to its bytes. llama.cpp merges the pair whose
result has the highest score, tokenizer.json the one that stands first among its merges: a token's score is
the place of the first merge that makes it, negated.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gguf import Keys, TokenType

from quant.convert.tokenizers.tokenizer_json import TokenizerJson
from quant.convert.tokenizers.vocabulary import Table, Vocabulary, kind_of_added
from quant.errors import CannotConvert

SPACE: Final = "▁"
BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")
ADDED_SCORE: Final = -1000.0
"""Of tokens that are found before the merging, so it does not matter; llama.cpp's converter writes the
same."""


def is_spaced(file: TokenizerJson) -> bool:
    return bool(file.model.byte_fallback) and (
        any(step.get("type") == "Metaspace" for step in file.pre_tokenizers)
        or any(step.get("type") == "Replace" and step.get("content") == SPACE for step in file.normalizers)
    )


def spaced_bpe(file: TokenizerJson, size: int, folder: Path) -> Vocabulary:
    """The vocabulary of ``size`` tokens."""
    if not isinstance(file.model.vocab, dict):
        raise CannotConvert(folder, "its tokenizer.json has a BPE model without a vocabulary")
    scores = _scores(file)
    table = Table.of_size(size, score=2 * ADDED_SCORE)
    dropped = 0
    for text, token in file.model.vocab.items():
        kind = TokenType.BYTE if BYTE.fullmatch(text) else TokenType.NORMAL
        dropped += not table.put(token, text, kind, scores.get(text, 0.0))
    for added in file.added_tokens:
        kind = kind_of_added(added)
        text = added.content
        if text == file.model.unk_token:
            kind = TokenType.UNKNOWN
        elif kind is TokenType.USER_DEFINED:
            text = text.replace(SPACE, " ")  # found in the text as it is, before spaces are replaced
        dropped += not table.put(added.id, text, kind, ADDED_SCORE)
    return Vocabulary(
        model="llama",
        tokens=table.tokens(),
        types=table.types,
        scores=table.scores,
        flags={Keys.Tokenizer.ADD_PREFIX: begins_with_space(file)},
        warnings=dropped_warning(dropped),
    )


def _scores(file: TokenizerJson) -> dict[str, float]:
    scores: dict[str, float] = {}
    for rank, merge in enumerate(file.model.merges):
        left, right = (
            merge.split(" ", 1) if isinstance(merge, str) and " " in merge[1:] else (merge[0], merge[1])
        )
        scores.setdefault(left + right, -float(rank))
    return scores


def begins_with_space(file: TokenizerJson) -> bool:
    """Whether a text is read as if a space stood before it."""
    for step in file.normalizers:
        if step.get("type") == "Prepend" and step.get("prepend") == SPACE:
            return True
    for step in file.pre_tokenizers:
        if step.get("type") == "Metaspace":
            scheme = step.get("prepend_scheme")
            return scheme in ("always", "first") if scheme else step.get("add_prefix_space") is not False
    return False


def dropped_warning(count: int) -> tuple[str, ...]:
    """What to say of tokens that the model has no embedding of."""
    if not count:
        return ()
    return (f"{count} tokens of the tokenizer have no embedding in the model and are left out",)
