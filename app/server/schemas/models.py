"""``/v1/models``, ``/health``."""

from __future__ import annotations

from typing import Any, Literal

from app.server.schemas.base import Answered


class ModelCard(Answered, kw_only=True, frozen=True):
    """A model. What only a loaded model knows is left out of others."""

    id: str
    created: int
    owned_by: str
    capabilities: list[str]
    loaded: bool
    size_bytes: int
    context_length: int | None = None
    """Tokens of one conversation, as this server loads it."""
    trained_context_length: int | None = None
    architecture: str | None = None
    parameters: int | None = None
    format: str | None = None
    license: str | None = None
    quality: dict[str, Any] | None = None
    """How far it is from the model it was quantized from, by its certificate."""
    object: Literal["model"] = "model"


class ModelList(Answered, kw_only=True, frozen=True):
    data: list[ModelCard]
    object: Literal["list"] = "list"


class Unloaded(Answered, kw_only=True, frozen=True):
    id: str
    unloaded: bool


class RunningModel(Answered, kw_only=True, frozen=True):
    """One line of ``localq ps``."""

    id: str
    pid: int | None
    context_length: int
    slots: int
    requests: int
    planned_bytes: int
    resident_bytes: int | None
    idle_seconds: float
    pinned: bool


class Running(Answered, kw_only=True, frozen=True):
    version: str
    pid: int
    uptime_seconds: float
    running: int
    waiting: int
    models: list[RunningModel]


class Health(Answered, kw_only=True, frozen=True):
    status: Literal["ok", "loading", "draining"]
    models: list[str]
    running: int
    waiting: int
