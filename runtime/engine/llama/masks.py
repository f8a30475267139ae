"""Grammars, compiled by llguidance for the vocabulary of a loaded model.

llguidance's Earley parser says for every token of the vocabulary whether it may come next (Guidance AI,
"Low-level guidance", https://github.com/guidance-ai/llguidance), in some 50 microseconds for most steps.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

import llguidance
import numpy as np
from llama_cpp import llama_cpp as native
from llguidance.gbnf_to_lark import gbnf_to_lark
from numpy.typing import NDArray

from runtime.engine.grammar import special_name
from runtime.engine.llama.vocabulary import Vocabulary
from runtime.engine.messages import Grammar
from runtime.errors import EngineError, InvalidRequest

STACK_BYTES = 256 << 20
"""Of the thread that compiles: llguidance descends once for each rule of a chain. Only what is used is
taken."""
KEPT_GRAMMARS = 64
SPECIAL = b"\xff"
"""llguidance's mark in front of a token that no text spells."""
LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=50_000,
    max_lexer_states=100_000,
    max_grammar_size=500_000,
    verbose_errors=False,
)
"""Some 20 ms for the start, 10 ms for a step, at most."""
MESSAGE_CHARACTERS = 500

T = TypeVar("T")


class Matcher:
    """Where one answer is in its grammar; see :class:`runtime.engine.backend.Constraint`."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._bits = np.zeros((vocabulary_size + 31) // 32, np.uint32)

    def allowed(self) -> NDArray[np.uint32]:
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise EngineError(f"the grammar became too complex: {shortened(self._matcher.get_error())}")
        return self._bits

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise EngineError(
                "the grammar and the other filters leave no token to choose from; relax logit_bias"
            )


class GrammarCompiler:
    """Compiles grammars for one vocabulary, which is prepared by the first of them (0.4 s for 50,000 tokens).

    For one thread at a time, but its matchers may be used in any.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._compiled: dict[Grammar, llguidance.LLMatcher] = {}

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at its beginning. Raises InvalidRequest with the compiler's reason."""
        known = self._compiled.get(grammar)
        if known is None:
            known = in_deep_thread(lambda: self._compile(grammar))
            if len(self._compiled) >= KEPT_GRAMMARS:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[grammar] = known
        return Matcher(known.deep_copy(), self._vocabulary.size)

    def _compile(self, grammar: Grammar) -> llguidance.LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = make_tokenizer(self._vocabulary)
        try:
            source = as_llguidance(grammar)
        except Exception as error:  # the converter raises whatever it likes
            raise InvalidRequest(
                f"the grammar is not valid: {shortened(str(error))}", field="grammar"
            ) from None
        matcher = llguidance.LLMatcher(self._tokenizer, source, log_level=0, limits=LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()  # a first step that costs too much is refused here
        if matcher.is_error():
            what = "JSON schema" if grammar.kind == "json_schema" else "grammar"
            raise InvalidRequest(
                f"the {what} cannot be used: {shortened(matcher.get_error())}", field="grammar"
            )
        return matcher


def as_llguidance(grammar: Grammar) -> str:
    """The grammar in the form that llguidance takes. Raises what the converters do."""
    match grammar.kind:
        case "json_schema":
            return llguidance.LLMatcher.grammar_from_json_schema(grammar.source)
        case "regex":
            return llguidance.LLMatcher.grammar_from_regex(grammar.source)
        case "gbnf":
            return llguidance.LLMatcher.grammar_from_lark(gbnf_to_lark(grammar.source))
        case "lark":
            return llguidance.LLMatcher.grammar_from_lark(grammar.source)


def make_tokenizer(vocabulary: Vocabulary) -> llguidance.LLTokenizer:
    """llguidance's view of a vocabulary: only control tokens are special, and are written ``<text>``."""
    tokens = [
        SPECIAL + special_name(vocabulary.text(token)).encode()
        if token in vocabulary.controls
        else vocabulary.piece(token)
        for token in range(vocabulary.size)
    ]
    library = native._lib
    made: llguidance.LLTokenizer = llguidance.LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=tokens,
        vocab_ptr=vocabulary.handle,
        tokenize_fptr=ctypes.cast(library.llama_tokenize, ctypes.c_void_p).value,
        eos_token=sorted(vocabulary.end_tokens),
        slices=None,
    )
    return made


def in_deep_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread with a deep stack, and give what it gives."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name="grammar")
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def shortened(message: str) -> str:
    """A message of the compiler's, in one line that is not too long."""
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[:MESSAGE_CHARACTERS]}..."
