"""Product quantization: k-means under weights, and codebooks learned, encoded and decoded."""

from __future__ import annotations

import numpy as np
import pytest

from quant.codebooks.kmeans import assign, kmeans
from quant.codebooks.product import (
    FOURS_OF_256,
    PAIRS_OF_16,
    PAIRS_OF_32,
    ProductScheme,
    decode,
    encode,
    learn_codebook,
)
from quant.errors import CannotEncode
from quant.formats.format import F32

SCHEMES = {"pairs of 16": PAIRS_OF_16, "pairs of 32": PAIRS_OF_32, "fours of 256": FOURS_OF_256}
ERROR = {"pairs of 16": 0.109, "pairs of 32": 0.0573, "fours of 256": 0.0973}
"""Of k-means on a Gaussian: docs/formats.md."""


def gaussian(rows: int, columns: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


# --- k-means -----------------------------------------------------------------


def test_points_go_to_the_centre_of_least_weighted_error() -> None:
    rng = np.random.default_rng(1)
    points, weights = gaussian(300, 3), rng.random((300, 3), dtype=np.float32)
    centres = gaussian(7, 3, 2)
    costs = (weights[:, None] * (points[:, None] - centres) ** 2).sum(axis=2)
    found = assign(points, weights, centres)
    assert np.array_equal(found, costs.argmin(axis=1))
    weights[:, 0] *= 50
    assert not np.array_equal(assign(points, weights, centres), found)


def test_well_separated_clusters_are_found() -> None:
    rng = np.random.default_rng(3)
    truth = np.array([[-9, 0], [0, 9], [9, 0], [0, -9]], np.float32)
    points = (truth[rng.integers(4, size=400)] + 0.1 * rng.standard_normal((400, 2))).astype(np.float32)
    found = kmeans(points, np.ones_like(points), 4, seed=0)
    assert np.abs(np.sort(found.centres, axis=0) - np.sort(truth, axis=0)).max() < 0.1
    assert found.error < 1e-3
    assert np.array_equal(kmeans(points, np.ones_like(points), 4, seed=0).centres, found.centres)


def test_weights_draw_centres_to_the_points_that_count() -> None:
    points = np.array([[0.0], [1.0]], np.float32)
    weights = np.array([[3.0], [1.0]], np.float32)
    assert kmeans(points, weights, 1, seed=0).centres[0, 0] == pytest.approx(0.25)


def test_fewer_different_points_than_centres_are_all_hit() -> None:
    points = np.repeat(np.array([[0.0], [5.0]], np.float32), 8, axis=0)
    found = kmeans(points, np.ones_like(points), 4, seed=0)
    assert found.error == 0


def test_points_that_k_means_cannot_use_are_refused() -> None:
    points = gaussian(3, 2)
    with pytest.raises(CannotEncode, match="3 points are too few for 4 centres"):
        kmeans(points, np.ones_like(points), 4, seed=0)
    with pytest.raises(CannotEncode, match="not below 0"):
        kmeans(points, -np.ones_like(points), 2, seed=0)
    points[1, 1] = np.nan
    with pytest.raises(CannotEncode, match="must be finite"):
        kmeans(points, np.ones_like(points), 2, seed=0)


# --- codebooks ---------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
def test_gaussian_weights_have_the_error_of_k_means(name: str) -> None:
    scheme, rows = SCHEMES[name], gaussian(128, 512)
    codebook = learn_codebook(scheme, rows)
    assert codebook.shape == (scheme.points, scheme.dimensions)
    assert np.abs(codebook.astype(int)).max() == 127
    error = float(((rows - decode(encode(scheme, codebook, rows))) ** 2).mean())
    assert error < 1.05 * ERROR[name]
    assert error > 0.9 * ERROR[name]  # or the test would not notice that it judges what was learned


@pytest.mark.parametrize("name", SCHEMES)
def test_importance_moves_the_error_to_the_columns_that_count_less(name: str) -> None:
    scheme, rows = SCHEMES[name], gaussian(64, 256)
    importance = np.where(np.arange(256) % 2 == 0, 10, 0.1).astype(np.float32)

    def error(learned_with: F32 | None) -> float:
        codebook = learn_codebook(scheme, rows, learned_with)
        left = rows - decode(encode(scheme, codebook, rows, learned_with))
        return float((importance * left**2).sum())

    assert error(importance) < 0.8 * error(None)


def test_rows_of_any_size_and_of_zeros_are_encoded() -> None:
    rows = gaussian(6, 64) * np.array([1e-3, 1, 100, 0, 1, 1], np.float32)[:, None]
    codebook = learn_codebook(PAIRS_OF_16, rows)
    values = decode(encode(PAIRS_OF_16, codebook, rows))
    assert not values[3].any()
    energy = (rows**2).sum(axis=1)
    assert (((rows - values) ** 2).sum(axis=1)[energy > 0] < 0.2 * energy[energy > 0]).all()
    assert not learn_codebook(PAIRS_OF_16, np.zeros((4, 64), np.float32)).any()


def test_bits_of_a_weight_are_those_of_index_scale_and_codebook() -> None:
    assert PAIRS_OF_16.bits_per_weight(1024, 1024) == 2 + 16 / 1024 + 8 * 32 / 2**20
    assert PAIRS_OF_32.bits_per_weight(1024, 1024) == 2.5 + 16 / 1024 + 8 * 64 / 2**20
    assert FOURS_OF_256.bits_per_weight(1024, 1024) == 2 + 16 / 1024 + 8 * 1024 / 2**20


def test_schemes_and_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CannotEncode, match="2 to 256 points of 2 or 4"):
        ProductScheme(3, 16)
    with pytest.raises(CannotEncode, match="no whole vectors of 4"):
        learn_codebook(FOURS_OF_256, gaussian(64, 6))
    with pytest.raises(CannotEncode, match="importance has shape"):
        learn_codebook(PAIRS_OF_16, gaussian(64, 8), np.ones(4, np.float32))
    with pytest.raises(CannotEncode, match="too few for 256"):
        learn_codebook(FOURS_OF_256, gaussian(2, 64))
