from __future__ import annotations

from pathlib import Path

import pytest

from quant.allocation.plan import (
    Plan,
    cost_of,
    domains,
    file_type,
    first_certificate,
    lay_out_file,
    measure_options,
)
from quant.allocation.recipe import assign
from quant.allocation.solve import Option, worth_having
from quant.certificate.keys import to_keys
from quant.encoders.rows import EncoderMaker
from quant.files.source import open_source
from quant.request import Target
from tests.quant.source_models import Shape, write_source
from tests.quant.stand_ins import TEXTS, made_up, request

DIGESTS = ("a" * 64,)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


class TestOptions:
    def test_errors_fall_with_bytes_along_the_options_worth_having(self, path: Path) -> None:
        with open_source(path) as source:
            tensor = next(found for found in source.tensors if found.name == "blk.0.attn_q.weight")
            options = measure_options(
                tensor, source, made_up(1, 256, seed=0), EncoderMaker(feedback=False, threads=1)
            )
        assert options[0] == Option("keep", tensor.nbytes, 0.0)
        names = {option.format for option in options}
        assert {"q2_k", "q3_k", "q4_k", "q6_k", "q8_0"} <= names
        hull = worth_having(options)
        assert len(hull) >= 6
        assert hull[-1].format == "keep"

    def test_only_formats_that_fit_are_options(self, tmp_path: Path) -> None:
        path = write_source(tmp_path / "odd.gguf", Shape(hidden=192, width=320, layers=1))
        with open_source(path) as source:
            tensor = next(found for found in source.tensors if found.name == "blk.0.attn_q.weight")
            options = measure_options(tensor, source, None, EncoderMaker(feedback=False, threads=1))
        assert {option.format for option in options} == {
            *("keep", "q2_0", "q4_0", "iq4_nl", "q4_1", "q5_0", "q5_1", "q8_0")
        }

    def test_the_output_counts_for_every_layer(self, path: Path) -> None:
        with open_source(path) as source:
            assert cost_of("blk.0.attn_q.weight", source.tensors) == 1.0
            assert cost_of("blk.1.ffn_down.weight", source.tensors) == 3.0
            assert cost_of("token_embd.weight", source.tensors) == 40.0

    def test_embeddings_count_less_beside_an_output_of_its_own(self, tmp_path: Path) -> None:
        path = write_source(tmp_path / "untied.gguf", Shape(tied=False))
        with open_source(path) as source:
            assert cost_of("token_embd.weight", source.tensors) == 8.0
            assert cost_of("output.weight", source.tensors) == 40.0


class TestHeader:
    @pytest.mark.parametrize(
        ("target", "number"), [("q4_k", 14), ("q4_k_m", 15), ("q6_k", 18), ("iq4_xs", 30), ("tq2_0", 37)]
    )
    def test_a_mixture_has_its_number(self, path: Path, target: str, number: int) -> None:
        with open_source(path) as source:
            plan = Plan(assign(source.tensors, target))
            assert file_type(source, request(path, path, target), plan) == number

    def test_a_size_has_the_number_of_its_commonest_format(self, path: Path) -> None:
        with open_source(path) as source:
            plan = Plan(assign(source.tensors, "q5_k"))
            assert file_type(source, request(path, path, 5.0), plan) == 16
            assert (
                file_type(source, request(path, path, 5.0), Plan({})) == 1
            )  # nothing encoded: F16 as it was

    def test_its_length_does_not_depend_on_the_plan(self, path: Path) -> None:
        with open_source(path) as source:
            lengths = {
                len(lay_out_file(source, request(path, path), Plan(formats), DIGESTS).header)
                for formats in ({}, assign(source.tensors, "q2_k"), assign(source.tensors, "q8_0"))
            }
        assert len(lengths) == 1

    def test_the_first_certificate_names_what_is_planned(self, path: Path) -> None:
        with open_source(path) as source:
            plan = Plan(assign(source.tensors, "q4_k"))
            certificate = first_certificate(source, request(path, path), plan, DIGESTS)
        assert [text.name for text in certificate.calibration] == ["prose", "code"]
        assert certificate.target == str(Target("q4_k"))
        assert certificate.bits_per_weight < 6
        assert len(to_keys(certificate)) > 20


def test_texts_of_a_domain_have_one_digest() -> None:
    assert [found.name for found in domains(TEXTS)] == ["prose", "code"]
    assert domains(TEXTS) == domains(TEXTS[::-1])[::-1]
    assert domains((TEXTS[0], TEXTS[0]))[0].sha256 != domains((TEXTS[0],))[0].sha256
    assert domains(()) == ()
