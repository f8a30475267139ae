"""Texts as llguidance's Lark writes them."""

from __future__ import annotations

import json

SPECIAL = frozenset("\\/.^$*+?()[]{}|\"'")


def quoted(text: str) -> str:
    """A string: Lark's are JSON's."""
    return json.dumps(text, ensure_ascii=False)


def escaped(text: str) -> str:
    """A text inside of a regular expression between slashes."""
    return "".join(f"\\{char}" if char in SPECIAL else char for char in text).replace("\n", "\\n")
