"""Which tensors the GGUF gets, and what of the checkpoint each is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from gguf import MODEL_TENSOR, TENSOR_NAMES, TensorNameMap, get_tensor_name_map
from numpy.typing import NDArray

from quant.convert.architectures.architecture import Architecture, Change
from quant.convert.checkpoint import Checkpoint
from quant.convert.config import Config
from quant.convert.numbers import FLOATS, KEPT
from quant.convert.safetensors import StoredTensor
from quant.convert.scales import Scaling, read_scaling
from quant.errors import CannotConvert, CheckpointDamaged
from quant.files.layout import TensorEntry
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME

NO_CHANGE: Final = Change()
ALWAYS_F32: Final = frozenset(
    {MODEL_TENSOR.FFN_GATE_INP, MODEL_TENSOR.POS_EMBD, MODEL_TENSOR.TOKEN_TYPES, MODEL_TENSOR.ROPE_FREQS}
)
"""Matrices that llama.cpp reads in no other type; vectors it wants in float32 anyway."""

_EXPERT: Final = re.compile(r"(?P<stem>.*\.experts)\.(?P<number>\d{1,4})\.(?P<rest>.+)")
_BLOCK: Final = re.compile(r"blk\.(\d+)\.")
_SUFFIXES: Final = (".weight", ".bias")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A tensor to write: the rows of ``pieces`` one behind the other, each changed in the same way."""

    entry: TensorEntry
    dtype: str
    """Of the elements to write."""
    pieces: tuple[StoredTensor, ...] = ()
    change: Change = NO_CHANGE
    scaling: Scaling | None = None
    values: NDArray[np.float32] | None = None
    """In the place of pieces, for what was computed."""


@dataclass(frozen=True)
class TensorPlan:
    """All tensors to write in their order, and those of the checkpoint that have no place in the GGUF."""

    recipes: tuple[Recipe, ...]
    left_out: tuple[str, ...]


def plan_tensors(
    config: Config, architecture: Architecture, checkpoint: Checkpoint, outtype: str | None
) -> TensorPlan:
    """The tensors of the model. ``outtype`` is that of the matrices; None keeps what the checkpoint has.

    Raises :class:`CannotConvert` for a tensor that the architecture does not know, and
    :class:`CheckpointDamaged` for one that is missing or has another shape than config.json gives it.
    """
    scaling = read_scaling(config, checkpoint.tensors)
    found, left_out = _sorted_out(config, architecture, checkpoint, scaling)
    _require_complete(config, architecture, checkpoint, found)
    # By name: gguf has several kinds of one name, as FFN_NORM and FFN_PRE_NORM.
    changes = {TENSOR_NAMES[kind]: change for kind, change in architecture.changes(config).items()}
    recipes = [
        _recipe(name, target, changes.get(_template(name), NO_CHANGE), scaling, outtype)
        for name, target in found.items()
    ]
    recipes += [
        _computed(TENSOR_NAMES[kind] + ".weight", values)
        for kind, values in architecture.computed(config).items()
    ]
    return TensorPlan(tuple(sorted(recipes, key=_order)), left_out)


@dataclass
class _Target:
    """A tensor of the GGUF and the tensors that it is made of, by expert."""

    kind: MODEL_TENSOR
    pieces: dict[int, StoredTensor]
    stacked: bool

    def shape(self) -> tuple[int, ...]:
        first = next(iter(self.pieces.values()))
        return (len(self.pieces), *first.shape) if self.stacked else first.shape


def _sorted_out(
    config: Config, architecture: Architecture, checkpoint: Checkpoint, scaling: Scaling
) -> tuple[dict[str, _Target], tuple[str, ...]]:
    blocks = config.integer("num_hidden_layers", most=512)
    names = get_tensor_name_map(architecture.arch, blocks)
    tied = MODEL_TENSOR.OUTPUT not in architecture.shapes(config)
    targets: dict[str, _Target] = {}
    left_out: list[str] = []
    for name, tensor in checkpoint.tensors.items():
        if scaling.is_scale(name):
            continue
        if any(pattern.fullmatch(name) for pattern in architecture.left_out):
            left_out.append(name)
            continue
        plain, expert = _plain(name, architecture.prefixes)
        if any(pattern.fullmatch(plain) for pattern in architecture.left_out):
            left_out.append(name)
            continue
        looked_up = _look_up(names, plain)
        if looked_up is None:
            raise CannotConvert(
                checkpoint.folder,
                f"its tensor {name} has no place in llama.cpp's {architecture.name}: it is another model "
                f"than {config.architecture} in config.json says",
            )
        kind, target = looked_up
        if kind is MODEL_TENSOR.OUTPUT and tied:
            left_out.append(name)
            continue
        if tensor.dtype not in FLOATS:
            raise CannotConvert(checkpoint.folder, f"its tensor {name} holds integers ({tensor.dtype})")
        found = targets.setdefault(target, _Target(kind, {}, expert is not None))
        if (expert or 0) in found.pieces or found.stacked != (expert is not None):
            raise CheckpointDamaged(tensor.path, "duplicate-tensor", f"has {name} beside another {target}")
        found.pieces[expert or 0] = tensor
    return targets, tuple(left_out)


def _plain(name: str, prefixes: Sequence[str]) -> tuple[str, int | None]:
    """The name as gguf's map has it, and which expert's tensor it is."""
    plain = name.replace("language_model.", "")
    for prefix in prefixes:
        plain = plain.removeprefix(prefix)
    if plain.endswith((".gamma", ".beta")):  # as TensorFlow calls a norm's weight and bias
        stem, _, last = plain.rpartition(".")
        plain = f"{stem}.{'weight' if last == 'gamma' else 'bias'}"
    match = _EXPERT.fullmatch(plain)
    if match is None:
        return plain, None
    return f"{match['stem']}.{match['rest']}", int(match["number"])


def _look_up(names: TensorNameMap, plain: str) -> tuple[MODEL_TENSOR, str] | None:
    """A model that was saved without its head lacks the first part of the names."""
    for candidate in (plain, f"model.{plain}"):
        if found := names.get_type_and_name(candidate, try_suffixes=_SUFFIXES):
            kind: MODEL_TENSOR = found[0]
            return kind, str(found[1])
    return None


def _require_complete(
    config: Config, architecture: Architecture, checkpoint: Checkpoint, found: Mapping[str, _Target]
) -> None:
    """Every weight that the architecture has is there, in the shape that config.json gives it."""
    blocks = config.integer("num_hidden_layers", most=512)
    for kind, shape in architecture.shapes(config).items():
        for block in range(blocks) if "{bid}" in TENSOR_NAMES[kind] else (0,):
            name = TENSOR_NAMES[kind].format(bid=block) + ".weight"
            target = found.get(name)
            if target is None:
                raise CheckpointDamaged(
                    checkpoint.folder,
                    "tensor-missing",
                    f"has no tensor for {name}, of {blocks} blocks; the repository is incomplete",
                )
            _require_shape(name, target, shape)
    for name, target in found.items():
        if target.stacked and set(target.pieces) != set(range(len(target.pieces))):
            raise CheckpointDamaged(checkpoint.folder, "tensor-missing", f"lacks experts of {name}")


def _require_shape(name: str, target: _Target, shape: tuple[int, ...]) -> None:
    for piece in target.pieces.values():
        expected = shape[1:] if target.stacked else shape
        if piece.shape != expected or (target.stacked and len(target.pieces) != shape[0]):
            raise CheckpointDamaged(
                piece.path,
                "bad-shape",
                f"has {piece.name} in the shape {list(target.shape())}, "
                f"for {name} config.json needs {list(shape)}",
            )


def _recipe(name: str, target: _Target, change: Change, scaling: Scaling, outtype: str | None) -> Recipe:
    pieces = tuple(target.pieces[number] for number in sorted(target.pieces))
    shape = target.shape()
    if change.skip_rows:
        shape = (shape[0] - change.skip_rows, *shape[1:])
    if change.heads and shape[0] % (2 * change.heads):
        raise CheckpointDamaged(
            pieces[0].path, "bad-shape", f"has {pieces[0].name} with {shape[0]} rows for {change.heads} heads"
        )
    if target.kind in ALWAYS_F32 or len(shape) < 2 or name.endswith("_norm.weight"):
        dtype = "F32"
    else:
        own = pieces[0].dtype if pieces[0].dtype in KEPT else "BF16"
        dtype = outtype or own
        if shape[-1] % GGML_TYPES_BY_NAME[dtype].block_size:
            dtype = own  # no whole blocks in a row
    return Recipe(_entry(name, dtype, shape), dtype, pieces, change, scaling)


def _computed(name: str, values: NDArray[np.float32]) -> Recipe:
    return Recipe(_entry(name, "F32", values.shape), "F32", values=values)


def _entry(name: str, dtype: str, shape: tuple[int, ...]) -> TensorEntry:
    kind = GGML_TYPES_BY_NAME[dtype]
    elements = 1
    for dimension in shape:
        elements *= dimension
    return TensorEntry(name, kind.id, tuple(reversed(shape)), kind.row_bytes(elements))


def _template(name: str) -> str:
    """``blk.{bid}.attn_q`` for ``blk.3.attn_q.weight``."""
    return _BLOCK.sub("blk.{bid}.", name.rpartition(".")[0])


def _order(recipe: Recipe) -> tuple[int, str]:
    """What lies before the blocks, the blocks by number, what lies behind them."""
    name = recipe.entry.name
    if match := _BLOCK.match(name):
        return int(match[1]), name
    return (1 << 16, name) if name.startswith("output") else (-1, name)


def elements(recipes: Sequence[Recipe]) -> Iterator[tuple[Recipe, int]]:
    """Each tensor and how many weights it holds."""
    for recipe in recipes:
        kind = GGML_TYPES_BY_NAME[recipe.dtype]
        yield recipe, recipe.entry.nbytes // kind.block_bytes * kind.block_size
