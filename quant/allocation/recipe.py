"""Which tensor is stored in which format: pure functions of names, shapes and what a person asked for.

Weights of matrices are encoded; norms, biases, routers and other small tensors stay as the source has them,
as llama.cpp needs them. The output matrix, and embeddings that serve as one, get a finer format: their error
reaches the logits directly. The mixtures with an ``_m`` at the end give more bits to the values' projection
and to the down-projection in the layers where llama.cpp's mixtures of that name do.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Protocol

from quant.errors import CannotEncode
from quant.formats.lt import LT_FORMATS, UNIT, LtFormat
from quant.formats.registry import ANY_BY_NAME, BY_NAME, FORMATS, INSTEAD, AnyFormat, best_fit
from runtime.gguf import GgmlType
from runtime.gguf.packed import LOOKED_UP, MOST_COLUMNS

KEEP: Final = "keep"
"""As a format: leave the tensor as the source has it."""
LEAST_COLUMNS: Final = 32
LEAST_ELEMENTS: Final = 1024
"""Smaller matrices cost more in error than they give in bytes."""
OUTPUT_FORMAT: Final = "q6_k"
LOOKED_UP_FORMAT: Final = "q4_k"
"""Least for embeddings that are only looked up: each token reads one row of them."""

OUTER_ROLES: Final = frozenset({"output", "token_embd", "per_layer_token_embd"})
"""Matrices outside of the layers, of which llama.cpp measures nothing unless asked."""

_LAYER: Final = re.compile(r"blk\.(\d+)\.")
_NUMBERS: Final = re.compile(r"I\d+|F64")
_KEPT: Final = re.compile(
    r"_norm\.weight$|ffn_gate_inp|ffn_gate_tid2eid|altup|laurel|per_layer_model_proj|^position_embd\.|"
    r"^token_types\.|ssm_conv1d|shortconv\.conv|indexer\.|time_mix_(first|[wvag][012]|decay_w[12]|lerp_fused)|"
    r"attn_rel_b|rope_freqs|rope_factors|\.(hc|ssm_(f|g)_[ab]|ssm_beta)"
)
"""Small or delicate tensors that llama.cpp reads in a float type, or that no quantizer of it touches."""


class Shaped(Protocol):
    """What a recipe needs to know of a tensor."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> GgmlType: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Mixture:
    """Formats by role. ``everywhere`` holds in all layers, ``in_some`` in those that get more bits."""

    base: str
    everywhere: Mapping[str, str] = field(default_factory=dict)
    in_some: Mapping[str, str] = field(default_factory=dict)


_FINE: Final = {"attn_v": "q6_k", "ffn_down": "q6_k"}
MIXTURES: Final[Mapping[str, Mixture]] = {
    **{fmt.name: Mixture(fmt.name) for fmt in FORMATS},
    **{name: Mixture(name) for name in LT_FORMATS},
    KEEP: Mixture(KEEP),
    "q3_k_s": Mixture("q3_k"),
    "q3_k_m": Mixture("q3_k", {"attn_v": "q4_k", "attn_output": "q4_k", "ffn_down": "q4_k"}),
    "q4_k_s": Mixture("q4_k"),
    "q4_k_m": Mixture("q4_k", {"attn_qkv": "q5_k"}, _FINE),
    "q5_k_s": Mixture("q5_k"),
    "q5_k_m": Mixture("q5_k", {"attn_qkv": "q6_k"}, _FINE),
}
"""What ``--to`` takes."""


@dataclass(frozen=True, slots=True)
class Override:
    """A person's own choice: tensors whose name matches ``pattern`` are stored in ``format``.

    The pattern is a shell pattern for the whole name; without ``*``, ``?`` or ``[`` it may stand anywhere.
    """

    pattern: str
    format: str
    """A format's name, or ``keep``."""

    def matches(self, name: str) -> bool:
        if any(sign in self.pattern for sign in "*?["):
            return fnmatchcase(name, self.pattern)
        return self.pattern in name


def just(name: str, fmt: str) -> Override:
    """The override that matches the tensor ``name`` alone."""
    return Override(f"[{name[0]}]{glob.escape(name[1:])}", fmt)


def parse_override(text: str) -> Override:
    """``ffn_down=q6_k``. Raises ValueError, whose message names what is wrong."""
    pattern, equals, name = text.rpartition("=")
    name = name.strip().lower()
    if not equals or not pattern.strip():
        raise ValueError(f"{text!r} is not PATTERN=FORMAT, such as ffn_down=q6_k")
    if any("\ud800" <= sign <= "\udfff" for sign in pattern):
        raise ValueError(f"{pattern!r} holds bytes that are no UTF-8: no tensor has such a name")
    if name != KEEP and name not in ANY_BY_NAME:
        raise ValueError(f"{name!r} is no format; there are {', '.join([*ANY_BY_NAME, KEEP])}")
    return Override(pattern.strip(), name)


def role_of(name: str) -> str:
    """``attn_v`` of ``blk.3.attn_v.weight``, ``output`` of ``output.weight``."""
    stem = _LAYER.sub("", name, count=1).removesuffix(".weight")
    return stem.removesuffix("_exps").removesuffix("_shexp")


def is_encoded(tensor: Shaped) -> bool:
    """Whether a tensor is a matrix of weights that quantization is for; all others are copied."""
    elements = 1
    for dimension in tensor.shape:
        elements *= dimension
    return (
        len(tensor.shape) >= 2
        and tensor.shape[1] > 1
        and tensor.shape[0] >= LEAST_COLUMNS
        and elements >= LEAST_ELEMENTS
        and tensor.name.endswith(".weight")
        and not _KEPT.search(tensor.name)
        and not _NUMBERS.fullmatch(tensor.type.name)
    )


def packs(tensor: Shaped) -> bool:
    """Whether a matrix has a shape that LT formats hold, and is multiplied: no rows are taken out of it."""
    return (
        (len(tensor.shape) == 2 or tensor.name.endswith("_exps.weight"))
        and tensor.shape[0] % UNIT == 0
        and tensor.shape[0] < MOST_COLUMNS
        and not LOOKED_UP.match(tensor.name)
    )


def uses_words(target: str | None, overrides: Iterable[Override]) -> bool:
    """Whether an LT format is asked for."""
    names = {choice.format for choice in overrides} | {target}
    return not names.isdisjoint(LT_FORMATS)


def assign(
    tensors: Sequence[Shaped],
    target: str,
    overrides: Sequence[Override] = (),
    inputs: Collection[str] | None = None,
) -> dict[str, AnyFormat]:
    """The format of every tensor that is to be encoded, under the mixture ``target``; the others are copied.

    A tensor that the source already stores in no more bits than its format has is copied too: encoding it
    again would only add error. The last override that matches a tensor counts, and holds whatever the source
    has. ``inputs`` names the matrices whose input has a Hessian, which words of LT formats need (None: not
    known yet, all of them); others get ggml's format of about those bits.

    Raises :class:`CannotEncode` for a mixture or a format that does not exist, an override that matches no
    tensor, or a format that a tensor's rows do not fit.
    """
    mixture = MIXTURES.get(target)
    if mixture is None:
        raise CannotEncode(f"there is no format {target!r}; there are {', '.join(MIXTURES)}")
    tied = not any(tensor.name == "output.weight" for tensor in tensors)
    layers = 1 + max((layer_of(tensor.name) for tensor in tensors), default=0)
    plan: dict[str, AnyFormat] = {}
    for tensor in tensors:
        if is_encoded(tensor) and mixture.base != KEEP:
            wanted = ANY_BY_NAME[_format_name(tensor.name, mixture, tied, layers)]
            fitting = _fitting(wanted, tensor, inputs)
            if fitting is not None and _bits(fitting, tensor.shape[0]) < tensor.type.bits_per_weight:
                plan[tensor.name] = fitting
    return override(plan, tensors, overrides, inputs)


def _fitting(wanted: AnyFormat, tensor: Shaped, inputs: Collection[str] | None) -> AnyFormat | None:
    if not isinstance(wanted, LtFormat):
        return best_fit(wanted, tensor.shape[0])
    if packs(tensor) and (inputs is None or tensor.name in inputs):
        return wanted
    return best_fit(BY_NAME[INSTEAD[wanted.name]], tensor.shape[0])


def _bits(fmt: AnyFormat, columns: int) -> float:
    return 8 * fmt.tensor_bytes(UNIT, columns) / (UNIT * columns)


def override(
    plan: Mapping[str, AnyFormat],
    tensors: Sequence[Shaped],
    overrides: Iterable[Override],
    inputs: Collection[str] | None = None,
) -> dict[str, AnyFormat]:
    """``plan`` with a person's own choices in it. Raises :class:`CannotEncode` as :func:`assign` does."""
    changed = dict(plan)
    for choice in overrides:
        matching = [tensor for tensor in tensors if choice.matches(tensor.name)]
        if not matching:
            raise CannotEncode(f"no tensor matches {choice.pattern!r}; `localq show --quality` lists names")
        for tensor in matching:
            if choice.format == KEEP:
                changed.pop(tensor.name, None)
            elif is_encoded(tensor):
                changed[tensor.name] = _exactly(choice.format, tensor, inputs)
    return {tensor.name: changed[tensor.name] for tensor in tensors if tensor.name in changed}


def _exactly(name: str, tensor: Shaped, inputs: Collection[str] | None) -> AnyFormat:
    fmt = ANY_BY_NAME.get(name)
    if fmt is None:
        raise CannotEncode(f"there is no format {name!r}; there are {', '.join(ANY_BY_NAME)}")
    if isinstance(fmt, LtFormat):
        fitting = _fitting(fmt, tensor, inputs)
        if fitting is fmt:
            return fmt
        hint = f"; {fitting.name} fits" if fitting else ""
        if not packs(tensor):
            raise CannotEncode(
                f"{tensor.name} is not stored in {name}: that is for matrices that are multiplied, with rows "
                f"of a multiple of {UNIT} weights{hint}"
            )
        raise CannotEncode(
            f"{tensor.name} is not stored in {name}: calibration kept no Hessian of its input{hint}"
        )
    if not fmt.fits(tensor.shape[0]):
        fitting = best_fit(fmt, tensor.shape[0])
        hint = f"; {fitting.name} fits" if fitting else ""
        raise CannotEncode(
            f"{tensor.name} has rows of {tensor.shape[0]} weights, {name} stores blocks of {fmt.block}{hint}"
        )
    return fmt


def _format_name(tensor: str, mixture: Mixture, tied: bool, layers: int) -> str:
    role = role_of(tensor)
    base = ANY_BY_NAME[mixture.base]
    if role == "output" or (role == "token_embd" and tied):
        return _finer(OUTPUT_FORMAT, base)
    if role in ("token_embd", "per_layer_token_embd"):
        return _finer(LOOKED_UP_FORMAT, base)
    if role in mixture.in_some and _gets_more_bits(layer_of(tensor), layers):
        return mixture.in_some[role]
    return mixture.everywhere.get(role, mixture.base)


def _finer(name: str, base: AnyFormat) -> str:
    """The one of the two with more bits; for words always ggml's, whose rows can be looked up."""
    finer = isinstance(base, LtFormat) or BY_NAME[name].bits_per_weight > base.bits_per_weight
    return name if finer else base.name


def layer_of(name: str) -> int:
    """3 of ``blk.3.attn_v.weight``; 0 outside of the layers."""
    match = _LAYER.match(name)
    return int(match[1]) if match else 0


def _gets_more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third of those between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


FILE_TYPES: Final[Mapping[str, int]] = {
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q8_0": 7,
    "q5_0": 8,
    "q5_1": 9,
    "q2_k": 10,
    "q3_k": 11,
    "q3_k_s": 11,
    "q3_k_m": 12,
    "q4_k": 14,
    "q4_k_s": 14,
    "q4_k_m": 15,
    "q5_k": 16,
    "q5_k_s": 16,
    "q5_k_m": 17,
    "q6_k": 18,
    "iq4_nl": 25,
    "iq4_xs": 30,
    "tq1_0": 36,
    "tq2_0": 37,
    "q1_0": 40,
    "q2_0": 41,
}
"""``general.file_type`` of what was asked for: llama.cpp's ``llama_ftype``."""
