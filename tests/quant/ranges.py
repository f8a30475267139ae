"""What calibration keeps of inputs beside their second moments, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.steps import Calibrated, Steps
from tests.quant.stand_ins import stand_ins

F32 = NDArray[np.float32]


def seen(rows: F32, batches: int = 4, experts: int = 1) -> InputStatistics:
    """As calibration keeps it, of rows [tokens, columns] that all experts get."""
    columns = rows.shape[1]
    sizes = [size for size in (32, 256) if columns % size == 0]
    peaks = {size: np.abs(rows).reshape(len(rows), -1, size).max(axis=2) for size in sizes}
    extremes = [part.max(axis=0) for part in np.array_split(peaks[32], batches)]
    return InputStatistics(
        tokens=np.full(experts, len(rows), np.int64),
        mean_square=np.tile(np.square(rows).mean(axis=0), (experts, 1)),
        peaks={size: np.tile(np.square(found).mean(axis=0), (experts, 1)) for size, found in peaks.items()},
        extremes=np.stack(extremes).astype(np.float32),
    )


def normal(columns: int = 512, seed: int = 0) -> F32:
    return np.random.default_rng(seed).normal(0, 1, (400, columns)).astype(np.float32)


def steps_with_ranges() -> Steps:
    """Stand-ins whose calibration kept ranges too."""
    steps = stand_ins()

    def calibrate(*words: Any) -> Calibrated:
        found = steps.calibrate(*words)

        def statistics(name: str) -> InputStatistics | None:
            known = found.statistics(name)
            if known is None:
                return None
            ranges = seen(normal(known.columns))
            return replace(known, peaks=ranges.peaks, extremes=ranges.extremes)

        return replace(found, statistics=statistics)

    return replace(steps, calibrate=calibrate)
