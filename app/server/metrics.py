"""Counters and times, as Prometheus reads them. No prompt, no key and no client is in them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.server.admission import Admission
from app.server.pool import ModelPool
from runtime.engine.messages import FinishedEvent

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One server's figures, in a registry of its own."""

    def __init__(self, admission: Admission, pool: ModelPool) -> None:
        self._pool = pool
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "localq_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "localq_request_seconds", "Time of a request, to its last byte.", ["route"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.first_token = Histogram(
            "localq_first_token_seconds", "Time to the first token, in the engine.", ["model"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "localq_tokens",
            "Tokens: of prompts (those that the cache held apart), and of answers.",
            ["model", "kind"],
            registry=registry,
        )
        gauges = (
            ("localq_requests_running", "Requests that models work on.", lambda: admission.running),
            ("localq_requests_waiting", "Requests that wait for their turn.", lambda: admission.waiting),
            ("localq_models_loaded", "Models in memory.", lambda: len(pool.models)),
            ("localq_models_bytes", "Bytes that they may take by their plans.", self._planned_bytes),
        )
        for name, text, value in gauges:
            Gauge(name, text, registry=registry).set_function(value)
        self._shed = Gauge(
            "localq_requests_shed", "Requests that were told to come again.", registry=registry
        )
        self._shed.set_function(lambda: admission.shed)

    def finished(self, model: str, event: FinishedEvent) -> None:
        """Count an answer."""
        usage = event.usage
        self.tokens.labels(model, "prompt").inc(usage.prompt_tokens - usage.cached_tokens)
        self.tokens.labels(model, "prompt_cached").inc(usage.cached_tokens)
        self.tokens.labels(model, "output").inc(usage.output_tokens)
        self.first_token.labels(model).observe(event.timings.first_token_seconds)

    def text(self) -> bytes:
        """What ``/metrics`` gives."""
        return generate_latest(self._registry)

    def _planned_bytes(self) -> int:
        return sum(model.plan.total for model in self._pool.models.values())
