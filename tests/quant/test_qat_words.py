"""Matrices in LT formats in training: words stay, scales learn, and the strips hold what was learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from quant.formats.lt import LT_FORMATS, unpack  # noqa: E402
from quant.qat.end_to_end import held_out_divergence, train  # noqa: E402
from quant.qat.words import SCALE_BYTES, FakeWords, fake_words  # noqa: E402
from tests.quant.qat_kit import Pair, options, pair  # noqa: E402

NAME = "blk.1.ffn_down.weight"


@pytest.fixture(params=["lt2", "lt3"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    torch.set_num_threads(1)
    with pair(tmp_path, request.param) as found:
        yield found


def words_of(models: Pair, name: str = NAME) -> FakeWords:
    tensor = next(tensor for tensor in models.quantized.tensors if tensor.name == name)
    return fake_words(models.quantized, tensor)


def test_the_values_are_those_of_the_file_but_for_rounding(models: Pair) -> None:
    tensor = next(tensor for tensor in models.quantized.tensors if tensor.name == NAME)
    values = words_of(models).values().numpy()
    assert np.allclose(values, models.quantized.rows(tensor, 0, tensor.rows), rtol=1e-6, atol=0)


def test_the_strips_are_those_of_the_file_until_a_scale_moves(models: Pair) -> None:
    words = words_of(models)
    assert np.array_equal(words.packed(), words.strips)
    with torch.no_grad():
        words.scale[3] *= 2
    changed = np.argwhere(words.packed() != words.strips)
    assert {tuple(place) for place in changed} <= {(0, 6), (0, 7)}
    assert len(changed)


def test_what_is_packed_stands_for_the_values(models: Pair) -> None:
    tensor = next(tensor for tensor in models.quantized.tensors if tensor.name == NAME)
    words = words_of(models)
    with torch.no_grad():
        words.scale.mul_(torch.linspace(0.5, 1.5, len(words.scale)))
    found = models.quantized.values(tensor, words.packed().tobytes())
    assert np.allclose(found, words.values().numpy(), rtol=1e-6, atol=0)


def test_the_gradient_of_a_scale_is_a_finite_difference(models: Pair) -> None:
    words = words_of(models)
    towards = torch.randn(words.unscaled.shape, generator=torch.Generator().manual_seed(0))
    words.backward(towards)
    base = words.scale.detach().double()
    for row in (0, 17, 63):
        step = 1e-3 * float(base[row])
        along = (words.unscaled[row].double() * towards[row]).sum()
        difference = (base[row] + step) * along - (base[row] - step) * along
        assert float(words.scale.grad[row]) == pytest.approx(float(difference) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("codes", [True, False])
def test_scales_and_norms_alone_come_nearer_to_the_original(
    codes: bool, models: Pair, tmp_path: Path
) -> None:
    student, lesson = models.student(codes=codes), models.lesson(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    checks = train(student, lesson, options("scales", steps=40), folder)
    assert min(check.loss for check in checks) < 0.97 * checks[0].loss
    assert held_out_divergence(student, lesson) == min(check.loss for check in checks)
    packed = dict(student.packed())
    for name, words in student.quantizers.items():
        assert isinstance(words, FakeWords)
        found = np.frombuffer(packed[name], np.uint8).reshape(words.strips.shape)
        assert np.array_equal(found[:, SCALE_BYTES:], words.strips[:, SCALE_BYTES:])
        assert not np.array_equal(found[:, :SCALE_BYTES], words.strips[:, :SCALE_BYTES])


def test_rows_that_fill_the_last_strip_keep_a_scale_of_nothing(models: Pair) -> None:
    words = words_of(models)
    few = FakeWords(words.strips, words.unscaled[:40], words.scale[:40])
    tensor = next(tensor for tensor in models.quantized.tensors if tensor.name == NAME)
    assert tensor.packed is not None
    found = unpack(LT_FORMATS[tensor.packed.format], few.packed()[:1], tensor.packed.states)
    assert not found.scale[40:64].any()
    assert found.scale[:40].all()
