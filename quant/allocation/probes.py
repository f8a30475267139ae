"""How much each kind of matrix counts in this very model, from a handful of measurements.

``quant.allocation.sensitivity`` guesses that from a matrix's role. A probe tests the guess: all matrices of
one role are encoded as they would be in the end, error feedback included, everything else stays as it is,
and the divergence of that model is measured. Divergences of single parts add up to that of the whole
(Malinovskii et al. 2025, see ``quant.allocation.solve``), so each role's sensitivities are scaled by what
was measured over what was foreseen. Pure: who makes and judges the files is ``quant.probing``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from quant.allocation.measure import Measured, TensorChoices
from quant.allocation.recipe import KEEP, role_of
from quant.formats.lt import LT_FORMATS

NATS: Final = 0.03
"""A probe's formats are those that should cost about this: enough to be measured, little enough to add up."""
MOST_CHANGE: Final = 30.0
"""A sensitivity is not changed by more: a role that seems to cost nothing is not taken at its word."""
DIGITS: Final = 2
"""Of what was measured: no more are certain, and another machine's roundings give the same."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """The matrices of one role, and a format for each."""

    role: str
    formats: dict[str, str]
    """By the tensor's name."""
    foreseen: float
    """Nats that they should add."""


def choose(measured: Measured) -> list[Probe]:
    """One probe for each role, in the order in which the roles come."""
    roles: dict[str, list[TensorChoices]] = {}
    for tensor in measured.tensors:
        roles.setdefault(role_of(tensor.name), []).append(tensor)
    return [probe for role, tensors in roles.items() if (probe := _of_role(role, tensors)) is not None]


def corrected(measured: Measured, probes: Sequence[Probe], nats: Mapping[str, float]) -> Measured:
    """``measured`` with the sensitivities that fit what each probe's role was found to cost."""
    factors = {probe.role: _factor(nats[probe.role] / probe.foreseen) for probe in probes}
    return Measured(
        tensors=tuple(
            msgspec.structs.replace(
                tensor, sensitivity=tensor.sensitivity * factors.get(role_of(tensor.name), 1.0)
            )
            for tensor in measured.tensors
        )
    )


def _of_role(role: str, tensors: Sequence[TensorChoices]) -> Probe | None:
    """None where no format fits all tensors, or none of them loses anything.

    Of ggml's formats alone: what they were found to cost serves plans with LT formats and without.
    """
    common = set.intersection(*(set(tensor.errors) for tensor in tensors)) - {KEEP} - LT_FORMATS.keys()
    foreseen = {name: sum(tensor.sensitivity * tensor.errors[name] for tensor in tensors) for name in common}
    costly = {name: cost for name, cost in foreseen.items() if cost > 0}
    if not costly:
        return None
    fmt = min(sorted(costly), key=lambda name: abs(math.log(costly[name] / NATS)))
    return Probe(role=role, formats={tensor.name: fmt for tensor in tensors}, foreseen=costly[fmt])


def _factor(ratio: float) -> float:
    limited = min(max(ratio, 1 / MOST_CHANGE), MOST_CHANGE)
    return float(f"{limited:.{DIGITS}g}")
