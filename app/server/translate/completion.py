"""``/v1/completions``: prompts as the engine takes them, answers as its objects."""

from __future__ import annotations

from collections.abc import Sequence

from app.server.conversation import Prepared, Spoken, Wanted
from app.server.errors import Refusal
from app.server.schemas.completion import CompletionChoice, CompletionLogprobs, CompletionRequest
from app.server.translate.chat import Told
from app.server.translate.sampling import wanted_of
from runtime.engine.answers.pieces import Content
from runtime.engine.messages import Prompt, TokenLogprob

DEFAULT_TOKENS = 16
"""OpenAI's."""
MAX_PROMPTS = 128


def prompts_of(request: CompletionRequest) -> list[Prompt | tuple[int, ...]]:
    """Each prompt of a request. Raises Refusal for a mixture, none, too many, and one without tokens."""
    prompt = request.prompt
    if isinstance(prompt, str):
        return [raw(prompt)]
    if prompt and all(isinstance(token, int) for token in prompt):
        return [tuple(token for token in prompt if isinstance(token, int))]
    if not prompt or len(prompt) > MAX_PROMPTS:
        raise Refusal(
            400,
            f"prompt has {len(prompt)} texts; give 1 to {MAX_PROMPTS}",
            code="invalid_value",
            param="prompt",
        )
    found: list[Prompt | tuple[int, ...]] = []
    for each in prompt:
        if isinstance(each, int):
            raise Refusal(400, "prompt mixes tokens and texts", code="invalid_value", param="prompt")
        if each == []:
            raise Refusal(400, "prompt has a list without tokens", code="invalid_value", param="prompt")
        found.append(raw(each) if isinstance(each, str) else tuple(each))
    return found


def raw(text: str) -> Prompt:
    """A text as it is; control tokens in it are text."""
    return Prompt(text, add_special=True, parse_special=False)


def wanted_completion(request: CompletionRequest, temperature: float | None) -> Wanted:
    """What all answers of a request are made with. Raises Refusal for what is not served."""
    if request.suffix:
        raise Refusal(400, "suffix is not served", code="unsupported", param="suffix")
    count = request.n or 1
    tried = request.best_of or count
    if tried < count or (tried > count and request.stream):
        raise Refusal(
            400, f"best_of is {tried} and n {count}; " + (
                "give at least n" if tried < count else "the best of several cannot be streamed"
            ), code="invalid_value", param="best_of",
        )  # fmt: skip
    return wanted_of(
        request,
        temperature,
        max_tokens=request.max_tokens or DEFAULT_TOKENS,
        logprobs=0 if request.logprobs is None and tried > count else request.logprobs,
        count=tried,
        streams=bool(request.stream),
    )


def prepared_completion(prompt: Prompt | tuple[int, ...], wanted: Wanted) -> Prepared:
    """A raw prompt needs no rendering, its answer no parser."""
    return Prepared(prompt, wanted)


def likeliest(answers: Sequence[Sequence[Spoken]], count: int) -> list[int]:
    """The answers with the highest log probability per token, the first of them first; all as they are where
    none is left out."""

    def mean(index: int) -> float:
        entries = [entry[0].logprob for spoken in answers[index] for entry in spoken.logprobs]
        return sum(entries) / len(entries) if entries else 0.0

    indices = range(len(answers))
    return list(indices) if count == len(answers) else sorted(indices, key=mean, reverse=True)[:count]


def choice_of(
    spoken: Sequence[Spoken], index: int, told: Told | None, *, logprobs: bool, offset: int, prefix: str = ""
) -> CompletionChoice:
    """The choice that some events amount to; ``told`` is given with the last of them."""
    text = prefix + "".join(
        piece.text for each in spoken for piece in each.pieces if isinstance(piece, Content)
    )
    entries = [entry for each in spoken for entry in each.logprobs]
    return CompletionChoice(
        index=index,
        text=text,
        finish_reason=None if told is None else ("length" if told.reason == "length" else "stop"),
        logprobs=logprobs_of(entries, offset) if logprobs else None,
    )


def logprobs_of(entries: Sequence[tuple[TokenLogprob, ...]], offset: int) -> CompletionLogprobs:
    """Log probabilities in the old form; ``offset`` is where the first token's text begins."""
    tokens, offsets = [], []
    for entry in entries:
        offsets.append(offset)
        tokens.append(entry[0].text.decode("utf-8", "replace"))
        offset += len(tokens[-1])
    return CompletionLogprobs(
        tokens=tokens,
        token_logprobs=[entry[0].logprob for entry in entries],
        top_logprobs=[
            {each.text.decode("utf-8", "replace"): each.logprob for each in reversed(entry[1:])}
            for entry in entries
        ],
        text_offset=offsets,
    )
