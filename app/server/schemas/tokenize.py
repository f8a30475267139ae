"""``/tokenize``, ``/detokenize``."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from app.server.schemas.base import Answered, Asked, ModelName
from app.server.schemas.chat import Message, Tool
from app.server.schemas.completion import Tokens


class TokenizeRequest(Asked, kw_only=True, frozen=True):
    """A text, or a conversation, which is put into the model's template.

    ``add_special``: with the token that every text begins with. ``parse_special``: control tokens that are
    written out count as such. ``with_pieces``: the text of each token beside its number.
    """

    content: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=256)] | None = None
    model: ModelName | None = None
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False
    chat_template_kwargs: dict[str, Any] | None = None


class TokenPiece(Answered, kw_only=True, frozen=True):
    id: int
    piece: str


class Tokenized(Answered, kw_only=True, frozen=True):
    tokens: list[int | TokenPiece]
    count: int


class DetokenizeRequest(Asked, kw_only=True, frozen=True):
    tokens: Tokens
    model: ModelName | None = None


class Detokenized(Answered, kw_only=True, frozen=True):
    content: str
