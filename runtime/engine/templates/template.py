"""A chat template: its source, where it comes from, and what its model calls its tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from runtime.engine.messages import ModelInfo
from runtime.engine.templates import wire
from runtime.engine.templates.control_text import ControlFinder, control_finder
from runtime.errors import InvalidRequest, TemplateError

BUILTIN_TEMPLATES = {
    "chatml": """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
}


@dataclass(frozen=True)
class ChatTemplate:
    """A template's source and what its model calls its tokens.

    ``control_texts`` are the texts that become control tokens (``ModelInfo.control_texts``): those that the
    user must not bring in. Raises TemplateError for a source that is empty, too large or not Unicode.
    """

    source: str
    bos_text: str = ""
    eos_text: str = ""
    control_texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise TemplateError("the chat template is empty; choose a built-in one, such as chatml")
        try:
            size = len(self.source.encode())
        except UnicodeEncodeError:
            raise TemplateError("the chat template is not valid UTF-8; the model file is damaged") from None
        if size > wire.MAX_SOURCE_BYTES:
            raise TemplateError(
                f"the chat template has {size} bytes, and at most {wire.MAX_SOURCE_BYTES} are accepted; "
                "choose a built-in one, such as chatml"
            )

    @cached_property
    def sha256(self) -> str:
        """Names the template: what a person was shown can be compared with what is used."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def finder(self) -> ControlFinder:
        return control_finder(self.control_texts)


def builtin_template(name: str) -> str:
    """The source of a template that comes with localq. Raises InvalidRequest for an unknown name."""
    try:
        return BUILTIN_TEMPLATES[name]
    except KeyError:
        known = ", ".join(sorted(BUILTIN_TEMPLATES))
        raise InvalidRequest(
            f"there is no built-in chat template {name!r}; known: {known}", field="chat_template"
        ) from None


def model_template(info: ModelInfo, builtin: str | None = None) -> ChatTemplate:
    """The template of a loaded model, or the built-in one that was asked for.

    Raises TemplateError for a model that brings none: which one it was trained with cannot be guessed.
    """
    source = builtin_template(builtin) if builtin is not None else info.chat_template
    if source is None:
        raise TemplateError(
            f"the model {info.description} has no chat template in its file; complete raw text with it, "
            "or, if you know that it was trained on one of these, choose it: " + ", ".join(BUILTIN_TEMPLATES)
        )
    return ChatTemplate(source, info.bos_text, info.eos_text, tuple(info.control_texts))
