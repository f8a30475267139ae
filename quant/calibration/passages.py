"""Calibration texts as a model reads them: conversations in its own template, long texts in excerpts."""

from __future__ import annotations

import hashlib
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
MOST_CHARACTERS: Final = 4 << 20
"""Of one domain; of longer texts excerpts are taken, since all that is sent is tokenised."""
EXCERPT_CHARACTERS: Final = 64 << 10


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


def make_passages(texts: Sequence[CalibrationText], header: GgufHeader) -> tuple[tuple[Passage, ...], str]:
    """Passages in the order of the texts, and the sha256 of the template that conversations were put in.

    Nothing of a plain text is read as a control token. Without a template a conversation is its contents, one
    after the other, and the digest is empty. Raises TemplateError where the model's template fails.
    """
    template = chat_template(header) if any(text.messages for text in texts) else None
    lengths: dict[str, int] = {}
    for text in texts:
        lengths[text.domain] = lengths.get(text.domain, 0) + len(text.text)
    passages: list[Passage] = []
    with TemplateRenderer() as renderer:
        for text in texts:
            if template is not None and text.messages:
                prompt = renderer.render(template, text.messages, add_generation_prompt=False)
            elif text.messages:
                prompt = plain("\n\n".join(message["content"] for message in text.messages) + "\n\n")
            else:
                share = min(1.0, MOST_CHARACTERS / lengths[text.domain])
                prompt = plain(excerpts(text.text, int(len(text.text) * share)))
            passages.append(Passage(text.domain, prompt))
    return tuple(passages), template.sha256 if template else ""


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


def text_digest(texts: Sequence[CalibrationText]) -> str:
    """sha256 over the contents of all texts in their order."""
    return hashlib.sha256("".join(text.sha256 for text in texts).encode()).hexdigest()


def _array(header: GgufHeader, key: str, kind: type[Element]) -> list[Element]:
    value = header.metadata.get(key)
    found = header.read_array(value) if isinstance(value, ArrayRef) else []
    return [element for element in found if isinstance(element, kind)]
