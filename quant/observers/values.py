"""What an observer may see: finite float32 values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.errors import NotFinite

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SMALLEST_SCALE = np.float32(2.0**-126)
"""The smallest normal float32: a subnormal scale is lost where a processor flushes them to zero."""


def finite(x: ArrayLike) -> F32:
    """``x`` as float32, of the same shape; not a copy where it is that already.

    Raises :class:`NotFinite` with the number of values that are NaN, infinite or beyond float32, and the
    position of the first.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(x).astype(np.float32, copy=False)
    good = np.isfinite(values)
    if good.all():
        return values
    bad = np.argwhere(~good)
    position = tuple(int(index) for index in bad[0])
    at = f" at {list(position)}" if position else ""
    raise NotFinite(
        f"{len(bad)} of {values.size} values are NaN, infinite or beyond float32, the first "
        f"({np.asarray(x)[position]}){at}: a range cannot be taken of them; repair or replace the source",
        count=len(bad),
        position=position,
    )
