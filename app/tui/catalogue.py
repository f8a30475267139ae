"""The stored models, with what is known of their quality and speed. Blocking; nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from app.chats import Chats
from app.errors import StoreError
from app.store import Manifest, Store
from runtime.errors import LocalqError

if TYPE_CHECKING:
    from quant.certificate.document import Certificate
    from runtime.budget import MemoryPlan
    from runtime.gguf import GgufModel

ANSWERS: Final = 500
"""The newest answers, of which speeds are taken."""
LEAST_TOKENS: Final = 16
"""An answer with fewer says nothing of the speed."""


@dataclass(frozen=True)
class Row:
    """A model of the list. ``speed`` is the median of its answers here, in tokens a second."""

    manifest: Manifest
    certificate: Certificate | None
    speed: float | None


@dataclass(frozen=True)
class Layer:
    """Bits of each weight of a layer, or of a matrix outside of the layers; and its mean squared error."""

    name: str
    bits: float
    error: float | None


@dataclass(frozen=True)
class Details:
    """One model, opened."""

    row: Row
    layers: tuple[Layer, ...]
    plan: MemoryPlan | None
    problem: str = ""
    """Why the file cannot be opened, or not be planned for."""


def list_models(store: Store, chats: Chats | None) -> tuple[list[Row], list[str]]:
    """All stored models by name, and what is wrong with those that cannot be read."""
    speeds = speeds_of(chats) if chats is not None else {}
    rows = [Row(model, _certificate(store, model), speeds.get(model.name)) for model in store.list()]
    return rows, [f"{error}; next: {error.next_command}" for error in store.damaged()]


def speeds_of(chats: Chats) -> Mapping[str, float]:
    """Tokens a second by model."""
    seen: dict[str, list[float]] = {}
    for model, facts in chats.makings(ANSWERS):
        usage, timings = facts.get("usage"), facts.get("timings")
        if isinstance(usage, dict) and isinstance(timings, dict):
            tokens, seconds = usage.get("output_tokens", 0), timings.get("decode_seconds", 0.0)
            if tokens >= LEAST_TOKENS and seconds > 0:
                seen.setdefault(model, []).append((tokens - 1) / seconds)
    return {model: median(speeds) for model, speeds in seen.items()}


def details_of(row: Row, store: Store, settings: Any) -> Details:
    """What only the file says: bits and errors by layer, and the memory that it would take."""
    from app.cli.loading import plan_model
    from runtime.gguf import open_model
    from runtime.hardware import this_machine

    try:
        model = open_model(store.paths(row.manifest))
        layers = layers_of(model, row.certificate)
        plan = plan_model(model, settings, this_machine(ram=settings.ram))
    except LocalqError as error:
        return Details(row, (), None, str(error))
    return Details(row, layers, plan)


def layers_of(model: GgufModel, certificate: Certificate | None) -> tuple[Layer, ...]:
    """In the order of the model: what comes before the layers, them, and what comes after."""
    from app.cli.quality import layer_of, layer_place, mean_error

    bits: dict[str, list[int]] = {}
    for tensor in model.all_tensors:
        if len(tensor.shape) > 1:  # norms and biases say nothing
            sums = bits.setdefault(layer_of(tensor.name), [0, 0])
            sums[0] += 8 * tensor.nbytes
            sums[1] += tensor.elements
    errors: dict[str, Any] = {}
    for facts in certificate.tensors if certificate is not None else ():
        if facts.error is not None:
            errors.setdefault(layer_of(facts.name), []).append(facts)
    return tuple(
        Layer(name, total / elements, mean_error(errors[name]) if name in errors else None)
        for name in sorted(bits, key=layer_place)
        for total, elements in [bits[name]]
        if elements
    )


def _certificate(store: Store, model: Manifest) -> Certificate | None:
    """The document beside the model; where there is none, the keys in its file."""
    import msgspec

    from quant.certificate.document import from_json
    from quant.certificate.keys import read_certificate
    from runtime.gguf import open_model

    if (raw := store.certificate(model)) is not None:
        try:
            return from_json(raw)
        except msgspec.DecodeError:
            pass
    try:
        return read_certificate(open_model(store.paths(model)).header)
    except (LocalqError, StoreError):
        return None


def formats(types: Mapping[str, int], most: int = 4) -> str:
    """``Q4_K 169, Q6_K 31``: the commonest first."""
    ranked: Sequence[tuple[str, int]] = sorted(types.items(), key=lambda item: (-item[1], item[0]))
    said = ", ".join(f"{name} {count}" for name, count in ranked[:most])
    return said + (", …" if len(ranked) > most else "")
