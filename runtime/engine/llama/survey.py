"""Which matrices a graph multiplies with, and which of them share an input.

llama.cpp's evaluation callback offers every node before anything is computed; a pass that is ended at once
tells all of this and costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from runtime.engine.llama.graph import F32, Tensor, at, in_host_memory, operation, source

Key: TypeAlias = tuple[int, ...]
"""Names an input within one graph: equal keys are the same values."""

VIEWS = ("RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE")


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the survey saw it."""

    address: int
    name: str
    op: int


@dataclass(slots=True)
class Input:
    """An input that a set of matrices share. A matrix that is used several times has the sum of its inputs.

    ``keys``: the places of its inputs among all distinct ones of the graph.
    """

    columns: int
    matrices: int
    keys: tuple[int, ...]
    tensors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Survey:
    """What :func:`survey` found. ``uses``: (matrix, how many-eth use) -> (input, distinct key)."""

    inputs: list[Input]
    uses: dict[tuple[str, int], tuple[int, int]]
    nodes: list[Node]
    producers: list[int]
    """The node that computes each key's values, -1 for none."""
    consumers: list[int]
    """The first node that multiplies each key's values."""
    rows: int
    """Tokens that the graph was for: rows of its longest input."""


def weight_of(node: Tensor, names: frozenset[str]) -> Tensor | None:
    """The matrix of the file that a node multiplies with; None for any other node.

    A reshaped matrix counts where its rows stay whole.
    """
    if node.op not in (operation("MUL_MAT"), operation("MUL_MAT_ID")):
        return None
    weight = source(node, 0)
    while weight.op == operation("RESHAPE") and source(weight, 0).ne[0] == weight.ne[0]:
        weight = source(weight, 0)
    if weight.op != operation("NONE") or weight.name not in names:
        return None
    moved = source(node, 1)
    return weight if moved.type == F32 and moved.nb[0] == 4 and in_host_memory(moved) else None


def routed(node: Tensor) -> bool:
    """Whether experts take rows apart."""
    return bool(node.op == operation("MUL_MAT_ID"))


def key_of(node: Tensor) -> Key:
    """Of a node's input: of two views of the same values too, as long as they read them in the same order."""
    moved = source(node, 1)
    base = _base_address(node.src[1])
    packed = moved.nb[1] == moved.ne[0] * 4 and moved.nb[2] == moved.nb[1] * moved.ne[1]
    strides = () if packed and moved.nb[3] == moved.nb[2] * moved.ne[2] else (*moved.nb, *moved.ne)
    return (base, moved.data or 0, moved.ne[0], moved.rows, (node.src[2] or 0) * routed(node), *strides)


def _base_address(address: int) -> int:
    """Of the tensor whose computation made the values that a view shows."""
    views = {operation(name) for name in VIEWS}
    while (tensor := at(address)).op in views:
        address = tensor.src[0]
    return address


class Surveyor:
    """Takes the nodes of one graph, in their order, and then tells the :class:`Survey`."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._nodes: list[Node] = []
        self._keys: dict[Key, int] = {}
        self._producers: list[int] = []
        self._consumers: list[int] = []
        self._places: dict[int, int] = {}
        self._used: dict[str, list[int]] = {}
        self._shapes: dict[str, tuple[int, int]] = {}
        self._rows = 0

    def offer(self, address: int) -> None:
        """Note a node."""
        node = at(address)
        index = len(self._nodes)
        self._places[address] = index
        self._nodes.append(Node(address, node.name, node.op))
        weight = weight_of(node, self._names)
        if weight is None:
            return
        key = key_of(node)
        if key not in self._keys:
            self._keys[key] = len(self._keys)
            made = [_base_address(node.src[1])] + ([_base_address(node.src[2])] if routed(node) else [])
            self._producers.append(max(self._places.get(address, -1) for address in made))
            self._consumers.append(index)
        self._used.setdefault(weight.name, []).append(self._keys[key])
        self._shapes[weight.name] = (int(weight.ne[0]), int(weight.ne[2] * weight.ne[3]))
        if not routed(node) and weight.ne[2] * weight.ne[3] == 1:
            self._rows = max(self._rows, source(node, 1).rows)

    def survey(self) -> Survey:
        """All that was noted; inputs in the order in which a pass has seen the last of each."""
        groups: dict[tuple[tuple[int, ...], tuple[int, int]], Input] = {}
        for name, keys in self._used.items():
            columns, matrices = self._shapes[name]
            group = groups.setdefault(
                (tuple(keys), (columns, matrices)), Input(columns, matrices, tuple(dict.fromkeys(keys)))
            )
            group.tensors.append(name)
        inputs = sorted(groups.values(), key=lambda found: max(self._consumers[key] for key in found.keys))
        uses = {
            (name, turn): (number, key)
            for number, found in enumerate(inputs)
            for name in found.tensors
            for turn, key in enumerate(self._used[name])
        }
        return Survey(inputs, uses, self._nodes, self._producers, self._consumers, self._rows)


def stop_before(survey: Survey, keys: Sequence[int]) -> int | None:
    """The node behind which one more computed node ends a pass that needs only ``keys``.

    It is the last computed node before the one that makes the last of these values. None where another of
    them is multiplied behind it, so that the pass has to go on.
    """
    empty = {operation(name) for name in (*VIEWS, "NONE")}
    last = max((survey.producers[key] for key in keys), default=-1)
    before = [index for index in range(max(last, 0)) if survey.nodes[index].op not in empty]
    if not before:
        return None
    late = [key for key in keys if survey.consumers[key] > before[-1]]
    return None if len(late) > 1 or any(survey.producers[key] < last for key in late) else before[-1]
