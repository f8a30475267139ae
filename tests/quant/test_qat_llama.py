"""The forward pass in torch against llama.cpp's, and the divergence and its gradient against torch's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.convert.convert import convert
from quant.errors import CannotTrain
from quant.files.source import open_source
from quant.qat.shape import shape_of
from tests.quant.checkpoint_files import PROMPT, described, write_checkpoint
from tests.quant.llama_child import computing, results
from tests.quant.source_models import Shape, write_source

torch = pytest.importorskip("torch")

from quant.qat import divergence as diverging  # noqa: E402
from quant.qat.divergence import divergence  # noqa: E402
from quant.qat.llama import hidden, output_name  # noqa: E402
from quant.qat.student import read_weights  # noqa: E402

TOLERANCE = 2e-3
"""Of the logits' span: llama.cpp rounds what F16 matrices multiply to F16."""
TRAINED = ("llama-biases", "llama2", "mistral", "qwen2", "qwen3", "smollm")
REFUSED = {
    "gemma3": "architecture 'gemma3'",
    "llama3": "scaled rotary positions",
    "llama-linear": "scaled rotary positions",
    "qwen2-yarn": "scaled rotary positions",
    "mixtral": "experts",
}


def logits(path: Path, tokens: tuple[int, ...]) -> Any:
    """[tokens, vocabulary]"""
    with open_source((path,)) as source, torch.no_grad():
        shape, weights = shape_of(source.header), read_weights(source, torch.float32)
        states = hidden(shape, weights, torch.tensor([tokens]))[0]
        return (states @ weights[output_name(weights)].T).numpy()


def off_by(path: Path, tokens: tuple[int, ...]) -> float:
    """The largest difference between both logits, over the span of llama.cpp's."""
    (theirs,) = results([computing(path, tokens)])
    return float(np.abs(logits(path, tokens) - theirs).max() / (theirs.max() - theirs.min()))


class TestLogits:
    @pytest.mark.parametrize("name", TRAINED)
    def test_they_are_llama_cpps_for_every_architecture(self, name: str, tmp_path: Path) -> None:
        folder = write_checkpoint(tmp_path / name, described()[name])
        path = convert(folder, tmp_path / "made.gguf").path
        assert off_by(path, tuple(PROMPT)) <= TOLERANCE

    def test_they_are_llama_cpps_for_a_trained_model(self, tiny_path: Path) -> None:
        tokens = tuple(np.random.default_rng(0).integers(0, 2048, 100).tolist())
        assert off_by(tiny_path, tokens) <= TOLERANCE

    def test_a_model_whose_positions_turn_otherwise_is_found(
        self, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from quant.qat import llama

        turned = llama.rotary
        monkeypatch.setattr(
            llama,
            "rotary",
            lambda shape, count, device: turned(replace(shape, rope_base=2 * shape.rope_base), count),
        )
        assert off_by(tiny_path, tuple(range(2, 60))) > TOLERANCE

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_computed_otherwise_is_refused(self, name: str, tmp_path: Path) -> None:
        folder = write_checkpoint(tmp_path / name, described()[name])
        path = convert(folder, tmp_path / "made.gguf").path
        with open_source((path,)) as source, pytest.raises(CannotTrain, match=REFUSED[name]):
            shape_of(source.header)

    def test_experts_are_refused(self, tmp_path: Path) -> None:
        path = write_source(tmp_path / "experts.gguf", Shape(experts=2, layers=1))
        with open_source((path,)) as source, pytest.raises(CannotTrain, match="experts"):
            shape_of(source.header)


class TestDivergence:
    @staticmethod
    def drawn() -> tuple[Any, ...]:
        random = torch.Generator().manual_seed(0)
        return tuple(torch.randn(size, generator=random) for size in ((9, 8), (40, 8), (9, 8), (40, 8)))

    @pytest.mark.parametrize("values", [40, 200, 1 << 24])
    def test_it_is_that_of_torch_in_pieces_of_any_size(
        self, values: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(diverging, "PIECE_VALUES", values)
        mine, head, theirs, their_head = self.drawn()
        mine.requires_grad_(True)
        expected = torch.nn.functional.kl_div(
            (mine @ head.T).log_softmax(-1),
            (theirs @ their_head.T).log_softmax(-1),
            log_target=True,
            reduction="none",
        ).sum(-1)
        expected.mean().backward()
        nats, towards = divergence(mine.detach(), head, theirs, their_head, gradient=True)
        assert towards is not None
        assert torch.allclose(nats, expected, rtol=1e-4, atol=1e-5)
        assert torch.allclose(towards, mine.grad, rtol=1e-4, atol=1e-6)

    def test_its_gradient_is_the_finite_difference(self) -> None:
        mine, head, theirs, their_head = (part.double() for part in self.drawn())
        _, towards = divergence(mine.float(), head.float(), theirs.float(), their_head.float(), gradient=True)
        assert towards is not None

        def mean(states: Any) -> float:
            likely = (theirs @ their_head.T).log_softmax(-1)
            found = (likely.exp() * (likely - (states @ head.T).log_softmax(-1))).sum(-1).mean()
            return float(found)

        for row, column in ((0, 0), (4, 3), (8, 7)):
            step = torch.zeros_like(mine)
            step[row, column] = 1e-5
            slope = (mean(mine + step) - mean(mine - step)) / 2e-5
            assert float(towards[row, column]) == pytest.approx(slope, rel=1e-3, abs=1e-7)

    def test_a_model_diverges_from_itself_by_nothing(self) -> None:
        mine, head, _, _ = self.drawn()
        nats, towards = divergence(mine, head, mine, head, gradient=True)
        assert towards is not None
        assert float(nats.abs().max()) < 1e-5
        assert float(towards.abs().max()) < 1e-5
