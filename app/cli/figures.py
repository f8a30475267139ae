"""Figures of an evaluation as a person reads them."""

from __future__ import annotations

import math
from typing import Protocol

MOST_PLACES = 7
"""Behind the point; smaller errors are written with a power of ten."""


class Divergence(Protocol):
    """What compares a model with its original."""

    @property
    def kl_mean(self) -> float | None: ...
    @property
    def kl_stderr(self) -> float | None: ...
    @property
    def kl_p99(self) -> float | None: ...
    @property
    def top1_agreement(self) -> float | None: ...
    @property
    def top1_stderr(self) -> float | None: ...


def with_error(value: float | None, error: float | None) -> str:
    """``0.0317 ± 0.0021``: two digits of the error, and as many places of the value; empty without one."""
    if value is None or error is None:
        return ""
    if not error > 0:
        return f"{value:.4g} ± {error:.4g}"
    places = max(1 - math.floor(math.log10(error)), 0)
    if places > MOST_PLACES:
        return f"{value:.2e} ± {error:.1e}"
    return f"{value:.{places}f} ± {error:.{places}f}"


DIVERGENCE_TITLES = ("KL DIVERGENCE", "KL 99 %", "SAME TOP TOKEN")


def divergence_cells(figures: Divergence) -> tuple[str, str, str]:
    """What stands below ``DIVERGENCE_TITLES``; empty where nothing was compared."""
    p99, same, error = figures.kl_p99, figures.top1_agreement, figures.top1_stderr
    return (
        with_error(figures.kl_mean, figures.kl_stderr),
        "" if p99 is None else f"{p99:#.3g}",
        "" if same is None or error is None else f"{100 * same:.1f} ± {100 * error:.1f} %",
    )
