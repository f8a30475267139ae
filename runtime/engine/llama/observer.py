"""Reading what a graph's matrices multiply, while llama.cpp computes it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from runtime.engine.accumulator import Accumulator
from runtime.engine.llama.graph import Tensor, at, source, values
from runtime.engine.llama.survey import Survey, Surveyor, routed, stop_before, weight_of
from runtime.errors import EngineError


class Observer:
    """An evaluation callback for one context. A pass is one of two kinds:

    - :meth:`look` notes the graph and ends the pass at its first node;
    - :meth:`watch` adds the inputs of a window to their accumulators, each once in a graph, and ends the
      pass behind the last of them.

    ``abort_flag`` is what llama.cpp reads behind every computed node. An exception in here ends the pass and
    is kept in ``error``.
    """

    def __init__(self, names: frozenset[str], abort_flag: ctypes.c_int32) -> None:
        self.callback = native.ggml_backend_sched_eval_callback(self._called)
        self.error: BaseException | None = None
        self.moment_seconds = 0.0
        self._names = names
        self._abort_flag = abort_flag
        self._surveyor: Surveyor | None = None
        self._survey: Survey | None = None
        self._accumulators: Mapping[int, Accumulator] = {}
        self._on_share: Callable[[float], None] = lambda share: None
        self._wanted = 1
        self._stop: int | None = None
        self._begin()

    def look(self) -> Surveyor:
        """Before a pass that is only looked at; the surveyor is complete behind it."""
        self._surveyor = Surveyor(self._names)
        self._abort_flag.value = 1
        return self._surveyor

    def watch(
        self,
        survey: Survey,
        accumulators: Mapping[int, Accumulator],
        on_share: Callable[[float], None],
    ) -> None:
        """Before passes of the surveyed graph: input -> where its rows go.

        ``on_share`` gets the share of the wanted inputs that a pass has taken.
        """
        self._surveyor = None
        self._survey = survey
        self._accumulators = accumulators
        self._on_share = on_share
        keys = [key for number in accumulators for key in survey.inputs[number].keys]
        self._wanted = max(1, len(keys))
        self._stop = stop_before(survey, keys)

    def begin(self) -> None:
        """Before each watched pass."""
        self._abort_flag.value = 0
        self._begin()

    def finish(self) -> None:
        """Behind each watched pass: takes what was computed last, when the pass was ended.

        ``error`` is set where an input has not been seen: statistics of a part of the texts would pass for
        those of all.
        """
        for address in list(self._pending):
            self._take(address)
        if len(self._taken) < self._wanted:
            self.error = self.error or EngineError(
                f"llama.cpp showed {len(self._taken)} of {self._wanted} inputs of a batch: it computes other "
                "batches otherwise; quantize this model without calibration"
            )

    def _begin(self) -> None:
        self._index = 0
        self._turns: dict[str, int] = {}
        self._taken: set[tuple[int, int]] = set()
        self._pending: dict[int, tuple[int, int]] = {}
        self._armed = 0
        self._same_graph = True

    def _called(self, address: int, asks: bool, _: Any) -> bool:
        try:
            return self._asked(address) if asks else self._computed(address)
        except BaseException as error:  # nothing may leave a callback of native code
            self.error = self.error or error
            self._abort_flag.value = 1
            return False

    def _asked(self, address: int) -> bool:
        if self._surveyor is not None:
            self._surveyor.offer(address)
            return False
        survey = self._survey
        if survey is None:
            return False
        node = at(address)
        if self._index and (node.name, node.op) == (survey.nodes[0].name, survey.nodes[0].op):
            self._begin()  # llama.cpp cut the batch: the next graph
        wanted = self._wants(survey, node, address)
        expected = survey.nodes[self._index] if self._index < len(survey.nodes) else None
        if expected is None or (node.name, node.op) != (expected.name, expected.op):
            self._same_graph = False  # its end may be elsewhere: it is computed whole
        elif self._same_graph and self._index == self._stop:
            self._armed, wanted = address, True
        self._index += 1
        return wanted

    def _wants(self, survey: Survey, node: Tensor, address: int) -> bool:
        weight = weight_of(node, self._names)
        if weight is None:
            return False
        name = weight.name
        turn = self._turns[name] = self._turns.get(name, -1) + 1
        use = survey.uses.get((name, turn))
        if use is None or use in self._taken or use[0] not in self._accumulators:
            return False
        self._taken.add(use)
        self._pending[address] = use
        return True

    def _computed(self, address: int) -> bool:
        if address in self._pending:
            self._take(address)
        if address == self._armed:
            self._abort_flag.value = 1
        return True

    def _take(self, address: int) -> None:
        started = time.perf_counter()
        number, _key = self._pending.pop(address)
        accumulator = self._accumulators[number]
        node = at(address)
        rows: NDArray[np.float32] = values(source(node, 1))
        if routed(node):
            experts: NDArray[np.int32] = values(source(node, 2))[0, 0]
            accumulator.add_routed(rows[0], experts)
        else:
            add_batched(accumulator, rows, source(node, 0).shape)
        accumulator.end_batch()
        self.moment_seconds += time.perf_counter() - started
        self._on_share(min(1.0, (len(self._taken) - len(self._pending)) / self._wanted))


def add_batched(
    accumulator: Accumulator, rows: NDArray[np.float32], weight: tuple[int, int, int, int]
) -> None:
    """Rows [outer, matrices, tokens, columns] to the matrix that ggml multiplies each with.

    Where there are more of ``rows`` than of matrices, neighbours share one.
    """
    outer, inner = weight[0], weight[1]
    if outer * inner == 1:
        accumulator.add(rows.reshape(-1, rows.shape[-1]))
        return
    for third in range(rows.shape[0]):
        for second in range(rows.shape[1]):
            matrix = third * outer // rows.shape[0] * inner + second * inner // rows.shape[1]
            accumulator.add(rows[third, second], matrix)
