"""Reading a vocabulary's texts: bounded, UTF-8, without NUL."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from runtime.gguf import limits
from runtime.gguf.source import Source


def read_tokens(source: Source, count: int) -> list[bytes]:
    """The next ``count`` strings. Raises :class:`GgufError` at a text that llama.cpp would mistake."""
    if count > limits.VOCABULARY:
        raise source.refuse(
            "vocabulary-too-large", f"has {count} tokens; at most {limits.VOCABULARY} are accepted"
        )
    start = source.position
    tokens: list[bytes] = []
    for part in source.strings(count, limits.TOKEN_BYTES, "a token"):
        if source.position - start > limits.VOCABULARY_BYTES:
            raise source.refuse(
                "vocabulary-too-large",
                f"the tokens take more than the {limits.VOCABULARY_BYTES} bytes accepted",
            )
        _check_texts(source, len(tokens), part)
        tokens += part
    return tokens


def _check_texts(source: Source, first: int, part: list[bytes]) -> None:
    """``first`` is the id of the first token in ``part``."""
    joined = b"\n".join(part)  # a newline ends every sequence: no token completes another's
    try:
        joined.decode("utf-8")
    except UnicodeDecodeError as error:
        token = first + _index_at(part, error.start)
        raise source.refuse("bad-token", f"token {token} is not valid UTF-8") from None
    nul = joined.find(0)
    if nul >= 0:
        token = first + _index_at(part, nul)
        raise source.refuse("bad-token", f"token {token} holds a NUL, where llama.cpp would cut it")


def _index_at(part: list[bytes], position: int) -> int:
    """Which of the texts, joined by one byte each, holds the byte at ``position``."""
    return bisect_right(list(accumulate(len(text) + 1 for text in part)), position)
