"""``GET /v1/models``, ``GET /v1/models/{id}``, ``GET /v1/running``, ``POST /v1/models/{id}/unload``"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import msgspec

from app.server.catalog import Offered
from app.server.endpoint import Call, Endpoint, Reply
from app.server.pool import Model
from app.server.schemas.models import ModelCard, ModelList, Running, RunningModel, Unloaded
from app.version import VERSION
from runtime.hardware.resident import resident_bytes


async def list_models(call: Call) -> Reply:
    """All models that can be asked for."""
    offered = await asyncio.to_thread(call.service.pool.catalog.list)
    return ModelList(data=[card_of(each, call.service.pool.models.get(each.name)) for each in offered])


async def show_model(call: Call) -> Reply:
    """One of them."""
    offered = await asyncio.to_thread(call.service.pool.catalog.get, call.path["model"])
    return card_of(offered, call.service.pool.models.get(offered.name))


async def unload_model(call: Call) -> Reply:
    """Take a model that rests out of the memory."""
    offered = await asyncio.to_thread(call.service.pool.catalog.get, call.path["model"])
    return Unloaded(id=offered.name, unloaded=await call.service.pool.unload(offered.name))


async def running(call: Call) -> Reply:
    """What is in memory now."""
    service = call.service
    return Running(
        version=VERSION,
        pid=os.getpid(),
        uptime_seconds=round(time.time() - service.started, 1),
        running=service.admission.running,
        waiting=service.admission.waiting,
        models=[running_model(model) for model in service.pool.models.values()],
    )


def card_of(offered: Offered, model: Model | None) -> ModelCard:
    """What is known of a model."""
    summary, manifest = offered.summary, offered.manifest
    return ModelCard(
        id=offered.name,
        created=int(manifest.created.timestamp()) if manifest else 0,
        owned_by="localq",
        capabilities=capabilities(offered, model),
        loaded=model is not None,
        size_bytes=summary.size_bytes,
        context_length=model.info.context_tokens if model else None,
        trained_context_length=summary.context_tokens,
        architecture=summary.architecture,
        parameters=summary.parameters,
        format=summary.file_type,
        license=summary.license or (manifest.source.license if manifest else None),
        quality=quality_of(offered.certificate),
    )


def capabilities(offered: Offered, model: Model | None) -> list[str]:
    """What a model can be asked for; a loaded one knows, of others the header tells."""
    if model is not None and not model.info.generates:
        return ["rerank"] if model.info.pooling == "rank" else ["embeddings"]
    found = ["completion", "embeddings"]
    if offered.summary.chat_template_sha256:
        found += ["chat", "tools", "json_schema"]
    return sorted(found)


def quality_of(certificate: bytes | None) -> dict[str, Any] | None:
    """The figures of a certificate, without its tensors."""
    if certificate is None:
        return None
    try:
        document = msgspec.json.decode(certificate)
        kept = ("tool", "target", "kl_kind", "source", "figures")
        return {key: document[key] for key in kept if key in document}
    except (msgspec.DecodeError, TypeError):
        return None


def running_model(model: Model) -> RunningModel:
    """One loaded model."""
    pid = model.engine.pid
    return RunningModel(
        id=model.name,
        pid=pid,
        context_length=model.info.context_tokens,
        slots=model.info.slots,
        requests=model.users,
        planned_bytes=model.plan.total,
        resident_bytes=resident_bytes(pid) if pid is not None else None,
        idle_seconds=0.0 if model.users else round(time.monotonic() - model.last_used, 1),
        pinned=model.offered.pinned,
    )


ENDPOINTS = (
    Endpoint("GET", "/v1/models", "List the models.", list_models, answer=ModelList),
    Endpoint(
        "POST", "/v1/models/{model:path}/unload", "Unload a model that rests.", unload_model, answer=Unloaded
    ),
    Endpoint("GET", "/v1/models/{model:path}", "Show a model.", show_model, answer=ModelCard),
    Endpoint("GET", "/v1/running", "Show what is in memory.", running, answer=Running),
)
