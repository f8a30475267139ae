"""tokenizer.json, as the tokenizers library writes it: what of it a conversion needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from quant.convert.json_file import TOKENIZER_BYTES, read_document
from quant.errors import CheckpointDamaged
from runtime.gguf import limits


class AddedToken(msgspec.Struct, frozen=True):
    """A token that is found in a text before the tokenizer looks at it."""

    id: int
    content: str
    special: bool = False
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class Model(msgspec.Struct, frozen=True):
    """The part that knows tokens: BPE, Unigram or WordPiece."""

    vocab: dict[str, int] | list[tuple[str, float]]
    type: str = ""
    """Old files do not say it."""
    merges: list[str | tuple[str, str]] = []
    unk_token: str | None = None
    unk_id: int | None = None
    byte_fallback: bool | None = None
    ignore_merges: bool | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None

    @property
    def kind(self) -> str:
        """The type, also of files that do not name it."""
        if self.type:
            return self.type
        if isinstance(self.vocab, list):
            return "Unigram"
        return "BPE" if self.merges else "WordPiece"


class TokenizerJson(msgspec.Struct, frozen=True):
    """The file. Its parts are objects with a ``type``, or a ``Sequence`` of such."""

    model: Model
    added_tokens: list[AddedToken] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None

    @property
    def normalizers(self) -> list[dict[str, Any]]:
        return flattened(self.normalizer, "normalizers")

    @property
    def pre_tokenizers(self) -> list[dict[str, Any]]:
        return flattened(self.pre_tokenizer, "pretokenizers")

    @property
    def post_processors(self) -> list[dict[str, Any]]:
        return flattened(self.post_processor, "processors")


def read_tokenizer_json(path: Path) -> TokenizerJson:
    """The file at ``path``, within the limits that a GGUF has. Raises :class:`CheckpointDamaged`."""
    found = read_document(path, TokenizerJson, TOKENIZER_BYTES)
    count = len(found.model.vocab) + len(found.added_tokens)
    if count > 2 * limits.VOCABULARY:
        raise CheckpointDamaged(
            path, "vocabulary-too-large", f"has {count} tokens; at most {limits.VOCABULARY} are accepted"
        )
    return found


def flattened(part: dict[str, Any] | None, members: str) -> list[dict[str, Any]]:
    """A part as a list of its steps: a ``Sequence`` has them under ``members``."""
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    steps = part.get(members)
    steps = steps if isinstance(steps, list) else []
    return [step for found in steps if isinstance(found, dict) for step in flattened(found, members)]


def literal(step: dict[str, Any]) -> str | None:
    """The text that a step looks for, if it looks for a text and not for a pattern."""
    pattern = step.get("pattern")
    found = pattern.get("String") if isinstance(pattern, dict) else None
    return found if isinstance(found, str) else None


def expression(step: dict[str, Any]) -> str | None:
    """The regular expression that a step looks for."""
    pattern = step.get("pattern")
    found = pattern.get("Regex") if isinstance(pattern, dict) else None
    return found if isinstance(found, str) else None
