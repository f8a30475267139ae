"""The hook in a worker: when it attaches, what becomes of a model without it, and whether answers stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.formats.registry import BY_NAME
from runtime.ggml import packed_types
from runtime.ggml.attach import find
from runtime.gguf import open_model
from runtime.kernels import active_isa, available_isas
from tests.runtime.watched_model import WatchedLlama

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = """\
Bread is flour, water, salt and time. Mix them in the evening, leave the bowl in a cool place, and by the
morning the dough has doubled. Fold it four times, from each side once, let it rest while the oven gets hot,
and bake it in a closed pot for forty minutes. The crust sings when it cools. People have done this for six
thousand years, mostly without a clock or a scale: they looked at the dough, pressed it with a finger, and
knew. What a recipe calls four hours is five in a cold kitchen and three in a warm one, and flour that was
milled last week drinks more than flour from last year. So write down what you did, how it felt and how it
came out; after ten loaves you will not need this page.
"""


def run(module: str, *arguments: str, **environment: str) -> str:
    """The last line that a test module's process prints."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPOSITORY,
        env=os.environ | environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return (ran.stdout.splitlines() or [""])[-1]


@dataclass(frozen=True)
class Attaching:
    isa: str
    reason: str
    packed: int


def attach(model: Path, what: str = "nothing", **environment: str) -> Attaching:
    """Attaches, and loads a model, which has to succeed in any case."""
    return Attaching(**json.loads(run("tests.runtime.hook_attach", what, str(model), **environment)))


@pytest.mark.model
class TestAttaching:
    def test_the_best_set_of_this_processor_attaches_and_packs_the_model(self, demo_path: Path) -> None:
        attached = attach(demo_path)
        assert (attached.isa, attached.reason) == (active_isa(), "")
        size = sum(
            tensor.nbytes for tensor in open_model(demo_path).tensors if tensor.type.name in packed_types()
        )
        assert size <= attached.packed <= size * 1.01 + (1 << 21)

    @pytest.mark.parametrize("isa", available_isas())
    def test_a_forced_set_attaches(self, demo_path: Path, isa: str) -> None:
        assert attach(demo_path, LOCALQ_FORCE_ISA=isa).isa == isa

    def test_a_set_that_this_build_lacks_is_named(self, demo_path: Path) -> None:
        attached = attach(demo_path, LOCALQ_FORCE_ISA="avx3")
        assert (attached.isa, attached.packed) == ("", 0)
        assert "LOCALQ_FORCE_ISA=avx3: this build has no such kernels (have: " in attached.reason

    def test_it_can_be_turned_off(self, demo_path: Path) -> None:
        assert attach(demo_path, LOCALQ_GGML="off") == Attaching("", "LOCALQ_GGML=off", 0)

    def test_kernels_that_multiply_wrongly_are_not_used(self, demo_path: Path) -> None:
        assert attach(demo_path, "wrong-kernels") == Attaching("", "the self-test gave a wrong result", 0)

    def test_another_llama_cpp_is_left_alone(self, demo_path: Path) -> None:
        attached = attach(demo_path, "other-version")
        assert attached.isa == ""
        assert attached.reason == "llama-cpp-python 0.3.37; the kernels are made for 0.3.36"

    def test_a_library_that_is_none_is_named(self, demo_path: Path, tmp_path: Path) -> None:
        (tmp_path / "hook.so").write_bytes(b"no library")
        attached = attach(demo_path, LOCALQ_GGML=str(tmp_path / "hook.so"))
        assert attached.isa == ""
        assert f"{tmp_path / 'hook.so'} cannot be loaded: " in attached.reason


class TestExpected:
    """What a plan of memory believes, which asks nothing of llama.cpp."""

    @pytest.fixture(autouse=True)
    def fresh(self) -> None:
        packed_types.cache_clear()

    def test_types_with_a_product_are_packed(self) -> None:
        assert {"Q4_0", "Q8_0", "Q4_K", "TQ1_0", "Q1_0"} <= packed_types()
        assert "F16" not in packed_types()

    def test_none_are_where_the_hook_is_off_or_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCALQ_GGML", "off")
        assert packed_types() == frozenset()
        packed_types.cache_clear()
        monkeypatch.delenv("LOCALQ_GGML")
        monkeypatch.setattr("runtime.ggml.__path__", ["/nowhere"])
        assert find() is None
        assert packed_types() == frozenset()

    def test_none_are_for_another_llama_cpp(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("runtime.ggml.expected.version", lambda _name: "0.3.37")
        assert packed_types() == frozenset()

    def test_the_reference_alone_is_no_reason_to_attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_module("runtime.ggml.attach"), "active_isa", lambda: "scalar")
        assert packed_types() == frozenset()

    def teardown_method(self) -> None:
        packed_types.cache_clear()


def log_probabilities(
    model: Path, folder: Path, **environment: str
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Tokens of :data:`TEXT` and [token, vocabulary], natural logarithms."""
    (folder / "text.txt").write_text(TEXT)
    arguments = [str(model), str(folder / "text.txt"), str(folder / "logits.npz"), "2"]
    run("tests.runtime.hook_logits", *arguments, **environment)
    with np.load(folder / "logits.npz") as found:
        logits = found["logits"].astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        return found["tokens"], shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergence(model: Path, folder: Path, **ours: str) -> float:
    """Mean KL(llama.cpp || localq) in nats of the answers to :data:`TEXT`."""
    _, wanted = log_probabilities(model, folder, LOCALQ_GGML="off")
    _, got = log_probabilities(model, folder, **ours)
    return float((np.exp(wanted) * (wanted - got)).sum(axis=1).mean())


def small(path: Path, name: str, layers: int, experts: int) -> Path:
    """A random llama in a format, with experts or without."""
    shape = WatchedLlama(hidden=256, width=256, layers=layers, experts=experts, used=min(experts, 2))
    return shape.write(path / "model.gguf", BY_NAME[name])


@pytest.mark.parametrize("experts", [0, 4], ids=["dense", "experts"])
class TestAnswers:
    """Of models with few layers: each layer rounds some more bytes of its input the other way, and after
    thirty two builds of llama.cpp are as far apart as roundings can make them (docs/kernels.md).
    """

    @pytest.mark.parametrize("name", ["q8_0", "q4_k", "q6_k", "tq2_0", "q1_0"])
    def test_answers_are_llama_cpp_s(self, tmp_path: Path, name: str, experts: int) -> None:
        assert divergence(small(tmp_path, name, 1, experts), tmp_path) <= 1e-4

    def test_they_are_in_any_depth_where_both_sum_in_one_order(self, tmp_path: Path, experts: int) -> None:
        assert divergence(small(tmp_path, "q4_0", 3, experts), tmp_path) <= 1e-9

    @pytest.mark.parametrize("name", ["q8_0", "q4_0"])
    def test_inputs_of_one_bit_less_are_noticed(self, tmp_path: Path, name: str, experts: int) -> None:
        model = small(tmp_path, name, 1, experts)
        assert divergence(model, tmp_path, LOCALQ_TEST_BREAK="bits") > 1e-4


@pytest.mark.model
def test_answers_do_not_depend_on_the_instruction_set(demo_path: Path, tmp_path: Path) -> None:
    _, wanted = log_probabilities(demo_path, tmp_path)
    for isa in available_isas()[1:-1]:
        _, got = log_probabilities(demo_path, tmp_path, LOCALQ_FORCE_ISA=isa)
        assert got.tobytes() == wanted.tobytes(), isa
