"""Loading a model with static activation scales: what the hook is told, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.engine.config import EngineConfig
from runtime.engine.llama import activations
from runtime.engine.llama.model import opened_model
from runtime.errors import GgufError, ModelLoadFailed
from runtime.gguf import GgufHeader, open_gguf
from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_activations import NAMES, SCALES, scaled_model


class Hook:
    """In the place of the library's functions: takes scales, and forgets them."""

    def __init__(self, taken: int) -> None:
        self.taken = taken
        self.scales: dict[str, tuple[float, ...]] = {}
        self.forgotten: list[int] = []
        """How many scales there were, each time."""

    def scale_input(self, name: str, scales: Sequence[float]) -> None:
        self.scales[name] = tuple(scales)

    def forget_input_scales(self) -> int:
        self.forgotten.append(len(self.scales))
        return self.taken


@pytest.fixture
def header(tmp_path: Path) -> GgufHeader:
    (tmp_path / "model.gguf").write_bytes(scaled_model())
    return open_gguf(tmp_path / "model.gguf")


def config(header: GgufHeader, gpu_layers: int = 0) -> EngineConfig:
    return EngineConfig(model_paths=(str(header.path),), gpu_layers=gpu_layers)


def test_the_hook_has_the_scales_while_a_model_is_loaded(
    header: GgufHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Hook(taken=2)
    monkeypatch.setattr(activations, "ggml", hook)
    with activations.static_activations(header, config(header)):
        assert hook.scales == {NAMES[0]: tuple(SCALES[:3]), NAMES[1]: tuple(SCALES[3:])}
        assert not hook.forgotten
    assert hook.forgotten == [2]


def test_a_matrix_that_went_elsewhere_is_an_error_on_the_processor(
    header: GgufHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "ggml", Hook(taken=1))
    with (
        pytest.raises(ModelLoadFailed, match="for 2 matrices, of which localq's kernels multiply 1"),
        activations.static_activations(header, config(header)),
    ):
        pass
    with activations.static_activations(header, config(header, gpu_layers=4)):
        pass  # there llama.cpp multiplies some


def test_they_are_forgotten_where_loading_fails(header: GgufHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Hook(taken=0)
    monkeypatch.setattr(activations, "ggml", hook)
    with pytest.raises(KeyError), activations.static_activations(header, config(header)):
        raise KeyError
    assert hook.forgotten == [2]


def test_a_worker_refuses_scales_that_llama_cpp_would_not_look_at(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(scaled_model(scales=g.numbers(g.F32, [0.0] * 5)))
    with pytest.raises(GgufError, match=r"a static activation scale of .* is 0\.0"):
        opened_model((str(tmp_path / "model.gguf"),))
