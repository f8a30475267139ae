from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize as reference_quantize

from quant.errors import SourceDamaged
from quant.files.source import Source, open_source
from runtime.errors import GgufError
from tests.app.store_kit import write_split
from tests.quant.source_models import VOCABULARY, Shape, put, write_source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


def named(source: Source, name: str) -> int:
    return [tensor.name for tensor in source.tensors].index(name)


class TestReading:
    def test_rows_are_the_values_of_the_file(self, path: Path) -> None:
        random = np.random.default_rng(0)
        embeddings = (random.standard_normal((VOCABULARY, 256)) * 0.05).astype(np.float32).astype(np.float16)
        with open_source(path) as source:
            tensor = source.tensors[0]
            assert (tensor.name, tensor.rows, tensor.columns) == ("token_embd.weight", VOCABULARY, 256)
            assert np.array_equal(source.rows(tensor, 3, 9), embeddings[3:9].astype(np.float32))
            assert source.raw(tensor, 0, VOCABULARY) == embeddings.tobytes()

    def test_any_split_of_the_rows_gives_the_same_values(self, path: Path) -> None:
        with open_source(path) as source:
            tensor = source.tensors[named(source, "blk.1.ffn_down.weight")]
            whole = source.rows(tensor, 0, tensor.rows)
            parts = [
                source.rows(tensor, row, min(row + 37, tensor.rows)) for row in range(0, tensor.rows, 37)
            ]
            assert np.array_equal(np.concatenate(parts), whole)

    def test_experts_are_rows_of_one_tensor(self, tmp_path: Path) -> None:
        path = write_source(tmp_path / "experts.gguf", Shape(experts=4))
        with open_source(path) as source:
            tensor = source.tensors[named(source, "blk.0.ffn_up_exps.weight")]
            assert (tensor.experts, tensor.rows, tensor.shape) == (4, 4 * 256, (256, 256, 4))
            assert source.rows(tensor, 1000, 1024).shape == (24, 256)

    def test_the_digest_is_that_of_the_file(self, path: Path) -> None:
        seen: list[int] = []
        with open_source(path) as source:
            assert source.sha256(seen.append) == (hashlib.sha256(path.read_bytes()).hexdigest(),)
        assert sum(seen) == path.stat().st_size

    def test_parts_of_a_split_model_are_one_source(self, tmp_path: Path) -> None:
        paths = write_split(tmp_path / "parts", 3)
        with open_source(paths[1]) as source:
            assert {tensor.part for tensor in source.tensors} == {0, 1, 2}
            assert all(source.rows(tensor, 0, 1).size for tensor in source.tensors)
            assert len(source.sha256()) == 3


class TestDamage:
    @pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "an infinity"), (-np.inf, "inf")])
    def test_a_value_that_is_no_number_is_named(self, tmp_path: Path, value: float, word: str) -> None:
        change = put("blk.1.attn_q.weight", 17, value)
        path = write_source(tmp_path / "bad.gguf", change=change)
        with open_source(path) as source:
            tensor = source.tensors[named(source, "blk.1.attn_q.weight")]
            assert source.rows(tensor, 0, 17).shape == (17, 256)
            with pytest.raises(SourceDamaged, match=f"blk.1.attn_q.weight holds .*{word}.* row 17") as caught:
                source.rows(tensor, 16, 32)
        assert caught.value.tensor == "blk.1.attn_q.weight"

    def test_a_file_cut_off_while_it_is_read_is_an_error_that_names_the_tensor(self, path: Path) -> None:
        with open_source(path) as source:
            last = source.tensors[-1]
            os.truncate(path, last.position + 4)
            with pytest.raises(SourceDamaged, match=rf"{last.name} is cut off"):
                source.rows(last, 0, 1)

    def test_a_file_that_was_cut_off_before_is_refused_by_its_header(self, path: Path) -> None:
        os.truncate(path, path.stat().st_size - 4096)
        with pytest.raises(GgufError) as caught:
            open_source(path)
        assert caught.value.rule == "truncated"

    def test_a_file_that_is_written_to_is_noticed(self, path: Path) -> None:
        with open_source(path) as source:
            with path.open("r+b") as file:
                file.seek(-64, os.SEEK_END)
                file.write(b"\1")
            os.utime(path, ns=(0, 0))
            with pytest.raises(GgufError) as caught:
                source.sha256()
        assert caught.value.rule == "changed"

    def test_a_file_replaced_before_it_is_opened_again_is_noticed(self, path: Path) -> None:
        from runtime.gguf import open_model

        model = open_model(path)
        write_source(path, seed=1)
        with pytest.raises(GgufError, match="changed"):
            Source(model)


class TestTypes:
    def test_an_original_has_no_quantized_types(self, path: Path) -> None:
        with open_source(path) as source:
            assert source.quantized_types == ()

    def test_what_an_earlier_quantization_left_is_told(self, tmp_path: Path) -> None:
        import gguf

        from tests.app.tiny_model import write_tiny_model

        plain = write_tiny_model(tmp_path / "plain.gguf")
        reader = gguf.GGUFReader(plain)
        writer = gguf.GGUFWriter(str(tmp_path / "q8.gguf"), "llama")
        for key, field in reader.fields.items():
            if key.startswith("GGUF.") or key == "general.architecture":
                continue
            kind = field.types[0]
            if kind == gguf.GGUFValueType.ARRAY:
                if field.contents():
                    writer.add_array(key, field.contents())
            else:
                writer.add_key_value(key, field.contents(), kind)
        for tensor in reader.tensors:
            if tensor.name == "blk.0.attn_q.weight":
                data = reference_quantize(np.array(tensor.data), GGMLQuantizationType.Q8_0)
                writer.add_tensor(tensor.name, data, raw_dtype=GGMLQuantizationType.Q8_0)
            else:
                writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with open_source(tmp_path / "q8.gguf") as source:
            assert source.quantized_types == ("Q8_0",)
            tensor = source.tensors[named(source, "blk.0.attn_q.weight")]
            original = np.array(next(t.data for t in reader.tensors if t.name == tensor.name))
            assert np.allclose(source.rows(tensor, 0, tensor.rows), original, atol=2e-3)
