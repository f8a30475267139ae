"""The scoring job: texts through one model or two, and what each says of every token's successor.

Runs in a process of its own (``runtime.engine.job``), for it loads llama.cpp.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from runtime.engine.child import serve_job
from runtime.engine.llama.logits import LogitModel, Logits, Tokens
from runtime.engine.residency import Residency
from runtime.engine.score_chunks import check_size, cut, first_scored, scored_positions, spread
from runtime.engine.score_messages import KEPT, Scored, ScoreProgress, ScoreRequest
from runtime.engine.score_record import Heading, RecordReader, RecordWriter
from runtime.engine.score_rows import Comparison, Row, bucketed_divergence
from runtime.errors import EngineError, TooFewTokens, VocabulariesDiffer

MAPPED_BYTES = 1 << 30
"""Of the models' mapped weights in memory at once; what is read again comes from the page cache, where it is
still there."""
LEAST_CHUNKS = 2
"""Of each text: error bars come from the spread between chunks."""


@dataclass
class Tally:
    """Scores of the positions so far."""

    log_probability: array[float] = field(default_factory=lambda: array("d"))
    original_log_probability: array[float] = field(default_factory=lambda: array("d"))
    divergence: array[float] = field(default_factory=lambda: array("d"))
    agrees: array[int] = field(default_factory=lambda: array("B"))

    def add_compared(self, divergence: float, original_log_probability: float, agrees: bool) -> None:
        """What a position says of both models."""
        self.divergence.append(divergence)
        self.original_log_probability.append(original_log_probability)
        self.agrees.append(agrees)

    def check(self, chunk: int, positions: int) -> None:
        """Raise EngineError where one of the last scores is no number, as where an activation overflows."""
        for scores in (self.log_probability, self.original_log_probability, self.divergence):
            if not np.isfinite(np.frombuffer(scores, dtype=np.float64)[-positions:]).all():
                raise EngineError(
                    f"a model gives NaN or infinity in chunk {chunk + 1} of the texts: its weights are "
                    "damaged, or its activations overflow 16 bits"
                )


def score(request: ScoreRequest, report: Callable[[ScoreProgress], None]) -> Scored:
    """Score the texts of the request.

    Raises ModelLoadFailed; TooFewTokens for a text of less than two chunks; InvalidRequest for more chunks
    than an answer holds; VocabulariesDiffer; EngineError where a model gives no
    numbers, or the record cannot be written or read.
    """
    paths = [path for config in (request.config, request.original) if config for path in config.model_paths]
    with Residency(paths, MAPPED_BYTES):
        return _score(request, report)


def _score(request: ScoreRequest, report: Callable[[ScoreProgress], None]) -> Scored:
    judged = LogitModel(request.config, slice_tokens=request.slice_tokens)
    texts = [judged.tokens(text.text) for text in request.texts]
    original = None
    if request.original is not None:
        original = LogitModel(request.original, slice_tokens=request.slice_tokens)
        _check_vocabularies(request, judged, original, texts)
    context = request.config.context_tokens
    _check_lengths(request, texts)
    taken = spread([len(tokens) // context for tokens in texts], request.chunks)
    check_size(sum(taken), context)
    chunks = list(cut(texts, taken, context, judged.first_token))
    tally = Tally()
    with ExitStack() as files:
        compute = _chunk_scorer(request, judged, original, chunks, tally, files)
        for number, chunk in enumerate(chunks):
            report(ScoreProgress(number, len(chunks)))
            compute(chunk)
            tally.check(number, scored_positions(context))
        report(ScoreProgress(len(chunks), len(chunks)))
    return Scored(
        text_tokens=tuple(len(tokens) for tokens in texts),
        text_chunks=taken,
        positions=scored_positions(context),
        log_probability=tally.log_probability.tobytes(),
        original_log_probability=tally.original_log_probability.tobytes(),
        divergence=tally.divergence.tobytes(),
        agrees=tally.agrees.tobytes(),
        kind="full" if request.recorded is None else "top-256",
    )


def _chunk_scorer(
    request: ScoreRequest,
    judged: LogitModel,
    original: LogitModel | None,
    chunks: Sequence[Tokens],
    tally: Tally,
    files: ExitStack,
) -> Callable[[Tokens], None]:
    """What to do with a chunk, by the kind of request."""
    if original is not None:
        return partial(_compare_models, judged, original, tally)
    if request.recorded is not None:
        record = files.enter_context(closing(RecordReader(Path(request.recorded))))
        _check_record(judged, record, _heading(judged, chunks))
        return partial(_compare_record, judged, record, tally)
    writer = None
    if request.record is not None:
        writer = files.enter_context(closing(RecordWriter(Path(request.record), _heading(judged, chunks))))
    return partial(_score_alone, judged, writer, tally)


def _score_alone(judged: LogitModel, writer: RecordWriter | None, tally: Tally, chunk: Tokens) -> None:
    row = Row(judged.vocabulary_size)
    for logits, following in _rows(judged, chunk):
        row.fill(logits)
        log_probability = row.log_probability(following)
        tally.log_probability.append(log_probability)
        if writer is not None:
            writer.add(row, log_probability)


def _compare_models(judged: LogitModel, original: LogitModel, tally: Tally, chunk: Tokens) -> None:
    pair = Comparison(judged.vocabulary_size)
    both = zip(_rows(judged, chunk), _rows(original, chunk), strict=True)
    for (logits, following), (original_logits, _) in both:
        pair.judged.fill(logits)
        pair.original.fill(original_logits)
        tally.log_probability.append(pair.judged.log_probability(following))
        tally.add_compared(
            pair.divergence(),
            pair.original.log_probability(following),
            pair.judged.best == pair.original.best,
        )


def _compare_record(judged: LogitModel, record: RecordReader, tally: Tally, chunk: Tokens) -> None:
    row = Row(judged.vocabulary_size)
    for logits, following in _rows(judged, chunk):
        row.fill(logits)
        original, best, log_probability = record.next()
        tally.log_probability.append(row.log_probability(following))
        tally.add_compared(bucketed_divergence(original, row), log_probability, row.best == best)


def _rows(model: LogitModel, chunk: Tokens) -> Iterator[tuple[Logits, int]]:
    """The logits behind each scored token of a chunk, and the token that follows it in the text."""
    for begin, logits in model.read(chunk[:-1], first_scored(len(chunk))):
        following = chunk[begin + 1 : begin + 1 + len(logits)].tolist()
        yield from zip(logits, following, strict=True)


def _check_vocabularies(
    request: ScoreRequest, judged: LogitModel, original: LogitModel, texts: Sequence[Tokens]
) -> None:
    """Raise VocabulariesDiffer unless both models cut the texts into the same tokens."""
    if judged.vocabulary_size != original.vocabulary_size:
        how = f"{judged.vocabulary_size:,} and {original.vocabulary_size:,} tokens"
    elif judged.vocabulary_digest() != original.vocabulary_digest():
        how = f"{judged.vocabulary_size:,} tokens each, but other ones"
    elif judged.first_token != original.first_token:
        how = "other tokens at the beginning of a text"
    else:
        pairs = zip(request.texts, texts, strict=True)
        cut_otherwise = [t.name for t, tokens in pairs if not np.array_equal(tokens, original.tokens(t.text))]
        if not cut_otherwise:
            return
        how = f"other rules: they cut {cut_otherwise[0]} into other tokens"
    raise VocabulariesDiffer(
        f"{judged.path} and {original.path} have other vocabularies ({how}); compare a model with the one "
        "that it was made of",
        size=judged.vocabulary_size,
        original_size=original.vocabulary_size,
    )


def _check_record(judged: LogitModel, record: RecordReader, expected: Heading) -> None:
    """Raise VocabulariesDiffer or EngineError unless the record is of the same chunks."""
    found = record.heading
    if found.vocabulary_sha256 != expected.vocabulary_sha256:
        raise VocabulariesDiffer(
            f"{judged.path} and the original have other vocabularies ({expected.vocabulary_size:,} and "
            f"{found.vocabulary_size:,} tokens); compare a model with the one that it was made of",
            size=expected.vocabulary_size,
            original_size=found.vocabulary_size,
        )
    if found != expected:
        raise EngineError("the record of the original is of other chunks of text")


def _check_lengths(request: ScoreRequest, texts: Sequence[Tokens]) -> None:
    """Raise TooFewTokens for a text without chunks enough."""
    context = request.config.context_tokens
    needed = context * LEAST_CHUNKS
    for text, tokens in zip(request.texts, texts, strict=True):
        if len(tokens) < needed:
            raise TooFewTokens(
                f"{text.name} has {len(tokens):,} tokens, and {needed:,} are the least for chunks of "
                f"{context}: take a longer text, or shorter chunks",
                tokens=len(tokens),
                needed_tokens=needed,
            )


def _heading(model: LogitModel, chunks: Sequence[Tokens]) -> Heading:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.tobytes())
    return Heading(
        vocabulary_size=model.vocabulary_size,
        vocabulary_sha256=model.vocabulary_digest(),
        tokens_sha256=digest.hexdigest(),
        kept=min(KEPT, model.vocabulary_size),
    )


def answer(request: ScoreRequest, report: Callable[[ScoreProgress], None]) -> Scored:
    """:func:`score`, for a process of its own: a failing disk is an error, not the end of the process."""
    try:
        return score(request, report)
    except OSError as error:
        raise EngineError(f"the scratch file of the evaluation: {error}") from error


if __name__ == "__main__":
    serve_job(int(sys.argv[1]), ScoreRequest, answer)
