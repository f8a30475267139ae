"""Calibration texts as a model reads them: conversations in its own template, long texts in excerpts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from quant.calibration.text import CalibrationText
from runtime.engine.messages import Prompt
from runtime.engine.observation import Passage
from runtime.engine.templates.renderer import ChatTemplate, TemplateRenderer
from runtime.gguf import ArrayRef, GgufHeader

Element = TypeVar("Element", int, bytes)
CONTROL_KINDS: Final = frozenset({2, 3})
"""Kinds of tokens in a GGUF that only a template may write: unknown and control."""
CHARACTERS_A_TOKEN: Final = 64
"""Of a domain's text this much is rendered and tokenised for each token that is drawn from it, a tenth of
which is enough for any language."""
LEAST_CHARACTERS: Final = 256 << 10
EXCERPT_CHARACTERS: Final = 16 << 10


def chat_template(header: GgufHeader) -> ChatTemplate | None:
    """The model's own template, with what it calls its tokens; None for a model without one."""
    source = header.get("tokenizer.chat_template", str, "")
    if not source.strip():
        return None
    tokens = _array(header, "tokenizer.ggml.tokens", bytes)
    kinds = _array(header, "tokenizer.ggml.token_type", int)

    def text(key: str) -> str:
        token = header.get(f"tokenizer.ggml.{key}_token_id", int, -1)
        return names[token] if 0 <= token < len(names) else ""

    names = [token.decode("utf-8", "replace") for token in tokens]
    control = (name for name, kind in zip(names, kinds, strict=False) if kind in CONTROL_KINDS)
    return ChatTemplate(source, text("bos"), text("eos"), tuple(filter(None, control)))


def make_passages(
    texts: Sequence[CalibrationText], header: GgufHeader, tokens: int
) -> tuple[tuple[Passage, ...], str]:
    """Passages for drawing ``tokens`` tokens, in the order of the texts, and the sha256 of the template that
    conversations were put in.

    Nothing of a plain text is read as a control token. Without a template a conversation is its contents, one
    after the other, and the digest is empty. Of a domain with far more text than is needed there are excerpts
    and some of the conversations, spread evenly. Raises TemplateError where the model's template fails.
    """
    template = chat_template(header) if any(text.messages for text in texts) else None
    lengths: dict[str, int] = {}
    for text in texts:
        lengths[text.domain] = lengths.get(text.domain, 0) + length(text)
    enough = max(LEAST_CHARACTERS, CHARACTERS_A_TOKEN * tokens // max(1, len(lengths)))
    passages: list[Passage] = []
    conversations: dict[str, int] = {}
    with TemplateRenderer() as renderer:
        for text in texts:
            share = min(1.0, enough / max(1, lengths[text.domain]))
            if text.messages:
                number = conversations[text.domain] = conversations.get(text.domain, 0) + 1
                if int(number * share) == int((number - 1) * share):
                    continue
                prompt = conversation(renderer, template, text)
            else:
                prompt = plain(excerpts(text.text, int(len(text.text) * share)))
            passages.append(Passage(text.domain, prompt))
    return tuple(passages), template.sha256 if template else ""


def length(text: CalibrationText) -> int:
    """Characters of a text, or of all messages of a conversation."""
    return len(text.text) + sum(len(message["content"]) for message in text.messages)


def conversation(renderer: TemplateRenderer, template: ChatTemplate | None, text: CalibrationText) -> Prompt:
    """A conversation as the model was trained to read it; without a template, its contents."""
    if template is None:
        return plain("\n\n".join(message["content"] for message in text.messages) + "\n\n")
    return renderer.render(template, text.messages, add_generation_prompt=False)


def plain(text: str) -> Prompt:
    """A text that nobody vouches for."""
    return Prompt(text, parse_special=False)


def excerpts(text: str, characters: int) -> str:
    """About ``characters`` of a text, in pieces spread evenly over it; all of it where that is enough."""
    if len(text) <= characters:
        return text
    count = max(1, characters // EXCERPT_CHARACTERS)
    places = [index * len(text) // count for index in range(count)]
    return "".join(text[at : at + characters // count] for at in places)


def _array(header: GgufHeader, key: str, kind: type[Element]) -> list[Element]:
    value = header.metadata.get(key)
    found = header.read_array(value) if isinstance(value, ArrayRef) else []
    return [element for element in found if isinstance(element, kind)]
