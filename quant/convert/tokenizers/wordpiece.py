"""WordPiece (BERT): words are cut at spaces and marks, then into the longest tokens from the left.

llama.cpp has the first piece of a word with U+2581 before it, and the others plain, where BERT marks the
others with ``##``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gguf import TokenType

from quant.convert.json_file import TOKENIZER_BYTES, read_optional, read_text
from quant.convert.tokenizers.spaced_bpe import SPACE, dropped_warning
from quant.convert.tokenizers.tokenizer_json import AddedToken, TokenizerJson
from quant.convert.tokenizers.vocabulary import Table, Vocabulary, kind_of_added
from quant.errors import CannotConvert

CONTINUED: Final = "##"
LOWERCASE: Final = "tokenizer.ggml.normalizer.lowercase"
STRIP_ACCENTS: Final = "tokenizer.ggml.normalizer.strip_accents"
_STRIPPING: Final = (
    "where this tokenizer strips accents, llama.cpp strips all combining marks and leaves Korean syllables "
    "whole: texts in Korean or in Indic scripts become other tokens than the model was trained on",
)
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def wordpiece(file: TokenizerJson, size: int, folder: Path) -> Vocabulary:
    """The vocabulary of ``size`` tokens. Raises :class:`CannotConvert`."""
    if not isinstance(file.model.vocab, dict):
        raise CannotConvert(folder, "its tokenizer.json has a WordPiece model without a vocabulary")
    if file.model.continuing_subword_prefix not in (None, CONTINUED):
        raise CannotConvert(
            folder, f"its tokens continue words with {file.model.continuing_subword_prefix!r}, not with '##'"
        )
    normalizer = next((step for step in file.normalizers if step.get("type") == "BertNormalizer"), {})
    return _vocabulary(file.model.vocab, file.added_tokens, size, normalizer)


def from_list(path: Path, size: int) -> Vocabulary:
    """The vocabulary of a vocab.txt, a token a line, with what tokenizer_config.json says of it."""
    texts = read_text(path, TOKENIZER_BYTES).splitlines()
    config = read_optional(path.with_name("tokenizer_config.json"))
    added = [AddedToken(texts.index(text), text, special=True) for text in _SPECIAL if text in texts]
    normalizer = {
        "lowercase": config.get("do_lower_case", True),
        "strip_accents": config.get("strip_accents"),
    }
    return _vocabulary({text: token for token, text in enumerate(texts)}, added, size, normalizer)


def _vocabulary(
    vocabulary: Mapping[str, int],
    added_tokens: Sequence[AddedToken],
    size: int,
    normalizer: Mapping[str, Any],
) -> Vocabulary:
    table = Table.of_size(size)
    dropped = 0
    for text, token in vocabulary.items():
        plain = text.removeprefix(CONTINUED) if text.startswith(CONTINUED) else SPACE + text
        dropped += not table.put(token, plain, TokenType.NORMAL)
    for added in added_tokens:
        kind = kind_of_added(added)
        dropped += not table.put(added.id, added.content, kind)
    lowercase = normalizer.get("lowercase", True) is not False
    accents = normalizer.get("strip_accents")
    strips = lowercase if accents is None else accents is True
    return Vocabulary(
        model="bert",
        tokens=table.tokens(),
        types=table.types,
        flags={
            LOWERCASE: lowercase,
            STRIP_ACCENTS: strips,
        },
        warnings=dropped_warning(dropped) + (_STRIPPING if strips and _has_parts(vocabulary) else ()),
    )


def _has_parts(vocabulary: Mapping[str, int]) -> bool:
    """Whether there are tokens for vowel signs, or for the parts of a Korean syllable."""
    return any(
        unicodedata.category(character) == "Mc" or "\u1100" <= character <= "\u11ff"
        for text in vocabulary
        for character in text
    )
