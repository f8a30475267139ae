"""What can be had on this machine: the catalog, what the Hub has, the demo, a file. Nothing here draws.

Names of the catalog say how many weights a model has, so an order is known at once, without a network; what
the Hub then says of each takes the place of the rough figures, and the order stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from app.hub.catalog import Entry, catalog

if TYPE_CHECKING:
    from app.hub.search import Result

Kind = Literal["catalog", "found", "demo", "file"]

BITS: Final = (8.5, 6.6, 5.7, 4.85, 3.9, 2.8)
"""Of a weight: as much as fits of these."""
OVERHEAD_BYTES: Final = 400 << 20
"""Of a worker, its buffers and a cache of some thousand tokens."""
CACHE_SHARE: Final = 1.08
READ_SHARE: Final = 0.7
"""Of the memory's bandwidth, that decoding reaches."""
FLUENT: Final = 6.0
"""Tokens a second: about as fast as people read."""
USABLE: Final = 3.0
MAKING_BYTES: Final = 5.5
"""Of disk for a weight while a file is made: the original, its GGUF, the result twice."""
LEAST_BITS: Final = 3.5
"""Below it a smaller model is better."""
_COUNT: Final = re.compile(r"(\d+(?:\.\d+)?)B(?:-A(\d+(?:\.\d+)?)B)?", re.IGNORECASE)


@dataclass(frozen=True)
class Rough:
    """What size and bandwidth alone say."""

    bits: float | None
    """None where not even the smallest fits."""
    tokens_per_second: float


@dataclass(frozen=True)
class Offer:
    """One row."""

    kind: Kind
    name: str
    title: str
    about: str
    weights: str = ""
    license: str = ""
    entry: Entry | None = None
    rough: Rough | None = None
    result: Result | None = None

    @property
    def fits(self) -> bool:
        """As far as is known."""
        if self.result is not None and self.result.size_bytes is not None:
            return self.result.fits
        return self.rough is None or self.rough.bits is not None

    @property
    def tokens_per_second(self) -> float | None:
        if self.result is not None and self.result.tokens_per_second is not None:
            return self.result.tokens_per_second
        return self.rough.tokens_per_second if self.rough is not None else None

    @property
    def bits(self) -> float | None:
        """Of a weight, of the file that would be had."""
        result = self.result
        if (
            result is not None
            and result.size_bytes
            and (count := result.parameters or weights_of(self.weights))
        ):
            return 8 * result.size_bytes / count
        return self.rough.bits if self.rough is not None else None

    @property
    def rough_bytes(self) -> float | None:
        """Of the file, by the number of weights alone."""
        count, bits = weights_of(self.weights), self.rough.bits if self.rough is not None else None
        return None if count is None or bits is None else count * bits / 8


DEMO: Final = Offer(
    "demo",
    "demo",
    "demo",
    "SmolLM2-135M, 94 MiB: small, here in a minute, needs no Hub",
    "0.1B",
    "Apache-2.0",
)
FILE: Final = Offer("file", "", "A file on this machine…", "a GGUF file, or a folder with safetensors")


def offers(available: int, bandwidth: float, disk_free: int) -> list[Offer]:
    """The best for this machine, the demo, a file of one's own, then the others: the largest that fits first,
    at last what does not fit."""
    known = [of_entry(entry, available, bandwidth) for entry in catalog().values()]
    best = recommended(known, disk_free)
    fitting = [offer for offer in reversed(known) if offer.fits and offer is not best]
    others = [offer for offer in known if not offer.fits]
    return [*([best] if best else []), DEMO, FILE, *fitting, *others]


def of_entry(entry: Entry, available: int, bandwidth: float) -> Offer:
    """A row of the catalog, by what its name says."""
    count, read = weights_of(entry.parameters), active_of(entry.parameters)
    rough = None if count is None or read is None else roughly(count, read, available, bandwidth)
    return Offer(
        "catalog",
        entry.name,
        entry.name,
        entry.good_for,
        entry.parameters,
        entry.license,
        entry=entry,
        rough=rough,
    )


def of_result(result: Result) -> Offer:
    """A repository that a search found."""
    from app.cli.text import format_parameters

    weights = format_parameters(result.parameters) if result.parameters else ""
    downloads = f"{format_parameters(result.downloads)} downloads"
    form = "" if result.converts else ", ready to run"
    return Offer(
        "found",
        result.repo,
        result.repo,
        f"{downloads}{form}",
        weights,
        result.license or "licence not stated",
        result=result,
    )


def with_result(offer: Offer, result: Result) -> Offer:
    """The row with what the Hub says of it."""
    return replace(offer, result=result)


def roughly(count: float, read: float, available: int, bandwidth: float) -> Rough:
    """For ``count`` weights, of which a token reads ``read``."""
    room = (available - OVERHEAD_BYTES) / CACHE_SHARE
    bits = next((bits for bits in BITS if count * bits / 8 <= room), None)
    return Rough(bits, bandwidth * READ_SHARE / (read * (bits or BITS[-1]) / 8))


def recommended(known: list[Offer], disk_free: int) -> Offer | None:
    """The largest that fits well, can be made on this disk and writes as fast as people read; else the
    largest that is usable, else the smallest."""
    fitting = [
        offer
        for offer in known
        if offer.rough is not None
        and (offer.rough.bits or 0.0) >= LEAST_BITS
        and (weights_of(offer.weights) or 0.0) * MAKING_BYTES <= disk_free
    ]
    for least in (FLUENT, USABLE, 0.0):
        quick = [offer for offer in fitting if offer.rough and offer.rough.tokens_per_second >= least]
        if quick:
            chosen = max if least else min
            return chosen(quick, key=lambda offer: weights_of(offer.weights) or 0.0)
    return None


def weights_of(said: str) -> float | None:
    """``4e9`` of ``4B``; all experts of ``30B-A3B``."""
    match = _COUNT.search(said)
    return float(match[1]) * 1e9 if match else None


def active_of(said: str) -> float | None:
    """Those that a token reads: ``3e9`` of ``30B-A3B``."""
    match = _COUNT.search(said)
    return float(match[2] or match[1]) * 1e9 if match else None
