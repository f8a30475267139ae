"""Whether and how a model on the Hub fits this machine, from its headers alone."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import NoSuchChoice
from app.hub.api import Hub
from app.hub.choose import Candidate, Choice, candidates
from app.hub.headers import remote_gguf_header
from app.settings import Settings
from runtime.budget import MemoryPlan, suggest_config
from runtime.budget.plan import plan_headers
from runtime.engine.config import EngineConfig
from runtime.errors import GgufError
from runtime.gguf import GgufHeader
from runtime.hardware import Machine


def remote_headers(hub: Hub, choice: Choice) -> list[GgufHeader]:
    """The headers of the model's files, read by ranges. Raises NoSuchChoice where one is not valid."""
    try:
        return [remote_gguf_header(hub, choice.repo, file) for file in choice.model.files]
    except GgufError as error:
        raise NoSuchChoice(choice.repo.repo, str(error), next_command="localq search WORDS --gguf") from error


def plan_remote(headers: Sequence[GgufHeader], machine: Machine, settings: Settings) -> MemoryPlan:
    """What the model would take here, in the form that ``localq run`` would choose."""
    asked = EngineConfig(
        model_paths=tuple(str(header.path) for header in headers),
        threads=settings.threads,
        kv_type=settings.kv or "f16",
    )
    config = suggest_config(headers, machine, asked, context=settings.context)
    return plan_headers(headers, config, machine)


def next_smaller(choice: Choice, too_many_bytes: int) -> Candidate | None:
    """The largest model of the repository that is smaller by at least ``too_many_bytes``."""
    limit = choice.model.size - too_many_bytes
    smaller = [model for model in candidates(choice.repo.files) if model.size <= limit]
    return smaller[-1] if smaller else None
