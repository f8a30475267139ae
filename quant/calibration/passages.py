"""Calibration texts as a model reads them: conversations in its own template, long texts in excerpts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from quant.calibration.text import CHARACTERS_A_TOKEN, CalibrationText
from runtime.engine.messages import Prompt
from runtime.engine.observation import Passage
from runtime.engine.templates.renderer import ChatTemplate, TemplateRenderer
from runtime.errors import InvalidRequest, TemplateError
from runtime.gguf import ArrayRef, GgufHeader

Element = TypeVar("Element", int, bytes)
CONTROL_KINDS: Final = frozenset({2, 3})
"""Kinds of tokens in a GGUF that only a template may write: unknown and control."""
LEAST_CHARACTERS: Final = 256 << 10
"""Of a domain's text this much is rendered and tokenised at least."""
EXCERPT_CHARACTERS: Final = 16 << 10
TODAY: Final = datetime(2024, 7, 26)
"""What a template that asks for the date is told: the same texts give the same tokens on any day."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which ``share`` of a domain is taken, its texts being laid one behind the other: excerpts of
    ``EXCERPT_CHARACTERS``, evenly spaced, the first one at the beginning.

    So of short texts whole neighbours are taken, not a few characters of each.
    """

    share: float

    def excerpts(self, begin: int, length: int) -> list[slice]:
        """The parts that are taken of a text of ``length`` characters which begins at ``begin``."""
        if self.share >= 1:
            return [slice(0, length)]
        spacing = EXCERPT_CHARACTERS / self.share
        first, last = int(begin / spacing), int((begin + length) / spacing)
        starts = [round(number * spacing) - begin for number in range(first, last + 1)]
        parts = [slice(max(0, start), min(length, start + EXCERPT_CHARACTERS)) for start in starts]
        return [part for part in parts if part.start < part.stop]


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
    (:class:`Sampling`), and the conversations that these meet, whole. Raises TemplateError where the model's
    template fails, InvalidRequest for a conversation that it cannot be given.
    """
    template = chat_template(header) if any(text.messages for text in texts) else None
    lengths: dict[str, int] = {}
    for text in texts:
        lengths[text.domain] = lengths.get(text.domain, 0) + length(text)
    enough = max(LEAST_CHARACTERS, CHARACTERS_A_TOKEN * tokens // max(1, len(lengths)))
    passages: list[Passage] = []
    begins = dict.fromkeys(lengths, 0)
    with TemplateRenderer(clock=lambda: TODAY) as renderer:
        for text in texts:
            sampling = Sampling(enough / max(1, lengths[text.domain]))
            parts = sampling.excerpts(begins[text.domain], length(text))
            begins[text.domain] += length(text)
            if text.messages and parts:
                passages.append(Passage(text.domain, conversation(renderer, template, text)))
            elif parts:
                content = "".join(text.text[part] for part in parts)
                passages.append(Passage(text.domain, plain(content)))
    return tuple(passages), template.sha256 if template else ""


def length(text: CalibrationText) -> int:
    """Characters of a text, or of all messages of a conversation."""
    return len(text.text) + sum(len(message["content"]) for message in text.messages)


def conversation(renderer: TemplateRenderer, template: ChatTemplate | None, text: CalibrationText) -> Prompt:
    """A conversation as the model was trained to read it; without a template, its contents."""
    if template is None:
        return plain("\n\n".join(message["content"] for message in text.messages) + "\n\n")
    try:
        return renderer.render(template, text.messages, add_generation_prompt=False)
    except TemplateError as error:
        raise type(error)(
            f"the conversation {text.name} in the model's chat template: {error}; give texts of your own "
            "that have no conversations, or none of this kind"
        ) from error
    except InvalidRequest as error:
        raise InvalidRequest(f"the conversation {text.name}: {error}", field=error.field) from error


def plain(text: str) -> Prompt:
    """A text that nobody vouches for."""
    return Prompt(text, parse_special=False)


def _array(header: GgufHeader, key: str, kind: type[Element]) -> list[Element]:
    value = header.metadata.get(key)
    found = header.read_array(value) if isinstance(value, ArrayRef) else []
    return [element for element in found if isinstance(element, kind)]
