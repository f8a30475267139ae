"""A text that a model is calibrated on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

CHARACTERS_A_TOKEN: Final = 64
"""No more of a text than this is tokenised for each token that is needed of it; in any language a tenth is
enough."""


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """A document, or a conversation that the model's own chat template is to render.

    Calibration draws the same number of tokens from each ``domain``.
    """

    name: str
    """Names the text in a certificate: ``"prose-en-01"``, a file's name."""
    domain: str
    """``"prose"``, ``"code"``, ``"dialogue"``, ..."""
    text: str = ""
    """Empty where ``messages`` are given."""
    messages: tuple[dict[str, str], ...] = ()
    """Of OpenAI's shape: ``{"role": "user", "content": "..."}``."""

    def __post_init__(self) -> None:
        if bool(self.text) == bool(self.messages):
            raise ValueError(f"the calibration text {self.name!r} needs either a text or messages")

    @property
    def sha256(self) -> str:
        """Of the content alone: UTF-8 text, or the messages as JSON with sorted keys, in ASCII."""
        content = self.text.encode("utf-8", "surrogatepass")  # what is no Unicode is refused when it is read
        return sha256(content or json.dumps(self.messages, sort_keys=True).encode()).hexdigest()
