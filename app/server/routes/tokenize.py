"""``POST /tokenize``, ``POST /detokenize``"""

from __future__ import annotations

import asyncio

from app.server.conversation import Talk, Wanted, rendered
from app.server.endpoint import Call, Endpoint, Reply
from app.server.errors import Refusal
from app.server.pool import Model
from app.server.schemas.tokenize import (
    Detokenized,
    DetokenizeRequest,
    Tokenized,
    TokenizeRequest,
    TokenPiece,
)
from app.server.translate.chat import message_of, tool_of
from runtime.engine.messages import Prompt


async def tokenize(call: Call, request: TokenizeRequest) -> Reply:
    """The tokens of a text or a conversation."""
    if (request.content is None) == (request.messages is None):
        raise Refusal(400, "give content or messages, one of the two", code="invalid_value", param="content")
    async with call.service.pool.use(request.model) as model:
        return await asyncio.to_thread(tokenized, model, request)


def tokenized(model: Model, request: TokenizeRequest) -> Tokenized:
    """Blocks for some milliseconds."""
    engine = model.engine
    if request.content is not None:
        prompt = Prompt(request.content, add_special=request.add_special, parse_special=request.parse_special)
    else:
        talk = Talk(
            messages=[message_of(each, f"messages[{at}]") for at, each in enumerate(request.messages or ())],
            wanted=Wanted(),
            tools=[tool_of(tool) for tool in request.tools or ()],
            variables=request.chat_template_kwargs or {},
        )
        prompt, _ = rendered(engine, engine.family(), talk)
    tokens = engine.tokenize(prompt)
    if not request.with_pieces:
        return Tokenized(tokens=list(tokens), count=len(tokens))
    pieces = [
        TokenPiece(id=token, piece=engine.detokenize([token]).decode("utf-8", "replace")) for token in tokens
    ]
    return Tokenized(tokens=list(pieces), count=len(pieces))


async def detokenize(call: Call, request: DetokenizeRequest) -> Reply:
    """The text of tokens."""
    async with call.service.pool.use(request.model) as model:
        text = await asyncio.to_thread(model.engine.detokenize, request.tokens)
        return Detokenized(content=text.decode("utf-8", "replace"))


ENDPOINTS = (
    Endpoint(
        "POST", "/tokenize", "Cut a text into tokens.", tokenize, request=TokenizeRequest, answer=Tokenized
    ),
    Endpoint(
        "POST",
        "/detokenize",
        "Join tokens to a text.",
        detokenize,
        request=DetokenizeRequest,
        answer=Detokenized,
    ),
)
