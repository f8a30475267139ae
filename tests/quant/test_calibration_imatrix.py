"""llama.cpp's importance matrices: both forms read, one written, hostile files refused."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quant.calibration.imatrix import Imatrix, read_imatrix, write_imatrix
from quant.calibration.statistics import InputStatistics
from quant.errors import QuantError
from runtime.errors import GgufError
from runtime.gguf import open_gguf, open_model
from tests.hostile import gguf_bytes
from tests.runtime.watched_model import WatchedLlama


def some(experts: int = 1, columns: int = 64, seed: int = 0) -> InputStatistics:
    dice = np.random.default_rng(seed)
    return InputStatistics(
        dice.integers(1, 5000, experts), dice.exponential(size=(experts, columns)).astype(np.float32)
    )


def legacy(
    entries: list[tuple[bytes, int, list[float]]], rest: bytes = b"", count: int | None = None
) -> bytes:
    """The form of before: name, calls, values."""
    out = struct.pack("<i", len(entries) if count is None else count)
    for name, calls, values in entries:
        out += struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, len(values))
        out += struct.pack(f"<{len(values)}f", *values)
    return out + rest


def end(chunks: int, dataset: bytes) -> bytes:
    return struct.pack("<ii", chunks, len(dataset)) + dataset


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = WatchedLlama(layers=1, width=96, experts=4, used=2)
    return model.write(tmp_path_factory.mktemp("model") / "m.gguf")


class TestGguf:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        statistics = {"blk.0.attn_q.weight": some(), "blk.0.ffn_up_exps.weight": some(8, 96, 1)}
        write_imatrix(tmp_path / "m.gguf", statistics, datasets=["prose", "code"], chunk_size=128)
        found = read_imatrix(tmp_path / "m.gguf")
        assert (found.datasets, found.chunk_size) == (("prose", "code"), 128)
        assert found.chunk_count == -(-max(int(entry.tokens.max()) for entry in statistics.values()) // 128)
        assert found.entries.keys() == statistics.keys()
        for name, entry in statistics.items():
            np.testing.assert_array_equal(found.entries[name].tokens, entry.tokens)
            np.testing.assert_allclose(found.entries[name].mean_square, entry.mean_square, rtol=1e-6)
            assert found.entries[name].gram is None

    def test_llama_cpps_own_reader_finds_the_same(self, tmp_path: Path) -> None:
        entry = some(3, 32)
        write_imatrix(tmp_path / "m.gguf", {"blk.0.ffn_up_exps.weight": entry}, datasets=["t"])
        reader = gguf.GGUFReader(tmp_path / "m.gguf")
        assert reader.fields["general.type"].contents() == "imatrix"
        assert reader.fields["imatrix.datasets"].contents() == ["t"]
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        sums, counts = (tensors[f"blk.0.ffn_up_exps.weight.{part}"] for part in ("in_sum2", "counts"))
        assert (sums.shape.tolist(), counts.shape.tolist()) == ([32, 3], [1, 3])
        np.testing.assert_allclose(sums.data, entry.mean_square * entry.tokens[:, None], rtol=1e-6)
        np.testing.assert_array_equal(counts.data.reshape(-1), entry.tokens)

    def test_an_expert_without_tokens_has_zeros(self, tmp_path: Path) -> None:
        entry = InputStatistics(np.array([0, 7]), np.ones((2, 8), np.float32))
        write_imatrix(tmp_path / "m.gguf", {"a": entry})
        found = read_imatrix(tmp_path / "m.gguf").entries["a"]
        assert found.tokens.tolist() == [0, 7]
        np.testing.assert_array_equal(found.mean_square, np.repeat([[0], [1]], 8, axis=1))

    def test_a_name_too_long_for_ggml_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(QuantError, match="too long"):
            write_imatrix(tmp_path / "m.gguf", {"x" * 60: some()})
        assert list(tmp_path.iterdir()) == []

    def test_a_write_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").mkdir()
        with pytest.raises(OSError):
            write_imatrix(tmp_path / "m.gguf", {"a": some()})
        assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]

    def test_a_model_is_no_importance_matrix(self, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").write_bytes(gguf_bytes.model())
        with pytest.raises(GgufError, match="no importance matrix"):
            read_imatrix(tmp_path / "m.gguf")

    @pytest.mark.parametrize(
        ("sums", "counts", "reason"),
        [
            ([1, 2, float("nan"), 4], [2], "no sums of squares"),
            ([1, 2, -3, 4], [2], "no sums of squares"),
            ([1, 2, float("inf"), 4], [2], "no sums of squares"),
            ([1, 2, 3, 4], [-1], "no numbers of tokens"),
            ([1, 2, 3, 4], [1.5], "no numbers of tokens"),
            ([1, 2, 3, 4], [float("nan")], "no numbers of tokens"),
            ([1, 2, 3, 4], [1e30], "no numbers of tokens"),
            ([1, 2, 3, 4], [1, 1, 1], "4 values for 3 experts"),
        ],
    )
    def test_values_that_cannot_be_are_refused(
        self, sums: list[float], counts: list[float], reason: str, tmp_path: Path
    ) -> None:
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", "")
        writer.add_type("imatrix")
        writer.add_tensor("a.in_sum2", np.array([sums], np.float32))
        writer.add_tensor("a.counts", np.array(counts, np.float32)[:, None])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(GgufError, match=reason) as refused:
            read_imatrix(tmp_path / "m.gguf")
        assert refused.value.rule == "bad-imatrix"


class TestLegacy:
    def test_means_and_calls_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(legacy([(b"a", 4, [4, 8]), (b"b", 2, [2, 3, 4])], end(3, b"text.txt")))
        found = read_imatrix(path)
        assert (found.datasets, found.chunk_count, found.chunk_size) == (("text.txt",), 3, 0)
        np.testing.assert_array_equal(found.entries["a"].mean_square, [[1, 2]])
        np.testing.assert_array_equal(found.entries["b"].mean_square, [[1, 1.5, 2]])
        assert found.entries["b"].tokens.tolist() == [2]

    def test_files_of_before_the_name_of_the_text_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "m.dat").write_bytes(legacy([(b"a", 1, [1])]))
        assert read_imatrix(tmp_path / "m.dat").datasets == ()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"GG",
            b"hello, this is a text",
            legacy([], count=0),
            legacy([], count=-1),
            legacy([(b"a", 1, [1])], count=2),
            legacy([(b"a", 1, [1])], count=1 << 30),
            legacy([(b"a", -1, [1])]),
            legacy([(b"a", 1, [])]),
            legacy([(b"a", 1, [float("nan")])]),
            legacy([(b"a", 1, [-1])]),
            legacy([(b"a", 1, [1]), (b"a", 1, [1])]),
            legacy([(b"\xff\x00", 1, [1])]),
            legacy([(b"x" * 64, 1, [1])]),
            legacy([(b"a", 1, [1])], end(1, b"")[:6]),
            legacy([(b"a", 1, [1])], struct.pack("<ii", 1, 1 << 30)),
            struct.pack("<iii", 1, 1 << 30, 0),
            struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 1 << 30),
        ],
    )
    def test_damaged_files_are_refused(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "m.dat").write_bytes(content)
        with pytest.raises(GgufError):
            read_imatrix(tmp_path / "m.dat")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(noise=st.binary(max_size=200), at=st.integers(0, 60), cut=st.booleans())
    def test_any_bytes_are_read_or_refused(self, noise: bytes, at: int, cut: bool, tmp_path: Path) -> None:
        whole = legacy([(b"blk.0", 3, [1, 2, 3]), (b"blk.1", 3, [4, 5])], end(2, b"t"))
        data = whole[: at % len(whole)] if cut else whole[:at] + noise + whole[at + len(noise) :]
        (tmp_path / "m.dat").write_bytes(data)
        try:
            found = read_imatrix(tmp_path / "m.dat")
        except GgufError:
            return
        for entry in found.entries.values():
            assert np.isfinite(entry.mean_square).all()


class TestFitted:
    def test_entries_of_one_count_are_split_into_experts(self, mixture: Path) -> None:
        flat = some(1, 4 * 64)
        fitted = Imatrix({"blk.0.ffn_up_exps.weight": flat, "blk.7.attn_q.weight": some()}).fitted(
            open_model(mixture)
        )
        assert fitted.keys() == {"blk.0.ffn_up_exps.weight"}
        experts = fitted["blk.0.ffn_up_exps.weight"]
        np.testing.assert_array_equal(experts.mean_square.reshape(-1), flat.mean_square[0])
        assert experts.tokens.tolist() == flat.tokens.tolist() * 4

    def test_entries_of_another_model_are_refused(self, mixture: Path) -> None:
        with pytest.raises(QuantError, match="another model"):
            Imatrix({"blk.0.attn_q.weight": some(1, 65)}).fitted(open_model(mixture))
        with pytest.raises(QuantError, match="another model"):
            Imatrix({"blk.0.ffn_up_exps.weight": some(2, 64)}).fitted(open_model(mixture))


def test_llama_cpp_quantizes_with_it(tmp_path: Path) -> None:
    """Types that llama.cpp makes only with an importance matrix, and only if it has the right length."""
    model = WatchedLlama(hidden=256, width=256, layers=1, tied=False)
    path = model.write(tmp_path / "m.gguf")
    statistics = {
        tensor.name: some(1, tensor.shape[0], number)
        for number, tensor in enumerate(open_gguf(path).tensors)
        if len(tensor.shape) == 2 and tensor.name != "token_embd.weight"
    }
    write_imatrix(tmp_path / "i.gguf", statistics)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.quant.quantize_with_imatrix",
            path,
            tmp_path / "i.gguf",
            tmp_path / "q.gguf",
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kinds = {tensor.name: tensor.type.name for tensor in open_gguf(tmp_path / "q.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"].startswith("IQ2")
