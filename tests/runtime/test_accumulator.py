"""Sums over rows: against float64, for any number of threads, and routed to experts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.engine.accumulator import THREADED, Accumulator, sums_bytes

F32 = NDArray[np.float32]


def some_rows(tokens: int, columns: int, seed: int = 0) -> F32:
    dice = np.random.default_rng(seed)
    return (dice.standard_normal((tokens, columns)) * dice.exponential(size=columns)).astype(np.float32)


def read(path: Path, matrices: int, columns: int, block: int) -> tuple[F32, F32]:
    values = np.fromfile(path, "<f4")
    squares, gram, _ = np.split(values, [matrices * columns, matrices * columns * (1 + block)])
    return squares.reshape(matrices, columns), gram.reshape(matrices, -1, block, block)


@pytest.mark.parametrize(("columns", "block"), [(96, 96), (512, 256), (640, 320), (33, 33)])
def test_means_are_those_of_float64(columns: int, block: int, tmp_path: Path) -> None:
    pieces = [some_rows(count, columns, count) for count in (700, 1, 513)]
    sums = Accumulator(columns, 1, block, threads=2)
    for piece in pieces:
        sums.add(piece)
    sums.write(tmp_path / "sums")
    squares, gram = read(tmp_path / "sums", 1, columns, block)
    rows = np.concatenate(pieces).astype(np.float64)
    whole = rows.T @ rows / len(rows)
    np.testing.assert_allclose(squares[0], whole.diagonal(), rtol=1e-6)
    scale = np.sqrt(np.outer(whole.diagonal(), whole.diagonal()))
    for index in range(columns // block):
        part = slice(index * block, (index + 1) * block)
        np.testing.assert_array_equal(gram[0, index], gram[0, index].T)
        assert (np.abs(gram[0, index] - whole[part, part]) / scale[part, part]).max() < 2e-6


@pytest.mark.parametrize(("columns", "sizes"), [(512, (32, 256)), (96, (32,)), (33, ())])
def test_peaks_are_those_of_each_block_and_matrix(
    columns: int, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    rows = some_rows(700, columns)
    sums = Accumulator(columns, 2, 0, threads=2)
    sums.add(rows[:300], 1)
    sums.add(rows[300:], 1)
    sums.write(tmp_path / "sums")
    assert (tmp_path / "sums").stat().st_size == sums_bytes(2, columns, 0, 0)
    values = np.fromfile(tmp_path / "sums", "<f4")[2 * columns :]
    for size in sizes:
        found, values = np.split(values, [2 * columns // size])
        blocks = np.abs(rows.astype(np.float64)).reshape(700, -1, size).max(axis=2)
        np.testing.assert_array_equal(found[: columns // size], 0)
        np.testing.assert_allclose(found[columns // size :], (blocks**2).mean(axis=0), rtol=1e-6)
    assert not values.size


@pytest.mark.parametrize(("columns", "blocks"), [(512, 16), (96, 3), (33, 0)])
def test_extremes_are_those_of_each_batch_whichever_matrix_had_them(
    columns: int, blocks: int, tmp_path: Path
) -> None:
    batches = [some_rows(count, columns, count) for count in (700, 3, 40)]
    sums = Accumulator(columns, 2, 0, threads=2)
    for rows in batches:
        sums.add(rows[1:], 0)
        sums.add(rows[:1], 1)
        sums.end_batch()
    sums.write(tmp_path / "sums")
    assert (tmp_path / "sums").stat().st_size == sums_bytes(2, columns, 0, 3)
    found = np.fromfile(tmp_path / "sums", "<f4")[sums_bytes(2, columns, 0, 0) // 4 :].reshape(3, blocks)
    for got, rows in zip(found, batches, strict=True):
        wanted = np.abs(rows[:, : 32 * blocks]).reshape(len(rows), blocks, 32).max(axis=(0, 2), initial=0)
        np.testing.assert_array_equal(got, wanted)


def test_a_view_with_gaps_is_summed_as_its_copy(tmp_path: Path) -> None:
    wide = some_rows(300, 128)
    view, copy = Accumulator(64, 1, 64, 1), Accumulator(64, 1, 64, 1)
    view.add(wide[:, 32:96])
    copy.add(wide[:, 32:96].copy())
    assert view.write(tmp_path / "view") == copy.write(tmp_path / "copy")


def test_the_bits_do_not_depend_on_threads(tmp_path: Path) -> None:
    rows = some_rows(THREADED // 512 + 100, 512)
    digests = set()
    for threads in (1, 2, 3, 5):
        sums = Accumulator(512, 1, 256, threads)
        sums.add(rows)
        digests.add(sums.write(tmp_path / str(threads)))
    assert len(digests) == 1


def test_one_changed_value_changes_the_digest(tmp_path: Path) -> None:
    rows = some_rows(100, 64)
    plain, changed = Accumulator(64, 1, 64, 1), Accumulator(64, 1, 64, 1)
    plain.add(rows)
    rows[50, 3] *= np.float32(1.01)
    changed.add(rows)
    assert plain.write(tmp_path / "plain") != changed.write(tmp_path / "changed")


def test_the_digest_is_the_files(tmp_path: Path) -> None:
    sums = Accumulator(64, 2, 64, 1)
    sums.add(some_rows(10, 64), 1)
    digest = sums.write(tmp_path / "sums")
    assert digest == hashlib.sha256((tmp_path / "sums").read_bytes()).hexdigest()


@pytest.mark.parametrize("shared", [True, False])
def test_experts_get_their_rows(shared: bool, tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    tokens, used, experts, columns = 200, 3, 6, 64
    chosen = np.stack([dice.permutation(experts - 1)[:used] for _ in range(tokens)]).astype(np.int32)
    rows = some_rows(tokens * (1 if shared else used), columns).reshape(tokens, -1, columns)
    sums = Accumulator(columns, experts, columns, 1)
    sums.add_routed(rows, chosen)
    counts = sums.tokens.tolist()
    sums.write(tmp_path / "sums")
    squares, gram = read(tmp_path / "sums", experts, columns, columns)
    for expert in range(experts):
        token, slot = np.nonzero(chosen == expert)
        mine = rows[token, 0 if shared else slot].astype(np.float64)
        assert counts[expert] == len(mine)
        wanted = mine.T @ mine / max(len(mine), 1)
        np.testing.assert_allclose(gram[expert, 0], wanted, atol=1e-5)
        np.testing.assert_allclose(squares[expert], wanted.diagonal(), rtol=1e-5)
    assert counts[-1] == 0
    assert not squares[-1].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_is_not_finite_is_noticed(value: float) -> None:
    rows = some_rows(20, 64)
    sums = Accumulator(64, 1, 0, 1)
    sums.add(rows)
    assert sums.finite
    rows[3, 5] = value
    sums.add(rows)
    assert not sums.finite


def test_second_moments_beyond_float32_are_noticed() -> None:
    sums = Accumulator(64, 1, 64, 1)
    rows = np.full((200, 64), 1e18, np.float32)
    sums.add(rows)
    assert sums.finite
    for _ in range(2):
        sums.add(rows)
    assert np.isfinite(sums.squares).all()
    assert not np.isfinite(sums.moments).all()
    assert not sums.finite
