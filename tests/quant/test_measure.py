"""What tensors may become, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from quant.allocation.measure import Measured, TensorChoices, measure
from quant.allocation.sensitivity import MEASURED_NATS, relative, sensitivities
from quant.allocation.solve import Beside, Option, worth_having
from quant.allocation.words import Words
from quant.calibration.statistics import InputStatistics
from quant.encoders.rows import EncoderMaker
from quant.encoders.words import WordCoders
from quant.files.source import open_source
from quant.formats.lt import LT2, LT_FORMATS
from quant.formats.registry import BY_NAME
from tests.quant.source_models import Shape, write_source
from tests.quant.stand_ins import made_up

QUERY = "blk.0.attn_q.weight"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


def measured(
    path: Path, name: str, statistics: InputStatistics | None, *, feedback: bool = False, jobs: int = 1
) -> TensorChoices:
    with open_source(path) as source:
        tensor = next(found for found in source.tensors if found.name == name)
        maker = EncoderMaker(feedback=feedback, threads=1)
        found = measure(source, [tensor], {name: 0.5}, lambda _: statistics, maker, jobs=jobs)
    return found.tensors[0]


class TestMeasuring:
    def test_errors_fall_with_bytes_along_the_options_worth_having(self, path: Path) -> None:
        options = measured(path, QUERY, made_up(1, 256, seed=0)).options()
        assert options[0] == Option("keep", 256 * 256 * 2, 0.0)
        assert {"q2_k", "q3_k", "q4_k", "q6_k", "q8_0"} <= {option.format for option in options}
        useful = worth_having(options)
        assert len(useful) >= 6
        assert useful[-1].format == "keep"

    def test_only_formats_that_fit_are_options(self, tmp_path: Path) -> None:
        path = write_source(tmp_path / "odd.gguf", Shape(hidden=192, width=320, layers=1))
        assert set(measured(path, QUERY, None).errors) == {
            *("keep", "q2_0", "q4_0", "iq4_nl", "q4_1", "q5_0", "q5_1", "q8_0")
        }

    def test_errors_are_those_of_the_encoder_that_is_given(self, path: Path) -> None:
        statistics = made_up(1, 256, seed=0)
        nearest, fed_back = (measured(path, QUERY, statistics, feedback=on).errors for on in (False, True))
        low = [name for name in nearest if name != "keep" and BY_NAME[name].bits_per_weight < 6]
        assert all(fed_back[name] < nearest[name] for name in low)
        assert fed_back["q8_0"] == nearest["q8_0"]

    def test_threads_change_no_bit(self, path: Path) -> None:
        statistics = made_up(1, 256, seed=0)
        assert measured(path, QUERY, statistics, feedback=True, jobs=1) == measured(
            path, QUERY, statistics, feedback=True, jobs=3
        )

    def test_the_document_reads_as_it_was_written(self, path: Path) -> None:
        document = Measured(tensors=(measured(path, QUERY, None),))
        assert msgspec.json.decode(msgspec.json.encode(document), type=Measured) == document

    def test_costs_are_errors_times_sensitivity(self, path: Path) -> None:
        found = measured(path, QUERY, None)
        assert {option.format: option.cost for option in found.options()} == {
            name: 0.5 * error for name, error in found.errors.items()
        }


class TestWords:
    @staticmethod
    def errors(path: Path, seed: int = 0, jobs: int = 1) -> TensorChoices:
        statistics = made_up(1, 256, seed=seed)
        near, fed_back = (EncoderMaker(feedback=on, threads=1) for on in (False, True))
        words = Words({QUERY: "x"}, WordCoders(0, 1), near, fed_back)
        with open_source(path) as source:
            tensor = next(found for found in source.tensors if found.name == QUERY)
            given = (source, [tensor], {QUERY: 0.5}, lambda _: statistics, near)
            return measure(*given, words=words, jobs=jobs).tensors[0]

    def test_they_are_options_with_their_input_and_table_beside_them(self, path: Path) -> None:
        found = self.errors(path)
        options = {option.format: option for option in found.options()}
        assert options["lt2"].nbytes == 4 * LT2.strip_bytes(256)
        assert options["lt2"].beside == (Beside("input x", 64 + 512), Beside("table of lt2", 64))
        assert options["q2_k"].beside == ()
        assert found.errors["lt1"] > found.errors["lt2"] > found.errors["lt3"] > found.errors["lt4"] > 0

    def test_they_lose_less_than_formats_of_ggml_of_more_bits(self, path: Path) -> None:
        errors = self.errors(path).errors
        assert errors["lt2"] < errors["q2_0"]
        assert errors["lt3"] < errors["q3_k"]
        assert errors["lt4"] < errors["iq4_nl"]

    def test_threads_change_no_bit_of_them(self, path: Path) -> None:
        assert self.errors(path, jobs=1) == self.errors(path, jobs=3)

    def test_without_them_there_are_none(self, path: Path) -> None:
        assert not measured(path, QUERY, made_up(1, 256, seed=0)).errors.keys() & LT_FORMATS.keys()


class TestExperts:
    def test_an_expert_counts_by_the_tokens_that_were_routed_to_it(self, tmp_path: Path) -> None:
        path = write_source(tmp_path / "experts.gguf", Shape(experts=2))
        name = "blk.0.ffn_up_exps.weight"
        both = made_up(2, 256, seed=0)

        def routed(first: int, second: int) -> float:
            tokens = np.array([first, second], np.int64)
            return measured(path, name, replace(both, tokens=tokens)).errors["q2_k"]

        evenly, mostly_first, mostly_second = routed(100, 100), routed(10_000, 1), routed(1, 10_000)
        assert mostly_first != mostly_second
        assert min(mostly_first, mostly_second) < evenly < max(mostly_first, mostly_second)


class TestSensitivities:
    def test_the_output_counts_for_every_layer(self) -> None:
        assert relative("blk.0.attn_q.weight", 2, tied=True) == 1.0
        assert relative("blk.1.ffn_down.weight", 2, tied=True) == 3.0
        assert relative("token_embd.weight", 2, tied=True) == 40.0

    def test_embeddings_count_less_beside_an_output_of_its_own(self) -> None:
        assert relative("token_embd.weight", 2, tied=False) == 8.0
        assert relative("output.weight", 2, tied=False) == 40.0

    def test_they_shrink_with_the_size_of_the_model(self, tmp_path: Path) -> None:
        sizes = []
        for layers in (1, 8):
            with open_source(write_source(tmp_path / f"{layers}.gguf", Shape(layers=layers))) as source:
                sizes.append(sensitivities(source.tensors))
        assert sizes[0].keys() < sizes[1].keys()
        assert sizes[0][QUERY] >= sizes[1][QUERY] > MEASURED_NATS / 10
