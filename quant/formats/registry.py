"""Every format that is written, by name and by its number in a file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quant.formats.format import Format
from quant.formats.iq4_nl import IQ4_NL
from quant.formats.iq4_xs import IQ4_XS
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

BY_GGML_TYPE: Mapping[int, Format] = MappingProxyType({fmt.ggml_type: fmt for fmt in FORMATS})
"""12 -> Q4_K."""
