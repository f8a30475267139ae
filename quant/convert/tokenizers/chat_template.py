"""Chat templates: what is written before and behind each turn, as a program in Jinja."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from gguf import Keys

from quant.convert.json_file import read_optional, read_text
from quant.files.layout import Key
from runtime.gguf import limits
from runtime.gguf.values import ValueType

_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")
DEFAULT: Final = "default"


def chat_template_keys(folder: Path) -> list[Key]:
    """The templates of the repository: the default one, and others by name (``tool_use``, ``rag``).

    A file of its own goes before tokenizer_config.json, as in transformers. Raises
    :class:`CheckpointDamaged`.
    """
    templates = _in_configuration(folder) | _in_files(folder)
    keys = []
    named = sorted(name for name in templates if name != DEFAULT)[: limits.CHAT_TEMPLATES]
    if named:
        keys.append(Key(Keys.Tokenizer.CHAT_TEMPLATES, ValueType.STRING, named, array=True))
    for name in named:
        keys.append(Key(Keys.Tokenizer.CHAT_TEMPLATE_N.format(name=name), ValueType.STRING, templates[name]))
    if DEFAULT in templates:
        keys.append(Key(Keys.Tokenizer.CHAT_TEMPLATE, ValueType.STRING, templates[DEFAULT]))
    return keys


def _in_configuration(folder: Path) -> dict[str, str]:
    for file in ("tokenizer_config.json", "chat_template.json"):
        if found := _named(read_optional(folder / file).get("chat_template")):
            return found
    return {}


def _named(value: Any) -> dict[str, str]:
    """One template, or a list of ``{"name", "template"}``."""
    if isinstance(value, str):
        return {DEFAULT: value}
    found = {}
    for entry in value if isinstance(value, list) else ():
        name, template = (
            (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        )
        if isinstance(name, str) and isinstance(template, str) and _NAME.fullmatch(name):
            found[name] = template
    return found


def _in_files(folder: Path) -> dict[str, str]:
    found = {}
    if (folder / "chat_template.jinja").is_file():
        found[DEFAULT] = read_text(folder / "chat_template.jinja", limits.CHAT_TEMPLATE_BYTES)
    more = folder / "additional_chat_templates"
    for path in sorted(more.glob("*.jinja")) if more.is_dir() else ():
        if _NAME.fullmatch(path.stem):
            found[path.stem] = read_text(path, limits.CHAT_TEMPLATE_BYTES)
    return found
