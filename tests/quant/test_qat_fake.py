"""Fake quantization against the packed formats, and its gradients against finite differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.formats.dequantize import dequantize, values
from quant.formats.format import Format
from quant.formats.quantize import quantize
from quant.formats.registry import FORMATS
from tests.quant.random_blocks import random_blocks, same_blocks

torch = pytest.importorskip("torch")

from quant.qat.fake import FakeQuantizer, fake_quantizer  # noqa: E402

ROWS, BLOCKS = 3, 2
F64 = NDArray[np.float64]
every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)


def random_weights(fmt: Format, seed: int = 0) -> NDArray[np.float32]:
    shape = (ROWS, BLOCKS * fmt.block)
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)


def made(fmt: Format, *, codes: bool = True, seed: int = 0) -> FakeQuantizer:
    """In training from random weights, which are rounded to nearest."""
    weights = random_weights(fmt, seed)
    blocks = fmt.unpack(quantize(fmt, weights).reshape(-1, fmt.block_bytes))
    return fake_quantizer(fmt, blocks, weights.shape, weights if codes else None)


def moved(quantizer: FakeQuantizer, share: float, seed: int = 1) -> FakeQuantizer:
    """All that learns, moved at random by ``share`` of its own size."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, tensor in quantizer.parameters():
            size = float(tensor.abs().mean()) or 1.0
            tensor.add_(torch.randn(tensor.shape, generator=random) * size * share)
    return quantizer


class TestValues:
    @every_format
    @pytest.mark.parametrize("codes", [True, False], ids=["codes learn", "codes stay"])
    def test_they_are_those_of_the_packed_bytes_to_the_bit(self, fmt: Format, codes: bool) -> None:
        quantizer = made(fmt, codes=codes)
        for share in (0.0, 0.05, 0.5, 3.0):
            moved(quantizer, share)
            packed = dequantize(fmt, quantizer.packed())
            assert quantizer.values().numpy().tobytes() == packed.tobytes(), share

    @every_format
    def test_training_begins_at_the_codes_it_is_given(self, fmt: Format) -> None:
        weights = random_weights(fmt)
        blocks = random_blocks(fmt, ROWS * BLOCKS)
        for original in (weights, None):
            quantizer = fake_quantizer(fmt, blocks, weights.shape, original)
            expected = values(fmt, blocks).reshape(weights.shape)
            assert np.array_equal(quantizer.values().numpy(), expected)
        assert same_blocks(quantizer.blocks(), blocks)

    @every_format
    def test_latent_weights_begin_at_the_original_where_its_code_is_the_nearest(self, fmt: Format) -> None:
        weights = random_weights(fmt)
        quantizer = made(fmt)
        assert quantizer.latent is not None
        near = quantizer.latent.detach().numpy().reshape(weights.shape) - weights
        assert np.square(near).mean() < np.square(quantizer.values().numpy() - weights).mean()

    def test_a_scale_beyond_f16_is_packed_as_the_largest_that_it_holds(self) -> None:
        quantizer = made(FORMATS[-1])
        with torch.no_grad():
            quantizer.scale[0] = 1e9
        assert float(quantizer.blocks().scale[0]) == 65504.0
        assert np.array_equal(quantizer.values().numpy(), dequantize(FORMATS[-1], quantizer.packed()))


class TestGradients:
    """The derivative of what the values would be if rounding only added a constant, which is what straight
    through means: computed in float64 from the formula, moved a little to both sides."""

    @every_format
    @pytest.mark.parametrize("codes", [True, False], ids=["codes learn", "codes stay"])
    def test_they_are_finite_differences_of_the_values(self, fmt: Format, codes: bool) -> None:
        quantizer = moved(made(fmt, codes=codes), 0.05)
        towards = np.random.default_rng(2).standard_normal(quantizer.shape)
        quantizer.backward(torch.tensor(towards, dtype=torch.float32))
        smooth = Smooth(quantizer, towards.astype(np.float32).astype(np.float64))
        checked = 0
        for name, tensor in quantizer.parameters():
            gradient = tensor.grad.numpy().reshape(-1)
            for index in np.random.default_rng(3).choice(gradient.size, min(12, gradient.size), False):
                expected = smooth.slope(name, int(index))
                if expected is not None:
                    assert gradient[index] == pytest.approx(expected, rel=2e-3, abs=2e-5), (name, index)
                    checked += 1
        assert checked > 5

    def test_a_wrong_gradient_is_found(self) -> None:
        quantizer = moved(made(FORMATS[0]), 0.05)
        towards = np.ones(quantizer.shape)
        quantizer.backward(torch.tensor(towards, dtype=torch.float32))
        expected = Smooth(quantizer, towards).slope("scale", 0)
        assert expected is not None
        assert float(quantizer.scale.grad[0]) == pytest.approx(expected, rel=2e-3)
        assert float(quantizer.scale.grad[0]) * 1.01 != pytest.approx(expected, rel=2e-3)

    def test_where_codes_stay_the_gradient_of_a_scale_is_that_of_the_real_values(self) -> None:
        """No straight-through estimator is in the way: scales that f16 holds are moved, and values read."""
        for fmt in FORMATS:
            quantizer = made(fmt, codes=False)
            towards = torch.tensor(np.random.default_rng(4).standard_normal(quantizer.shape))
            quantizer.backward(towards)
            before = float((quantizer.values().double() * towards).sum())
            old = float(quantizer.blocks().scale[0])
            new = float(np.float16(old * 1.5))
            with torch.no_grad():
                quantizer.scale[0] = new
            after = float((quantizer.values().double() * towards).sum())
            slope = (after - before) / (new - old)
            assert float(quantizer.scale.grad[0]) == pytest.approx(slope, rel=1e-4, abs=1e-5), fmt.name

    @every_format
    def test_a_latent_weight_out_of_reach_stays(self, fmt: Format) -> None:
        quantizer = made(fmt)
        assert quantizer.latent is not None
        with torch.no_grad():
            quantizer.latent[0, 0, 0] = 1e4
        quantizer.backward(torch.ones(quantizer.shape))
        assert float(quantizer.latent.grad[0, 0, 0]) == 0.0
        assert float(quantizer.latent.grad.abs().sum()) > 0


class Smooth:
    """The sum of values times ``towards``, with every rounding replaced by the constant it adds now."""

    def __init__(self, quantizer: FakeQuantizer, towards: F64) -> None:
        self.fmt = quantizer.fmt
        self.parameters = {name: tensor.detach().double().numpy() for name, tensor in quantizer.parameters()}
        self.towards = towards.reshape(-1, self.fmt.groups, self.fmt.group)
        blocks = quantizer.blocks()
        self.levels = np.array(self.fmt.levels, np.float64)[blocks.codes].reshape(self.towards.shape)
        self.added = {
            name: np.asarray(getattr(blocks, name), np.float64) - self._clipped(name, value)
            for name, value in self.parameters.items()
            if name != "latent"
        }
        self.residue = None
        if "latent" in self.parameters:
            wanted = self._wanted(self.parameters)
            self.residue = self.levels - np.clip(wanted, self.levels_low, self.levels_high)

    @property
    def levels_low(self) -> float:
        return self.fmt.levels[0] - 0.5

    @property
    def levels_high(self) -> float:
        return self.fmt.levels[-1] + 0.5

    def slope(self, name: str, index: int) -> float | None:
        """By central differences; None where a step crosses the edge of what moves."""
        step = max(abs(float(self.parameters[name].reshape(-1)[index])), 0.01) * 1e-6
        up, down = self._moved(name, index, step), self._moved(name, index, -step)
        if not np.array_equal(self._inside(up), self._inside(down)):
            return None
        return (self._sum(up) - self._sum(down)) / (2 * step)

    def _moved(self, name: str, index: int, step: float) -> dict[str, F64]:
        found = {key: value.copy() for key, value in self.parameters.items()}
        found[name].reshape(-1)[index] += step
        return found

    def _sum(self, parameters: Mapping[str, Any]) -> float:
        scale, minimum = self._grids(parameters)
        if self.residue is None:
            levels = self.levels
        else:
            levels = np.clip(self._wanted(parameters), self.levels_low, self.levels_high) + self.residue
        weights: F64 = scale * levels - minimum
        return float((weights * self.towards).sum())

    def _inside(self, parameters: Mapping[str, Any]) -> Any:
        if self.residue is None:
            return np.ones(1)
        wanted = self._wanted(parameters)
        return (wanted >= self.levels_low) & (wanted <= self.levels_high)

    def _wanted(self, parameters: Mapping[str, Any]) -> F64:
        scale, minimum = self._grids(parameters)
        safe = np.where(scale == 0, 1.0, scale)
        wanted: F64 = np.where(scale == 0, 0.0, (parameters["latent"] + minimum) / safe)
        return wanted

    def _grids(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        found = []
        for of_blocks, of_groups in (("scale", "scales"), ("minimum", "minima")):
            if of_blocks not in parameters:
                found.append(0.0)
                continue
            value = (parameters[of_blocks] + self.added[of_blocks])[:, None, None]
            if of_groups in parameters:
                groups = self._clipped(of_groups, parameters[of_groups]) + self.added[of_groups]
                value = value * groups[..., None]
            found.append(value)
        return found[0], found[1]

    def _clipped(self, name: str, value: F64) -> F64:
        """Integers do not move further than half a step beyond their range."""
        limits = {"scales": self.fmt.scale_range, "minima": (0, self.fmt.minima_high or 0)}.get(name)
        return value if limits is None else np.clip(value, limits[0] - 0.5, limits[1] + 0.5)
