"""A vocabulary as llama.cpp reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gguf import Keys, TokenType

from quant.files.layout import Key
from runtime.gguf.values import ValueType


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, and how texts become them."""

    model: str
    """llama.cpp's name for the kind: ``gpt2`` (byte-level BPE), ``llama`` (SentencePiece), ``t5`` (Unigram),
    ``bert`` (WordPiece)."""
    tokens: Sequence[str]
    types: Sequence[TokenType]
    pre: str = "default"
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    charsmap: bytes = b""
    """SentencePiece's compiled table of normalizations."""
    flags: Mapping[str, bool] = field(default_factory=dict)
    """By the key's name."""
    warnings: tuple[str, ...] = ()

    def keys(self) -> list[Key]:
        """What the GGUF says of it, without the special tokens."""
        keys = [
            Key(Keys.Tokenizer.MODEL, ValueType.STRING, self.model),
            Key(Keys.Tokenizer.PRE, ValueType.STRING, self.pre),
            Key(Keys.Tokenizer.LIST, ValueType.STRING, self.tokens, array=True),
            Key(Keys.Tokenizer.TOKEN_TYPE, ValueType.I32, [int(kind) for kind in self.types], array=True),
        ]
        if self.scores:
            keys.append(Key(Keys.Tokenizer.SCORES, ValueType.F32, self.scores, array=True))
        if self.merges:
            keys.append(Key(Keys.Tokenizer.MERGES, ValueType.STRING, self.merges, array=True))
        if self.charsmap:
            keys.append(
                Key(Keys.Tokenizer.PRECOMPILED_CHARSMAP, ValueType.U8, list(self.charsmap), array=True)
            )
        return keys + [Key(name, ValueType.BOOL, value) for name, value in self.flags.items()]


@dataclass
class Table:
    """A vocabulary under way, of as many tokens as the model has embeddings."""

    texts: list[str | None]
    types: list[TokenType]
    scores: list[float]

    @classmethod
    def of_size(cls, size: int, score: float = 0.0) -> Table:
        """``size`` tokens, none of which is used yet."""
        return cls([None] * size, [TokenType.UNUSED] * size, [score] * size)

    def put(self, token: int, text: str, kind: TokenType, score: float = 0.0) -> bool:
        """Enters a token in the place of what is there; False for one that the model has no embedding of."""
        if not 0 <= token < len(self.texts):
            return False
        self.texts[token], self.types[token], self.scores[token] = text, kind, score
        return True

    def tokens(self) -> list[str]:
        """All texts; ids that nothing stands for get names that no text holds."""
        return [f"[PAD{token}]" if text is None else text for token, text in enumerate(self.texts)]


def looks_special(text: str) -> bool:
    """Whether an added token that its tokenizer calls ordinary is a marker all the same.

    As one, a text that a person types never becomes it. Some families forget to say so: Gemma of its unused
    tokens, DeepSeek and Qwen of the marks that complete code.
    """
    return (
        text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<｜") and text.endswith("｜>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )


def kind_of_added(token: Any) -> TokenType:
    """The type of an added token, which says itself whether it is special."""
    if token.special or looks_special(token.content):
        return TokenType.CONTROL
    return TokenType.USER_DEFINED
