"""Every format that is written, by name and by its number in a file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from quant.formats.format import Format
from quant.formats.iq4_nl import IQ4_NL
from quant.formats.iq4_xs import IQ4_XS
from quant.formats.lt import LT_FORMATS, LtFormat
from quant.formats.q1_0 import Q1_0
from quant.formats.q2_0 import Q2_0
from quant.formats.q2_k import Q2_K
from quant.formats.q3_k import Q3_K
from quant.formats.q4_0 import Q4_0
from quant.formats.q4_1 import Q4_1
from quant.formats.q4_k import Q4_K
from quant.formats.q5_0 import Q5_0
from quant.formats.q5_1 import Q5_1
from quant.formats.q5_k import Q5_K
from quant.formats.q6_k import Q6_K
from quant.formats.q8_0 import Q8_0
from quant.formats.tq1_0 import TQ1_0
from quant.formats.tq2_0 import TQ2_0

FORMATS: tuple[Format, ...] = (
    Q1_0,
    TQ1_0,
    TQ2_0,
    Q2_0,
    Q2_K,
    Q3_K,
    IQ4_XS,
    Q4_0,
    IQ4_NL,
    Q4_K,
    Q4_1,
    Q5_0,
    Q5_K,
    Q5_1,
    Q6_K,
    Q8_0,
)
"""By bits per weight; those of equal bits by their error, the worse one first."""

BY_NAME: Mapping[str, Format] = MappingProxyType({fmt.name: fmt for fmt in FORMATS})
"""``"q4_k"`` -> Q4_K."""

AnyFormat: TypeAlias = Format | LtFormat
"""Of ggml, or of localq's own, whose matrices lie in the packed section."""

ANY_BY_NAME: Mapping[str, AnyFormat] = MappingProxyType({**BY_NAME, **LT_FORMATS})
"""``"lt2"`` -> LT2 too."""

INSTEAD: Mapping[str, str] = MappingProxyType({"lt1": "q1_0", "lt2": "q2_k", "lt3": "q3_k", "lt4": "q4_k"})
"""ggml's format of about those bits, for matrices that an LT format cannot hold."""

BY_GGML_TYPE: Mapping[int, Format] = MappingProxyType({fmt.ggml_type: fmt for fmt in FORMATS})
"""12 -> Q4_K."""

RELATIVE_ERROR: Mapping[str, float] = MappingProxyType(
    {
        "q1_0": 0.3605,
        "tq1_0": 0.1889,
        "tq2_0": 0.1889,
        "q2_0": 0.1233,
        "q2_k": 0.0702,
        "q3_k": 0.0206,
        "iq4_xs": 0.00549,
        "q4_0": 0.00654,
        "iq4_nl": 0.00537,
        "q4_k": 0.00523,
        "q4_1": 0.00506,
        "q5_0": 0.00162,
        "q5_k": 0.00134,
        "q5_1": 0.00122,
        "q6_k": 0.000298,
        "q8_0": 0.0000250,
        "lt1": 0.2925,
        "lt2": 0.0814,
        "lt3": 0.0217,
        "lt4": 0.0062,
    }
)
"""Squared error over squared weights on Gaussian weights, as ``quant.formats.quantize`` reaches it, or the
encoder of words with states of 6 bits."""

WORSE_AT_MOST = 1.8
"""Times the error of what was asked for, that a format which stands in for it may have."""


def best_fit(fmt: Format, columns: int) -> Format | None:
    """What is written where ``fmt`` was asked for and rows have ``columns`` weights; None: it is kept.

    ``fmt`` itself where it fits. Else, of the formats that fit and whose error is at most 1.8 times as large
    (:data:`RELATIVE_ERROR`), the one of the fewest bytes, and of equal bytes the one of the least error:

    =============  ====================  ===============================================================
    asked for      stands in             reason
    =============  ====================  ===============================================================
    q4_k, iq4_xs   iq4_nl                4.5 bits, error 1.03 times q4_k's; q5_0 takes 22 % more bytes
    q5_k           q5_0                  5.5 bits, error 1.2 times; q5_1 takes 9 % more bytes
    q6_k           q8_0                  q5_1 has 4 times the error
    q3_k           iq4_nl                q2_0 has 6 times the error
    q2_k           q2_0, else iq4_nl     error 1.76 times, 0.86 of the bytes; iq4_nl takes 1.7 times those
    tq1_0, tq2_0   q2_0, else iq4_nl     q1_0 has 1.9 times the error
    q1_0           q2_0, else iq4_nl     q2_0 needs a multiple of 64
    q2_0           iq4_nl                nothing smaller has blocks of 32
    =============  ====================  ===============================================================
    """
    if fmt.fits(columns):
        return fmt
    most = WORSE_AT_MOST * RELATIVE_ERROR[fmt.name]
    good = [other for other in FORMATS if other.fits(columns) and RELATIVE_ERROR[other.name] <= most]
    return min(good, key=lambda other: (other.bits_per_weight, RELATIVE_ERROR[other.name]), default=None)
