"""Where the weights lie, and how many copies of them."""

from __future__ import annotations

import pytest

from runtime.budget.weights import best_mmap, weight_size
from tests.runtime.budget_fixtures import AVX2, dense_tensors, header, tensor

NOTHING: frozenset[str] = frozenset()


def total(kind: str) -> int:
    return sum(each.nbytes for each in dense_tensors(kind=kind))


class TestCopies:
    def test_a_mapped_file_without_repacking_is_there_once(self) -> None:
        found = weight_size([header(tensors=dense_tensors(kind="Q8_0"))], 4, AVX2, mapped=True)
        assert (found.repacked, found.loaded) == (0, 0)
        assert found.mapped == found.bytes == pytest.approx(total("Q8_0"), rel=1e-3)

    def test_a_mapped_file_with_repacking_is_there_nearly_twice(self) -> None:
        found = weight_size([header(tensors=dense_tensors())], 4, AVX2, mapped=True)
        assert found.bytes > 1.9 * total("Q4_0")

    def test_a_file_that_is_read_is_there_once(self) -> None:
        found = weight_size([header(tensors=dense_tensors())], 4, AVX2, mapped=False)
        assert found.bytes == total("Q4_0")
        assert found.mapped == 0

    def test_parts_add_up(self) -> None:
        tensors = dense_tensors()
        parts = [header(tensors=tensors[:5]), header(tensors=tensors[5:])]
        assert weight_size(parts, 4, NOTHING, mapped=False).bytes == total("Q4_0")
        assert weight_size(parts, 4, NOTHING, mapped=True).bytes == pytest.approx(total("Q4_0"), rel=1e-3)

    def test_a_file_with_nothing_left_to_map_is_not_counted(self) -> None:
        lone = header(tensors=[tensor("blk.0.ffn_up.weight", "Q4_0", 1024, 4096)])
        assert weight_size([lone], 4, AVX2, mapped=True).mapped == 0

    def test_layers_embedding_and_output_are_told_apart(self) -> None:
        found = weight_size([header(tensors=dense_tensors())], 4, NOTHING, mapped=False)
        assert len(set(found.layers)) == 1
        assert found.host == 1000 * 1024 * 18 // 32
        assert found.output == found.host + 4096
        assert sum(found.layers) + found.host + found.output == total("Q4_0")

    def test_a_draft_head_is_not_loaded(self) -> None:
        with_draft = [*dense_tensors(), tensor("blk.4.nextn.eh_proj.weight", "Q4_0", 2048, 1024)]
        assert weight_size([header(tensors=with_draft)], 4, AVX2, mapped=False).bytes == total("Q4_0")


class TestTiedEmbeddings:
    def test_a_repacked_output_is_a_copy_of_the_embeddings(self) -> None:
        tied = [each for each in dense_tensors() if each.name != "output.weight"]
        assert weight_size([header(tensors=tied)], 4, AVX2, mapped=False).bytes == total("Q4_0")

    def test_an_output_that_stays_as_it_is_is_shared(self) -> None:
        tied = [each for each in dense_tensors(kind="Q8_0") if each.name != "output.weight"]
        nbytes = sum(each.nbytes for each in tied)
        assert weight_size([header(tensors=tied)], 4, AVX2, mapped=False).bytes == nbytes


class TestWhatIsRepacked:
    @pytest.mark.parametrize(
        ("kind", "features", "repacked"),
        [
            ("Q4_0", {"avx2"}, True),
            ("Q4_K", {"avx2"}, True),
            ("IQ4_NL", {"avx2"}, True),
            ("MXFP4", {"avx2"}, True),
            ("Q8_0", {"avx2"}, False),
            ("Q6_K", {"avx2"}, False),
            ("Q4_1", {"avx2"}, False),
            ("F16", {"avx2"}, False),
            ("Q2_K", {"avx2"}, False),
            ("Q2_K", {"avx2", "avx512f"}, True),
            ("Q8_0", {"neon", "dotprod"}, True),
            ("Q6_K", {"neon", "i8mm"}, True),
            ("Q4_1", {"neon", "dotprod"}, False),
            ("Q4_0", {"neon"}, False),
            ("Q4_0", {"sse4.2"}, False),
            ("Q6_K", {"avx2", "amx_int8"}, True),
        ],
    )
    def test_it_depends_on_type_and_processor(self, kind: str, features: set[str], repacked: bool) -> None:
        lone = header(tensors=[tensor("blk.0.ffn_up.weight", kind, 1024, 4096)])
        assert (weight_size([lone], 4, features, mapped=False).repacked > 0) == repacked

    @pytest.mark.parametrize(
        ("name", "shape", "repacked"),
        [
            ("blk.0.ffn_up.weight", (1024, 4095), False),
            ("blk.0.ffn_up_exps.weight", (1024, 4096, 8), True),
            ("blk.0.attn_k_b.weight", (128, 512, 16), False),
            ("token_embd.weight", (1024, 4096), False),
            ("per_layer_token_embd.weight", (1024, 4096), False),
            ("output.weight", (1024, 4096), True),
        ],
    )
    def test_it_depends_on_shape_and_use(self, name: str, shape: tuple[int, ...], repacked: bool) -> None:
        tensors = [tensor(name, "Q4_0", *shape), tensor("output.weight", "F32", 32, 1)]
        lone = header(tensors=tensors[:1] if name == "output.weight" else tensors)
        assert (weight_size([lone], 4, AVX2, mapped=False).repacked > 0) == repacked

    def test_amx_needs_a_little_more_room(self) -> None:
        lone = header(tensors=[tensor("blk.0.ffn_up.weight", "Q8_0", 1024, 4096)])
        plain = weight_size([lone], 4, AVX2, mapped=False).bytes
        assert plain < weight_size([lone], 4, {"avx2", "amx_int8"}, mapped=False).bytes < 1.2 * plain


class TestPacked:
    """Where localq's kernels run."""

    PACKS = frozenset({"Q4_0", "Q8_0"})
    FILLED_UP = 8 * 1024 * 18 // 32
    """Of the 1,000 rows of the output to whole strips."""

    def test_all_of_it_is_there_once_and_nothing_stays_mapped(self) -> None:
        tensors = [*dense_tensors(), tensor("output_norm.weight", "F32", 1024)]
        found = weight_size([header(tensors=tensors)], 4, AVX2, mapped=True, packs=self.PACKS)
        embeddings = next(each.nbytes for each in tensors if each.name == "token_embd.weight")
        assert found.mapped == embeddings  # looked up in the file
        assert found.bytes == sum(each.nbytes for each in tensors) + self.FILLED_UP

    def test_tied_embeddings_are_packed_for_both_uses(self) -> None:
        tied = [each for each in dense_tensors() if each.name != "output.weight"]
        found = weight_size([header(tensors=tied)], 4, AVX2, mapped=True, packs=self.PACKS)
        assert (found.mapped, found.loaded) == (0, sum(each.nbytes for each in tied) + self.FILLED_UP)

    def test_rows_are_filled_up_to_whole_strips(self) -> None:
        lone = header(tensors=[tensor("blk.0.ffn_up.weight", "Q8_0", 1024, 17)])
        found = weight_size([lone], 4, AVX2, mapped=True, packs=self.PACKS)
        assert found.bytes == 32 * 1024 * 34 // 32

    def test_small_numbers_are_taken_and_large_ones_stay_mapped(self) -> None:
        small, large = tensor("a.weight", "F32", 1 << 18), tensor("b.weight", "F32", 1 << 19)
        for each, mapped in ((small, 0), (large, large.nbytes)):
            lone = header(tensors=[each])
            found = weight_size([lone], 4, AVX2, mapped=True, packs=self.PACKS)
            assert (found.mapped, found.bytes) == (mapped, each.nbytes)


class TestBestMmap:
    def test_a_file_that_stays_as_it_is_is_mapped(self) -> None:
        assert best_mmap(header(tensors=dense_tensors(kind="Q8_0")), AVX2)

    def test_a_file_that_would_be_repacked_is_read(self) -> None:
        assert not best_mmap([header(tensors=dense_tensors())], AVX2)

    def test_a_small_repacked_part_does_not_matter(self) -> None:
        tensors = [
            tensor("blk.0.ffn_up.weight", "Q8_0", 1024, 40960),
            tensor("blk.0.ffn_gate.weight", "Q4_0", 1024, 1024),
        ]
        assert best_mmap(header(tensors=tensors), AVX2)

    def test_what_is_packed_or_taken_does_not_speak_against_mapping(self) -> None:
        small = [tensor(f"blk.{layer}.attn_norm.weight", "F32", 1024) for layer in range(4)]
        assert best_mmap(header(tensors=[*dense_tensors(), *small]), AVX2, {"Q4_0"})
        assert best_mmap(header(tensors=small), AVX2, {"Q4_0"})
