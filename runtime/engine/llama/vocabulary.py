"""Text to tokens and back, by llama.cpp's tokenizer."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

from llama_cpp import llama_cpp as native

from runtime.engine.messages import Prompt
from runtime.engine.reports import prompt_too_long
from runtime.engine.templates.control_text import split_prompt
from runtime.errors import EngineError, ModelLoadFailed

CONTROL_ATTRIBUTES = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_UNKNOWN


class Vocabulary:
    """The vocabulary of a loaded model. Reading it is safe from any thread."""

    def __init__(self, model: int) -> None:
        self.handle = native.llama_model_get_vocab(model)
        self.size: int = native.llama_vocab_n_tokens(self.handle)
        self._pieces: dict[int, bytes] = {}
        attribute = native.llama_vocab_get_attr
        self.control_tokens: dict[str, int] = {}
        """Text -> id of the tokens that only ``parse_special`` finds in a text."""
        self.controls: set[int] = set()
        for token in range(self.size):
            if attribute(self.handle, token) & CONTROL_ATTRIBUTES:
                self.controls.add(token)
                self.control_tokens.setdefault(self.text(token), token)
        self.control_tokens.pop("", None)
        self.end_tokens = frozenset(
            token for token in self._end_candidates() if native.llama_vocab_is_eog(self.handle, token)
        )

    @property
    def first_token(self) -> int | None:
        """What every sequence begins with, where the model wants something."""
        if not native.llama_vocab_get_add_bos(self.handle):
            return None
        return int(native.llama_vocab_bos(self.handle))

    def _end_candidates(self) -> set[int]:
        named = (native.llama_vocab_eos(self.handle), native.llama_vocab_eot(self.handle))
        return {*self.control_tokens.values(), *(token for token in named if token >= 0)}

    def text(self, token: int) -> str:
        """A token as the vocabulary spells it; empty for the id -1, which stands for "none"."""
        if token < 0:
            return ""
        raw: bytes = native.llama_vocab_get_text(self.handle, token)
        return raw.decode("utf-8", "replace")

    def ends(self, token: int) -> bool:
        """Whether the token ends a generation."""
        return bool(native.llama_vocab_is_eog(self.handle, token))

    def piece(self, token: int, shown: Sequence[str] = ()) -> bytes:
        """The bytes that a token adds to a text; empty for control tokens but those of the texts
        ``shown``."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token)
        if not known and shown and (text := self.text(token)) in shown:
            return text.encode()
        return known

    def spelled(self, tokens: Sequence[int]) -> bytes:
        """The bytes of tokens; control tokens as the vocabulary spells them."""
        controls = self.controls
        return b"".join(
            self.text(token).encode() if token in controls else self.piece(token) for token in tokens
        )

    def _read_piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        length = native.llama_token_to_piece(self.handle, token, buffer, len(buffer), 0, False)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = native.llama_token_to_piece(self.handle, token, buffer, len(buffer), 0, False)
        return buffer.raw[:length]

    @functools.cached_property
    def longest(self) -> int:
        """The most characters that one token can stand for; at least 1."""
        spelled = native.llama_vocab_get_text
        return max(len(spelled(self.handle, token) or b" ") for token in range(self.size))

    def tokens(self, prompt: Prompt, limit: int | None = None) -> list[int]:
        """The tokens of a prompt. Raises PromptTooLong where its length alone says that it has more than
        ``limit``.

        The user's own texts, which ``prompt.protected`` holds, never become control tokens: the rendered text
        is cut at the control tokens that the template wrote, and only those are read as such.
        """
        if limit is not None:
            self._check_length(prompt, limit)
        if not prompt.protected:
            return self._tokenize(prompt.text, prompt.add_special, prompt.parse_special)
        found: list[int] = []
        pieces = split_prompt(prompt, tuple(self.control_tokens))
        for before, piece, after in zip([None, *pieces], pieces, [*pieces[1:], None], strict=False):
            if piece.is_control:
                found.append(self.control_tokens[piece.text])
                continue
            text = piece.text
            if before is not None and self._strips(before.text, native.LLAMA_TOKEN_ATTR_RSTRIP):
                text = text.lstrip()
            if after is not None and self._strips(after.text, native.LLAMA_TOKEN_ATTR_LSTRIP):
                text = text.rstrip()
            if text:
                found.extend(self._tokenize(text, add_special=False, parse_special=False))
        if prompt.add_special:
            found = [*self._tokenize("", add_special=True, parse_special=False), *found]
        return found

    def _check_length(self, prompt: Prompt, limit: int) -> None:
        # A tokenizer needs seconds for megabytes, and others wait for it.
        if len(prompt.text) > limit and all(len(mark) <= len(own) for mark, own in prompt.protected.items()):
            least = -(-len(prompt.text) // self.longest)
            if least > limit:
                raise prompt_too_long(least, limit, at_least=True)

    def _strips(self, control_text: str, attribute: int) -> bool:
        """Whether a control token takes the white space beside it, as llama.cpp's own parser lets it."""
        token = self.control_tokens.get(control_text)
        return token is not None and bool(native.llama_vocab_get_attr(self.handle, token) & attribute)

    def _tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 16
        tokens = (native.llama_token * capacity)()
        count = native.llama_tokenize(
            self.handle, data, len(data), tokens, capacity, add_special, parse_special
        )
        if count < 0 or count > capacity:
            raise EngineError(f"the tokenizer failed on a text of {len(data)} bytes (code {count})")
        return list(tokens[:count])


def load_vocabulary(path: str) -> Vocabulary:
    """That of a model's file, whose weights are not read; it stays until the process ends.

    Raises ModelLoadFailed.
    """
    native.llama_log_set(native.llama_log_callback(0), None)
    native.llama_backend_init()
    params = native.llama_model_default_params()
    params.vocab_only = True
    model = native.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise ModelLoadFailed(f"llama.cpp could not load the vocabulary of {path}")
    return Vocabulary(model)
