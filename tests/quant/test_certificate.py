from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from quant.allocation.running import Running, read_running
from quant.certificate.certify import has_figures_for
from quant.certificate.document import (
    Certificate,
    Figures,
    Making,
    SourceFacts,
    TensorFacts,
    TextFacts,
    TextFigures,
    data_digest,
    from_json,
    to_json,
)
from quant.certificate.keys import read_certificate, to_keys
from quant.files.layout import Key, TensorEntry, inherited_pairs, lay_out
from quant.files.writer import PartFile
from runtime.errors import GgufError
from runtime.gguf import GgufHeader, open_gguf
from runtime.gguf.values import ValueType
from tests.quant.source_models import write_source

FIGURES = Figures(
    tokens=4080,
    chunks=16,
    perplexity=17.8,
    perplexity_stderr=2.7,
    original_perplexity=16.9,
    original_perplexity_stderr=2.5,
    perplexity_ratio=1.05,
    perplexity_ratio_stderr=0.008,
    kl_mean=0.0689,
    kl_stderr=0.0055,
    kl_median=0.04,
    kl_p99=0.55,
    kl_max=1.7,
    top1_agreement=0.85,
    top1_stderr=0.009,
)


def certificate(header: GgufHeader, **changes: object) -> Certificate:
    tensors = tuple(
        TensorFacts(
            name=tensor.name,
            source_type="F16",
            type=tensor.type.name,
            elements=tensor.elements,
            nbytes=tensor.nbytes,
            encoder="copied" if index % 3 == 0 else "feedback",
            error=None if index % 3 == 0 else 0.001 * index,
        )
        for index, tensor in enumerate(header.tensors)
    )
    known = Certificate(
        tool="0.1.0",
        source=SourceFacts(
            name="f16.gguf", sha256=("a" * 64, "b" * 64), types="F16", already_quantized=False
        ),
        target="q4_k_m",
        overrides=("ffn_down=q6_k",),
        seed=7,
        options="{}",
        calibration=(TextFacts(name="prose", sha256="c" * 64, tokens=4096),),
        statistics_sha256="d" * 64,
        evaluation=(
            TextFacts(name="prose", sha256="e" * 64, tokens=2040),
            TextFacts(name="code", sha256="f" * 64, tokens=2040),
        ),
        figures=FIGURES,
        kl_kind="full",
        by_text=(TextFigures(text="prose", figures=FIGURES), TextFigures(text="code", figures=FIGURES)),
        tensors=tensors,
        data_sha256="9" * 64,
    )
    return msgspec.structs.replace(known, **changes)


@pytest.fixture
def plain(tmp_path: Path) -> GgufHeader:
    return open_gguf(write_source(tmp_path / "plain.gguf"))


@pytest.fixture
def written(plain: GgufHeader, tmp_path: Path) -> Callable[[list[Key]], GgufHeader]:
    """Writes a file with the keys, and opens it."""

    def write(keys: list[Key]) -> GgufHeader:
        entries = [TensorEntry(t.name, t.type.id, t.shape, t.nbytes) for t in plain.tensors]
        with PartFile(tmp_path / "out.gguf", lay_out(inherited_pairs(plain), keys, entries, 32)):
            return open_gguf(tmp_path / "out.gguf")

    return write


Written = Callable[[list[Key]], GgufHeader]


class TestKeys:
    def test_a_certificate_is_read_back_as_it_was_written(self, plain: GgufHeader, written: Written) -> None:
        known = certificate(plain)
        assert read_certificate(written(to_keys(known))) == known

    def test_without_texts_there_are_no_figures(self, plain: GgufHeader, written: Written) -> None:
        known = certificate(
            plain, calibration=(), statistics_sha256=None, evaluation=(), figures=None, kl_kind="", by_text=()
        )
        assert read_certificate(written(to_keys(known))) == known

    def test_how_a_file_is_meant_to_be_run_stands_in_it(self, plain: GgufHeader, written: Written) -> None:
        running = Running(
            budget_bytes=300 << 20,
            context_tokens=4096,
            kv_type="q8_0",
            batch_tokens=512,
            peak_bytes=291 << 20,
            kl=0.0125,
        )
        header = written(to_keys(certificate(plain, running=running)))
        assert read_running(header) == running
        found = read_certificate(header)
        assert found is not None and found.running == running
        assert read_running(plain) is None

    @pytest.mark.parametrize("context", [0, -1, "many"])
    def test_a_damaged_word_on_how_to_run_it_is_not_taken(
        self, plain: GgufHeader, written: Written, context: int | str
    ) -> None:
        kind = ValueType.STRING if isinstance(context, str) else ValueType.I64
        keys = [
            Key("localq.running.budget_bytes", ValueType.U64, 1 << 30),
            Key("localq.running.context_tokens", kind, context),
            Key("localq.running.kv_type", ValueType.STRING, "f16"),
            Key("localq.running.batch_tokens", ValueType.U64, 512),
            Key("localq.running.peak_bytes", ValueType.U64, 1 << 29),
            Key("localq.running.kl", ValueType.F64, 0.5),
        ]
        assert read_running(written(keys)) is None

    def test_figures_that_are_not_known_yet_take_the_same_room(
        self, plain: GgufHeader, written: Written
    ) -> None:
        known = certificate(plain)
        unknown = certificate(plain, figures=None, kl_kind="", by_text=(), data_sha256="0" * 64)
        assert written(to_keys(unknown)).data_offset == written(to_keys(known)).data_offset
        assert read_certificate(written(to_keys(unknown))) == unknown

    def test_time_and_energy_are_no_keys(self, plain: GgufHeader) -> None:
        making = Making(created="2026-01-01T00:00:00+00:00", seconds=12.5, joules=100.0)
        assert to_keys(certificate(plain, making=making)) == to_keys(certificate(plain))

    def test_a_file_without_one_has_none(self, plain: GgufHeader) -> None:
        assert read_certificate(plain) is None


def replaced(keys: list[Key], name: str, key: Key | None) -> list[Key]:
    return (
        [found for found in ((key if key and old.name == name else old) for old in keys) if found]
        if key
        else [old for old in keys if old.name != name]
    )


class TestHostile:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("localq.certificate.version", Key("localq.certificate.version", ValueType.U32, 99)),
            ("localq.certificate.version", Key("localq.certificate.version", ValueType.STRING, "1")),
            ("localq.tool", None),
            ("localq.tool", Key("localq.tool", ValueType.U32, 1)),
            ("localq.data_sha256", Key("localq.data_sha256", ValueType.STRING, "../../etc/passwd")),
            ("localq.seed", Key("localq.seed", ValueType.I64, -1)),
            ("localq.seed", Key("localq.seed", ValueType.U64, (1 << 64) - 1)),
            ("localq.source.sha256", Key("localq.source.sha256", ValueType.STRING, "a" * 64)),
            ("localq.source.sha256", Key("localq.source.sha256", ValueType.STRING, ["x"], array=True)),
            ("localq.calibration.tokens", None),
            ("localq.calibration.tokens", Key("localq.calibration.tokens", ValueType.F64, [0.5], array=True)),
            ("localq.kl_mean", None),
            ("localq.kl_mean", Key("localq.kl_mean", ValueType.STRING, "tiny")),
            ("localq.kl_kind", Key("localq.kl_kind", ValueType.STRING, "perfect")),
            ("localq.evaluation.by_text.kl_mean", None),
            ("localq.tensor.error", Key("localq.tensor.error", ValueType.F64, [0.1], array=True)),
            ("localq.tensor.error", Key("localq.tensor.error", ValueType.F64, [math.inf] * 20, array=True)),
            ("localq.tensor.error", Key("localq.tensor.error", ValueType.F64, [-1.0] * 20, array=True)),
            ("localq.tensor.encoder", Key("localq.tensor.encoder", ValueType.U8, [9] * 20, array=True)),
            (
                "localq.tensor.source_type",
                Key("localq.tensor.source_type", ValueType.U8, [99] * 20, array=True),
            ),
        ],
    )
    def test_a_damaged_certificate_is_a_clear_error(
        self, plain: GgufHeader, written: Written, name: str, key: Key | None
    ) -> None:
        assert len(plain.tensors) == 20
        keys = to_keys(certificate(plain))
        assert any(found.name == name for found in keys)
        with pytest.raises(GgufError, match="certificate") as caught:
            read_certificate(written(replaced(keys, name, key)))
        assert caught.value.rule == "bad-certificate"

    def test_texts_that_are_no_unicode_are_an_error(
        self, plain: GgufHeader, written: Written, tmp_path: Path
    ) -> None:
        header = written(to_keys(certificate(plain)))
        path = tmp_path / "out.gguf"
        data = path.read_bytes()
        path.write_bytes(data.replace(b"ffn_down=q6_k", b"ffn_down=q6\xff\xfe", 1))
        with pytest.raises(GgufError, match="certificate"):
            read_certificate(open_gguf(path))
        assert header.path == path


class TestJson:
    def test_it_is_read_back(self, plain: GgufHeader) -> None:
        making = Making(created="2026-01-01T00:00:00+00:00", seconds=12.5, joules=None, isa="avx2")
        known = certificate(plain, making=making)
        assert from_json(to_json(known)) == known

    def test_bits_for_each_weight_count_every_tensor(self, plain: GgufHeader) -> None:
        known = certificate(plain)
        nbytes = sum(tensor.nbytes for tensor in plain.tensors)
        assert known.nbytes == nbytes
        assert known.bits_per_weight == 8 * nbytes / sum(tensor.elements for tensor in plain.tensors)

    def test_the_digest_of_the_data_knows_the_order(self) -> None:
        assert data_digest(["a" * 64, "b" * 64]) != data_digest(["b" * 64, "a" * 64])


def test_figures_are_those_of_the_same_tensors_on_the_same_texts_only(plain: GgufHeader) -> None:
    mine = certificate(plain)
    assert has_figures_for(mine, msgspec.structs.replace(mine, figures=None, target="q8_0"))
    other_text = (*mine.evaluation[:1], TextFacts(name="code", sha256="0" * 64, tokens=2040))
    for changes in (
        {"data_sha256": "8" * 64},
        {"options": "{ }"},
        {"evaluation": other_text},
        {"evaluation": mine.evaluation[:1]},
        {"evaluation": tuple(reversed(mine.evaluation))},
    ):
        assert not has_figures_for(mine, msgspec.structs.replace(mine, **changes)), changes
    assert not has_figures_for(msgspec.structs.replace(mine, figures=None), mine)


def test_no_array_is_empty(plain: GgufHeader) -> None:
    bare = certificate(
        plain, overrides=(), calibration=(), evaluation=(), figures=None, by_text=(), kl_kind=""
    )
    arrays = [key for key in to_keys(bare) if key.array]
    assert "localq.tensor.error" in [key.name for key in arrays]
    assert all(key.value for key in arrays)
