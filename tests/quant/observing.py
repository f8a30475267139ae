"""Arrays and schemes for the tests of observers."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.observers import Granularity, PerChannel, PerGroup, PerTensor, PerToken, Scheme
from quant.observers.values import F32

unhurried = settings(deadline=None, max_examples=60)
"""For properties of arrays: a busy machine is no failure."""

ROWS, COLUMNS = 6, 32

GRANULARITIES: tuple[Granularity, ...] = (
    PerTensor(),
    PerChannel(0),
    PerChannel(1),
    PerGroup(8),
    PerGroup(3, axis=0),
    PerToken(),
)

floats = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
usual = st.floats(-100, 100, width=32)


def arrays(
    elements: st.SearchStrategy[float] = floats, rows: int = ROWS, columns: int = COLUMNS
) -> st.SearchStrategy[F32]:
    """float32 [rows, columns], of any magnitude; often with many equal values."""
    return hnp.arrays(np.float32, (rows, columns), elements=elements)


@st.composite
def schemes(draw: st.DrawFn, *, most_bits: int = 16) -> Scheme:
    """Any scheme that fits an array of ``arrays``."""
    symmetric = draw(st.booleans())
    return Scheme(
        bits=draw(st.integers(2 if symmetric else 1, most_bits)),
        signed=draw(st.booleans()),
        symmetric=symmetric,
        granularity=draw(st.sampled_from(GRANULARITIES)),
        restricted=draw(st.booleans()),
    )


def heavy_tailed(seed: int, *shape: int, degrees: float = 4) -> F32:
    """Values with outliers, as activations have."""
    random = np.random.default_rng(seed)
    return random.standard_t(degrees, shape).astype(np.float32)
