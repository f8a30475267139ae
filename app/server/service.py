"""What routes work with."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from app.server.admission import Admission
from app.server.limits import Limits
from app.server.mailbox import Mailbox
from app.server.metrics import Metrics
from app.server.pool import ModelPool
from app.server.response_store import ResponseStore


@dataclass
class Service:
    """One server's models and state. ``draining``: it is about to end, and takes no new requests."""

    pool: ModelPool
    admission: Admission
    metrics: Metrics
    mailbox: Mailbox
    limits: Limits = field(default_factory=Limits)
    responses: ResponseStore = field(default_factory=ResponseStore)
    started: float = field(default_factory=time.time)
    draining: bool = False
    active: int = 0
    """Requests whose answer has not ended."""
    tasks: set[asyncio.Task[None] | None] = field(default_factory=set)
