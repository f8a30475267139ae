"""What decides a training run, beside the model and the texts."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Mode: TypeAlias = Literal["scales", "blocks", "full"]
Precision: TypeAlias = Literal["f32", "bf16"]
"""What products are computed in."""
MODES: Final[tuple[Mode, ...]] = ("scales", "blocks", "full")


class TrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All that the result depends on. Rates are in units of what they move: a latent weight's step of its
    grid, the mean size of all else."""

    mode: Mode
    steps: int
    """Updates: in ``blocks``, of each layer."""
    chunks: int = 4
    """Chunks of text in an update."""
    latent_rate: float = 0.004
    scale_rate: float = 0.002
    plain_rate: float = 0.001
    """Of norms and biases."""
    warm_up: float = 0.05
    """Share of the steps in which rates rise to the full."""
    average: float = 0.0
    """Of the moving average of all that learns; 0: none."""
    checks: int = 10
    """How often in a run the held-out text is read."""
    patience: int = 3
    """Checks without a better result after which a run ends."""
    seed: int = 0
    precision: Precision = "f32"
    threads: int = 1
    """They decide in what order products are summed up."""

    def rate(self, step: int) -> float:
        """Share of the full rates at ``step``: a rise, then half a cosine to nothing (Loshchilov and Hutter
        2017)."""
        from math import cos, pi

        rise = max(1, round(self.warm_up * self.steps))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + cos(pi * (step - rise) / max(1, self.steps - rise)))

    def rate_of(self, name: str) -> float:
        """The full rate of a parameter of :meth:`quant.qat.student.Student.parameters`."""
        _, colon, part = name.partition(":")
        if not colon:
            return self.plain_rate
        return self.latent_rate if part == "latent" else self.scale_rate

    def __str__(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()
