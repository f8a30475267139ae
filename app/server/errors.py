"""Errors as the wire has them: a status, and a body in OpenAI's form."""

from __future__ import annotations

import re

import msgspec

from app.errors import ModelNotFound, StoreError
from app.server.schemas.base import ErrorAnswer, Fault
from runtime.errors import (
    DoesNotFit,
    GgufError,
    InvalidRequest,
    LocalqError,
    ModelLoadFailed,
    PromptTooLong,
    TemplateError,
    WorkerDied,
)

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
INTERNAL = "an internal error; the server's log says more"


class Refusal(Exception):
    """A request is answered with an error. ``retry_seconds``: when to come again."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_seconds: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_seconds = retry_seconds
        self.close = close
        """The connection cannot be used again: the request was not read to its end."""

    @property
    def type(self) -> str:
        """OpenAI's word for the kind of error."""
        return TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> ErrorAnswer:
        """The answer's body."""
        return ErrorAnswer(
            error=Fault(message=self.message, type=self.type, param=self.param, code=self.code)
        )


def refusal_of(error: Exception) -> Refusal:
    """What an error of the engine, the store or a schema is over the wire. Others are raised again."""
    match error:
        case Refusal():
            return error
        case msgspec.ValidationError():
            return wrong_shape(error)
        case PromptTooLong():
            about = "at least " if error.at_least else ""
            return Refusal(
                400,
                f"This model's maximum context length is {error.context_tokens} tokens, and the prompt has "
                f"{about}{error.prompt_tokens}; shorten it, or start the server with a longer --ctx.",
                code="context_length_exceeded",
                param="messages",
            )
        case InvalidRequest():
            return Refusal(400, str(error), code="invalid_value", param=error.field)
        case TemplateError():
            return Refusal(400, str(error), code="template_error", param="messages")
        case ModelNotFound():
            return Refusal(404, str(error), code="model_not_found", param="model")
        case DoesNotFit():
            return Refusal(503, str(error), code="insufficient_memory", param="model", retry_seconds=10)
        case WorkerDied():
            return Refusal(503, str(error), code="worker_died", retry_seconds=1)
        case ModelLoadFailed() | GgufError() | StoreError():
            return Refusal(503, str(error), code="model_unavailable", param="model")
        case LocalqError():
            return Refusal(500, str(error), code="engine_error")
        case _:
            raise error


def wrong_shape(error: msgspec.ValidationError) -> Refusal:
    """msgspec names the place as ``... - at `$.messages[2].role```."""
    text, _, place = str(error).partition(" - at `$")
    param = re.sub(r"`.*", "", place, flags=re.DOTALL).lstrip(".") or None
    missing = re.search(r"missing required field `([^`]+)`", text)
    if missing:
        param = f"{param}.{missing[1]}" if param else missing[1]
    message = f"{param}: {text}" if param and not missing else text
    return Refusal(400, message, code="missing_field" if missing else "invalid_type", param=param)
