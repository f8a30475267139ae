"""Fake quantization: a matrix that computes with the values of its packed form, and learns all the same.

A weight is ``scale * level - minimum``, and the level is the one nearest to the latent weight. Its derivative
is 0 almost everywhere, so a straight-through estimator stands in (Bengio et al. 2013): towards the latent
weight rounding counts as the identity within the reach of the levels, and as a constant outside; scales and
minima learn as the steps of LSQ and the offsets of LSQ+ do (Esser et al. 2020, Bhalgat et al. 2020). Scales
and minima round to f16, and integers within a block to integers, straight through too.

Every operation is the one of :func:`quant.formats.dequantize.values`, in its order, so the values are those
of the packed blocks to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from quant.formats.format import F32, U8, Blocks, Format

Tensor: TypeAlias = Any
"""torch.Tensor: torch is an extra, and has no types here."""

REACH: Final = 0.5
"""A latent weight further outside of the levels than this, in steps, is not moved by its gradient."""
MARGIN: Final = 0.1
"""In steps: so far from the edge of its code's cell a latent weight begins."""
LARGEST: Final = 65504.0


@dataclass(frozen=True)
class FakeQuantizer:
    """``n`` blocks of one matrix in training. All tensors are float32 on one device.

    With ``latent`` None the codes stay, and only scales and minima learn. Parameters are those of
    :class:`quant.formats.format.Blocks`, not rounded yet; what the format lacks is None.
    """

    fmt: Format
    shape: tuple[int, int]
    """[rows, columns] of the matrix."""
    levels: Tensor
    """[levels]: values of the format's levels, ascending."""
    latent: Tensor | None
    """[n, groups, group]"""
    codes: Tensor | None
    """[n, groups, group]: levels, where there is no latent."""
    scale: Tensor
    """[n]"""
    minimum: Tensor | None = None
    """[n]"""
    scales: Tensor | None = None
    """[n, groups]"""
    minima: Tensor | None = None
    """[n, groups]"""

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """What learns, by name."""
        for name in ("latent", "scale", "minimum", "scales", "minima"):
            if (value := getattr(self, name)) is not None:
                yield name, value

    def unit(self, name: str) -> float:
        """What a learning rate of 1 moves the parameter ``name`` by: a step of the grid for latent weights,
        and for all others their own mean size."""
        if name == "latent":
            return float(self._grids()[0].abs().mean()) or 1.0
        return float(getattr(self, name).detach().abs().mean()) or 1.0

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def values(self) -> Tensor:
        """[rows, columns]: what the packed blocks stand for."""
        scale, minimum = self._grids()
        weights = scale[..., None] * self._levels(scale, minimum)[0]
        if minimum is not None:
            weights = weights - minimum[..., None]
        return weights.reshape(self.shape)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def backward(self, gradient: Tensor) -> None:
        """Puts into the parameters' ``grad`` what follows from ``gradient`` [rows, columns] of the values."""
        scale, minimum = self._grids()
        levels, wanted, inside = self._levels(scale, minimum)
        gradient = gradient.reshape(levels.shape).to(torch.float32)
        if wanted is None or inside is None:
            towards_scale = (gradient * levels).sum(dim=-1)
            towards_minimum = gradient.sum(dim=-1).neg_() if minimum is not None else None
        else:
            within = gradient * inside
            towards_scale = (gradient * levels).sum(dim=-1) - (within * wanted).sum(dim=-1)
            outside = (gradient - within).sum(dim=-1) if minimum is not None else None
            towards_minimum = None if outside is None else -outside
            assert self.latent is not None
            self.latent.grad = within
        _spread(self.scale, self.scales, self.fmt.scale_range, towards_scale)
        if self.minimum is not None:
            high = self.fmt.minima_high
            _spread(self.minimum, self.minima, None if high is None else (0, high), towards_minimum)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def blocks(self) -> Blocks:
        """What is packed, on the CPU."""
        scale, minimum = self._grids()
        levels = self._levels(scale, minimum)[0]
        codes = torch.searchsorted(self.levels, levels.contiguous()).to(torch.uint8)
        stored_scales = _integers(self.scales, self.fmt.scale_range)
        stored_minima = _integers(self.minima, (0, self.fmt.minima_high or 0))
        return Blocks(
            codes=codes.reshape(-1, self.fmt.block).cpu().numpy(),
            scale=half(self.scale).cpu().numpy(),
            minimum=None if self.minimum is None else half(self.minimum).cpu().numpy(),
            scales=None if stored_scales is None else stored_scales.cpu().numpy().astype(np.int8),
            minima=None if stored_minima is None else stored_minima.cpu().numpy().astype(np.uint8),
        )

    def packed(self) -> U8:
        """[rows, bytes of a row]"""
        return self.fmt.pack(self.blocks()).reshape(self.shape[0], -1)

    def _grids(self) -> tuple[Tensor, Tensor | None]:
        """Scales and minima [n, groups] as the packed form has them."""
        scale = _effective(self.scale, self.scales, self.fmt.scale_range)
        if self.minimum is None:
            return scale, None
        high = self.fmt.minima_high
        return scale, _effective(self.minimum, self.minima, None if high is None else (0, high))

    def _levels(self, scale: Tensor, minimum: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Of each weight its level, and with latent weights the level that would be exact, and whether that
        is within reach."""
        if self.latent is None:
            assert self.codes is not None
            return self.codes, None, None
        latent = self.latent.detach()
        wanted = latent if minimum is None else latent + minimum[..., None]
        divisor = scale[..., None]
        wanted = torch.where(divisor != 0, wanted / torch.where(divisor != 0, divisor, 1.0), 0.0)
        low, high = self.levels[0], self.levels[-1]
        if self.fmt.uniform:
            levels = wanted.clamp(low, high).round_().add_(0.0)  # no -0, which no code stands for
        else:
            middles = (self.levels[1:] + self.levels[:-1]) / 2
            levels = self.levels[torch.searchsorted(middles, wanted.contiguous())]
        return levels, wanted, (wanted >= low - REACH) & (wanted <= high + REACH)


def fake_quantizer(
    fmt: Format, blocks: Blocks, shape: tuple[int, int], original: F32 | None = None, device: str = "cpu"
) -> FakeQuantizer:
    """Begins at ``blocks``, all those of a matrix of ``shape`` [rows, columns].

    With ``original`` [rows, columns] codes learn: each latent weight begins as near to the original weight as
    its code allows, so the values at the beginning are those of the blocks.
    """
    levels = np.array(fmt.levels, np.float32)
    codes = torch.tensor(levels[blocks.codes], device=device).reshape(-1, fmt.groups, fmt.group)
    found = FakeQuantizer(
        fmt=fmt,
        shape=shape,
        levels=torch.tensor(levels, device=device),
        latent=None,
        codes=codes,
        scale=parameter(blocks.scale, device),
        minimum=None if blocks.minimum is None else parameter(blocks.minimum, device),
        scales=None if blocks.scales is None else parameter(blocks.scales, device),
        minima=None if blocks.minima is None else parameter(blocks.minima, device),
    )
    if original is None:
        return found
    latent = _within_cells(found, codes, torch.tensor(original, device=device).reshape(codes.shape))
    latent.requires_grad_(True)
    return replace(found, latent=latent, codes=None)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _within_cells(fixed: FakeQuantizer, codes: Tensor, original: Tensor) -> Tensor:
    """``original`` moved into the cells of the ``codes``."""
    scale, minimum = fixed._grids()
    divisor = scale[..., None]
    wanted = original if minimum is None else original + minimum[..., None]
    wanted = torch.where(divisor != 0, wanted / torch.where(divisor != 0, divisor, 1.0), 0.0)
    middles = (fixed.levels[1:] + fixed.levels[:-1]) / 2
    edges = torch.cat((fixed.levels[:1] - REACH, middles, fixed.levels[-1:] + REACH))
    place = torch.searchsorted(fixed.levels, codes)
    wanted = torch.minimum(torch.maximum(wanted, edges[place] + MARGIN), edges[place + 1] - MARGIN)
    latent = wanted * divisor
    return latent if minimum is None else latent - minimum[..., None]


def parameter(values: np.ndarray[Any, Any], device: str) -> Tensor:
    """``values`` as something that learns."""
    return torch.tensor(values.astype(np.float32), device=device, requires_grad=True)


def half(values: Tensor) -> Tensor:
    """As a file has them, in f16; what is too large is the largest."""
    return values.detach().clamp(-LARGEST, LARGEST).to(torch.float16)


def _integers(values: Tensor | None, limits: tuple[int, int] | None) -> Tensor | None:
    if values is None or limits is None:
        return None
    return values.detach().clamp(*limits).round().add_(0.0)


def _effective(of_blocks: Tensor, of_groups: Tensor | None, limits: tuple[int, int] | None) -> Tensor:
    """[n, groups]"""
    stored = half(of_blocks).to(torch.float32)[:, None]
    integers = _integers(of_groups, limits)
    return stored if integers is None else stored * integers


def _spread(
    of_blocks: Tensor, of_groups: Tensor | None, limits: tuple[int, int] | None, gradient: Tensor
) -> None:
    """From the gradient of effective values [n, groups] to those of their two factors."""
    integers = _integers(of_groups, limits)
    if integers is None or of_groups is None or limits is None:
        of_blocks.grad = gradient.sum(dim=-1)
        return
    of_blocks.grad = (gradient * integers).sum(dim=-1)
    within = (of_groups >= limits[0] - REACH) & (of_groups <= limits[1] + REACH)
    of_groups.grad = gradient * half(of_blocks).to(torch.float32)[:, None] * within
