"""The damaged sources are damaged as they say: by readers that are not the quantizer's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from quant.errors import SourceDamaged
from quant.files.source import open_source
from runtime.errors import GgufError
from runtime.gguf import open_gguf
from tests.hostile.sources import MATRICES, NUMBERS, DamagedSource, damaged_sources, write_source


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[DamagedSource]:
    return damaged_sources(write_source(tmp_path_factory.mktemp("sources") / "good.gguf"))


def matrices(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and weights of every matrix, by the gguf package."""
    for tensor in gguf.GGUFReader(path).tensors:
        with np.errstate(invalid="ignore"):
            yield tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).ravel()


def test_the_good_source_is_accepted_and_its_weights_are_numbers(cases: list[DamagedSource]) -> None:
    names = dict(matrices(cases[0].good))
    assert set(MATRICES) < set(names)
    assert all(np.isfinite(values).all() and values.any() for values in names.values())
    with open_source(cases[0].good) as source:
        for tensor in source.tensors:
            assert np.isfinite(source.rows(tensor, 0, tensor.rows)).all()


def test_there_is_a_case_for_every_type_place_and_value(cases: list[DamagedSource]) -> None:
    names = {case.name for case in cases}
    assert len(names) == len(cases)
    for form in (*map(str.lower, NUMBERS), "f32-vector"):
        for where in ("first", "middle", "last"):
            for what in ("nan", "inf", "minus-inf"):
                assert any(name.startswith(f"{form}-{what}-{where}") for name in names)


def test_what_the_header_shows_is_refused_with_its_tensor(cases: list[DamagedSource], tmp_path: Path) -> None:
    checked = 0
    for case in cases:
        if case.rule is not None:
            with pytest.raises(GgufError) as caught:
                open_gguf(case.write(tmp_path))
            assert caught.value.rule == case.rule, case.name
            assert case.tensor in caught.value.reason, case.name
            checked += 1
    assert checked >= 20


def test_what_the_weights_show_is_in_the_named_tensor_alone_and_refused_with_it(
    cases: list[DamagedSource], tmp_path: Path
) -> None:
    checked = 0
    for case in cases:
        if case.rule is None:
            path = case.write(tmp_path)
            for name, values in matrices(path):
                bad = np.flatnonzero(~np.isfinite(values))
                if name == case.tensor:
                    assert bad.size and bad[0] == case.element, case.name
                else:
                    assert not bad.size, case.name
            with open_source(path) as source, pytest.raises(SourceDamaged) as caught:
                for tensor in source.tensors:
                    source.rows(tensor, 0, tensor.rows)
            assert caught.value.tensor == case.tensor
            assert case.tensor in str(caught.value)
            path.unlink()
            checked += 1
    assert checked >= 60
