"""Models that localq knows by their bytes: where they come from, and what serves them best."""

from __future__ import annotations

from app.hub.demo import DEMO
from app.store import KnownModel

KNOWN = {
    f"sha256-{model.sha256}": KnownModel(source=model.source, defaults=model.defaults) for model in (DEMO,)
}
"""By digest, as the store writes it."""
