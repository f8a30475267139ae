"""``GET /health``, ``GET /metrics``"""

from __future__ import annotations

from app.server.endpoint import Call, Endpoint, Plain, Reply
from app.server.metrics import CONTENT_TYPE
from app.server.schemas.models import Health


async def health(call: Call) -> Reply:
    """Whether the server takes requests."""
    service = call.service
    status = "draining" if service.draining else "loading" if service.pool.loading else "ok"
    return Health(
        status=status,  # type: ignore[arg-type]
        models=sorted(service.pool.models),
        running=service.admission.running,
        waiting=service.admission.waiting,
    )


async def metrics(call: Call) -> Reply:
    """Figures for Prometheus."""
    return Plain(call.service.metrics.text(), CONTENT_TYPE)


ENDPOINTS = (
    Endpoint("GET", "/health", "Say whether requests are taken.", health, answer=Health, public=True),
    Endpoint("GET", "/metrics", "Give figures to Prometheus.", metrics),
)
