"""The hook inside ggml's graph: products by ggml's threads have the bits that the kernels give alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.formats.format import Format
from runtime.kernels.lt import BITS
from runtime.kernels.lt import multiply as multiply_lt
from runtime.kernels.packing import dequantize_blocks
from runtime.kernels.products import Product, input_block, multiply, pack_strips, quantize_input
from tests.quant.random_blocks import random_blocks
from tests.runtime.graph_products import GraphCase, save
from tests.runtime.lt_cases import Case
from tests.runtime.lt_cases import make_case as make_lt
from tests.runtime.product_cases import exact_product, formats, make_case

REPOSITORY = Path(__file__).resolve().parents[2]
Q8_0 = next(fmt for fmt in formats() if fmt.name == "q8_0")
Q1_0 = next(fmt for fmt in formats() if fmt.name == "q1_0")
TQ2_0 = next(fmt for fmt in formats() if fmt.name == "tq2_0")


def run(tmp_path: Path, cases: list[GraphCase], threads: int = 2) -> list[NDArray[Any]]:
    """Each case's result, flat."""
    save(tmp_path / "cases.npz", cases)
    command = [sys.executable, "-m", "tests.runtime.graph_products", "cases.npz", "results.npz", str(threads)]
    command[3:5] = [str(tmp_path / name) for name in command[3:5]]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY, check=False)
    assert ran.returncode == 0, ran.stderr
    with np.load(tmp_path / "results.npz") as results:
        return [results[f"arr_{number}"] for number in range(len(cases))]


def blocks(fmt: Format, rows: int, depth: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [rows, bytes of a row]."""
    return fmt.pack(random_blocks(fmt, rows * (depth // fmt.block), seed)).reshape(rows, -1)


def values(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, 7]).normal(0, 1, shape).astype(np.float32)


def product(fmt: Format, data: NDArray[np.uint8], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """The kernels' own result [columns, rows]."""
    return multiply(pack_strips(fmt.ggml_type, data), columns)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_format_multiplies_in_the_graph_as_it_does_alone(tmp_path: Path, threads: int) -> None:
    cases, wanted = [], []
    for number, fmt in enumerate(formats()):
        for rows, blocks_a_row, columns in ((1, 1, 1), (97, 3, 2), (640, 2, 5), (33, 1, 130)):
            depth = blocks_a_row * fmt.block
            data = blocks(fmt, rows, depth, seed=number)
            columns_in = values(columns, depth, seed=number)
            cases.append(GraphCase("mul_mat", fmt.ggml_type, (depth, rows), data, columns_in))
            wanted.append(product(fmt, data, columns_in))
    for got, right in zip(run(tmp_path, cases, threads), wanted, strict=True):
        assert got.tobytes() == right.tobytes()


@pytest.mark.parametrize("columns", [1, 5, 130])
def test_static_scales_are_those_of_the_tensor_s_name(tmp_path: Path, columns: int) -> None:
    cases, wanted = [], []
    for number, fmt in enumerate(formats()):
        depth = 768
        data, columns_in = blocks(fmt, 97, depth, seed=number), values(columns, depth, seed=number)
        count = depth // input_block(fmt.block)
        scales = np.random.default_rng(number).uniform(0.005, 0.05, count).astype(np.float16)
        given = scales.astype(np.float32)
        cases.append(
            GraphCase("mul_mat", fmt.ggml_type, (depth, 97), data, columns_in, name=fmt.name, scales=given)
        )
        inputs = quantize_input(columns_in, fmt.block, scales=given)
        wanted.append(Product(pack_strips(fmt.ggml_type, data), inputs).compute())
        assert not np.array_equal(wanted[-1], product(fmt, data, columns_in))
        cases.append(GraphCase("mul_mat", fmt.ggml_type, (depth, 97), data, columns_in, name=fmt.name))
        wanted.append(product(fmt, data, columns_in))  # once forgotten, they are gone
    for got, right in zip(run(tmp_path, cases), wanted, strict=True):
        assert got.tobytes() == right.tobytes()


def test_static_scales_serve_all_experts(tmp_path: Path) -> None:
    experts, rows, depth = 4, 33, 512
    data = blocks(Q8_0, experts * rows, depth)
    columns_in = values(7, 1, depth)
    ids = np.random.default_rng(3).permuted(np.tile(np.arange(experts, dtype=np.int32), (7, 1)), axis=1)[
        :, :2
    ]
    scales = np.linspace(0.01, 0.04, depth // 32, dtype=np.float32)
    case = GraphCase(
        "mul_mat_id", Q8_0.ggml_type, (depth, rows, experts), data, columns_in, ids.copy(), scales=scales
    )
    (got,) = run(tmp_path, [case])
    inputs = quantize_input(columns_in.reshape(7, depth), 32, scales=scales)
    each = [Product(pack_strips(Q8_0.ggml_type, part), inputs).compute() for part in np.split(data, experts)]
    wanted = np.stack([[each[expert][token] for expert in used] for token, used in enumerate(ids)])
    assert got.tobytes() == wanted.astype(np.float32).tobytes()


class TestBesideGgml:
    """Both sides multiply the same bytes: what differs is the order of float sums, and no more."""

    def distances(self, tmp_path: Path, factor: float) -> dict[str, float]:
        """The largest of a format, in tolerances, with localq's columns ``factor`` times as large."""
        cases = {fmt.name: make_case(fmt, 96, 6 * fmt.block, 5, seed=fmt.ggml_type) for fmt in formats()}
        products = [
            GraphCase("mul_mat", case.fmt.ggml_type, (columns.shape[1], 96), case.rows, columns, ours=ours)
            for case in cases.values()
            for ours, columns in ((True, case.columns * np.float32(factor)), (False, case.columns))
        ]
        results = iter(run(tmp_path, products))
        found = {}
        for name, case in cases.items():
            _, tolerance = exact_product(case)  # of either side
            apart = next(results).astype(np.float64) - next(results)
            found[name] = float((np.abs(apart).reshape(5, 96) / (2 * tolerance)).max())
        return found

    def test_products_are_ggml_s_but_for_the_order_of_sums(self, tmp_path: Path) -> None:
        assert {name: apart for name, apart in self.distances(tmp_path, 1.0).items() if apart > 1} == {}

    def test_an_input_that_is_a_thousandth_larger_is_noticed(self, tmp_path: Path) -> None:
        found = self.distances(tmp_path, 1 + 2.0**-10)
        assert {name: apart for name, apart in found.items() if apart <= 1} == {}


@pytest.mark.parametrize("columns", [1, 40])
def test_a_matrix_that_is_shared_out_in_chunks_is_whole_each_time(tmp_path: Path, columns: int) -> None:
    rows, depth = 1000, 1536
    data, columns_in = blocks(Q8_0, rows, depth), values(columns, depth)
    case = GraphCase("mul_mat", Q8_0.ggml_type, (depth, rows), data, columns_in, times=5)
    (got,) = run(tmp_path, [case])
    assert got.tobytes() == product(Q8_0, data, columns_in).tobytes()


def test_inputs_of_four_dimensions_are_multiplied_column_by_column(tmp_path: Path) -> None:
    data, columns_in = blocks(TQ2_0, 24, 512), values(2, 3, 4, 512)
    (got,) = run(tmp_path, [GraphCase("mul_mat", TQ2_0.ggml_type, (512, 24), data, columns_in)])
    assert got.tobytes() == product(TQ2_0, data, columns_in.reshape(-1, 512)).tobytes()


@pytest.mark.parametrize("fmt", formats(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(("tokens", "inputs"), [(1, 1), (1, 3), (9, 1), (70, 3)])
def test_each_token_is_multiplied_with_its_experts(
    tmp_path: Path, fmt: Format, tokens: int, inputs: int
) -> None:
    experts, used, rows, depth = 5, 3, 49, 2 * fmt.block
    data = blocks(fmt, experts * rows, depth).reshape(experts, rows, -1)
    columns = values(tokens, inputs, depth)
    rng = np.random.default_rng(tokens)
    ids = np.array([rng.permutation(experts)[:used] for _ in range(tokens)], dtype=np.int32)
    case = GraphCase("mul_mat_id", fmt.ggml_type, (depth, rows, experts), data, columns, ids, times=2)
    (got,) = run(tmp_path, [case])
    found = got.reshape(tokens, used, rows)
    for token in range(tokens):
        for place in range(used):
            right = product(fmt, data[ids[token, place]], columns[token, place % inputs][None])
            assert found[token, place].tobytes() == right.tobytes()


def test_large_experts_are_shared_out_in_chunks(tmp_path: Path) -> None:
    experts, rows, depth, tokens = 3, 1024, 1024, 6
    data = blocks(Q8_0, experts * rows, depth).reshape(experts, rows, -1)
    columns = values(tokens, 1, depth)
    ids = np.array([[2, 0], [2, 1], [0, 2], [2, 0], [1, 0], [2, 0]], dtype=np.int32)
    case = GraphCase("mul_mat_id", Q8_0.ggml_type, (depth, rows, experts), data, columns, ids, times=3)
    (got,) = run(tmp_path, [case])
    for token in range(tokens):
        for place in range(2):
            right = product(Q8_0, data[ids[token, place]], columns[token])
            assert got.reshape(tokens, 2, rows)[token, place].tobytes() == right.tobytes()


@pytest.mark.parametrize("fmt", formats(), ids=lambda fmt: fmt.name)
def test_rows_are_looked_up_and_read_back_as_the_file_has_them(tmp_path: Path, fmt: Format) -> None:
    rows, depth = 21, 2 * fmt.block
    data = blocks(fmt, rows, depth)
    ids = np.array([20, 0, 7, 7, 15], dtype=np.int32)
    looked_up, read_back = run(
        tmp_path,
        [
            GraphCase("get_rows", fmt.ggml_type, (depth, rows), data, ids=ids),
            GraphCase("get_tensor", fmt.ggml_type, (depth, rows), data),
        ],
    )
    right = dequantize_blocks(fmt.ggml_type, data.reshape(-1, fmt.block_bytes)).reshape(rows, -1)[ids]
    assert looked_up.tobytes() == right.tobytes()
    assert read_back.tobytes() == data.tobytes()


class TestRegistered:
    """Matrices in LT formats: mapped by the caller, known by name, whatever type the tensor has."""

    def case(self, made: Case, shape: tuple[int, ...], own: NDArray[np.uint8], **rest: Any) -> GraphCase:
        matrix, transform = made.matrix, made.transform
        return GraphCase(
            rest.pop("operation", "mul_mat"),
            Q1_0.ggml_type,
            shape,
            np.zeros(int(np.prod(shape)) // 128 * 18, dtype=np.uint8),
            own=own,
            own_format=(matrix.bits, matrix.state_bits),
            signs=transform.signs,
            order=transform.order,
            table=matrix.table,
            **rest,
        )

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_a_registered_matrix_is_multiplied_where_it_lies(self, tmp_path: Path, threads: int) -> None:
        made = [make_lt(bits, 6, 300, 512, columns) for bits in BITS for columns in (1, 3, 40)]
        cases = [
            self.case(each, (512, 300), each.matrix.data, input=each.columns, name=f"weights{number}")
            for number, each in enumerate(made)
        ]
        for got, each in zip(run(tmp_path, cases, threads), made, strict=True):
            assert got.tobytes() == multiply_lt(each.matrix, each.transform, each.columns).tobytes()

    def test_a_large_one_is_shared_out_in_chunks(self, tmp_path: Path) -> None:
        made = make_lt(4, 6, 2048, 2048, 2)
        (got,) = run(tmp_path, [self.case(made, (2048, 2048), made.matrix.data, input=made.columns, times=4)])
        assert got.tobytes() == multiply_lt(made.matrix, made.transform, made.columns).tobytes()

    def test_registered_experts_are_too(self, tmp_path: Path) -> None:
        experts, rows, depth = 3, 40, 256
        made = [make_lt(2, 6, rows, depth, 1, seed=expert) for expert in range(experts)]
        columns = values(4, 1, depth)
        ids = np.array([[2, 0], [1, 2], [0, 1], [2, 1]], dtype=np.int32)
        own = np.concatenate([each.matrix.data for each in made])
        case = self.case(made[0], (depth, rows, experts), own, operation="mul_mat_id", input=columns, ids=ids)
        (got,) = run(tmp_path, [case])
        for token in range(4):
            for place in range(2):
                matrix = replace(made[ids[token, place]].matrix, table=made[0].matrix.table)
                right = multiply_lt(matrix, made[0].transform, columns[token])
                assert got.reshape(4, 2, rows)[token, place].tobytes() == right.tobytes()

    def test_data_of_another_size_is_refused(self, tmp_path: Path) -> None:
        made = make_lt(2, 6, 40, 512, 1)
        case = self.case(made, (512, 40), made.matrix.data[:-64], input=made.columns)
        with pytest.raises(
            AssertionError, match=r"weights: 8256 bytes .* are no 1 matrices of 40 x 512 in LT2"
        ):
            run(tmp_path, [case])
