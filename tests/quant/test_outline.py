from __future__ import annotations

from pathlib import Path

import pytest

from quant.allocation.plan import Plan
from quant.allocation.recipe import assign
from quant.certificate.first import domains, first_certificate
from quant.certificate.keys import to_keys
from quant.files.outline import file_type, lay_out_file
from quant.files.source import open_source
from quant.request import Target
from tests.quant.source_models import write_source
from tests.quant.stand_ins import TEXTS, request

DIGESTS = ("a" * 64,)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


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
