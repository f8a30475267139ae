"""Tokens through llama.cpp are those of the tokenizer that was converted: every kind and way of cutting."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from quant.convert.config import Config
from quant.convert.tokenizers.pre_tokenizers import (
    GPT2,
    KNOWN,
    PreTokenizer,
    cuts_of,
    find_pre_tokenizer,
)
from quant.convert.tokenizers.read import read_tokenizer
from quant.errors import CannotConvert, CheckpointDamaged
from quant.files.layout import Key, lay_out
from runtime.gguf import GgufHeader, open_gguf
from runtime.gguf.values import ArrayRef, ValueType
from tests.quant import convert_tokenizers as small
from tests.quant.hard_strings import hard_strings, has_marks
from tests.quant.llama_child import results, tokenizing

Ids = list[list[int]]


def vocabulary_file(folder: Path, size: int, into: Path | None = None) -> Path:
    """A GGUF with nothing but the tokenizer of ``folder``, of ``size`` tokens, in the folder ``into``."""
    values = {"vocab_size": size, "architectures": ["LlamaForCausalLM"]}
    tokenizer = read_tokenizer(Config(folder / "config.json", values))
    counts = (
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
    )
    keys = [
        Key("general.architecture", ValueType.STRING, "llama"),
        *(Key(f"llama.{name}", ValueType.U32, 32) for name in counts),
        Key("llama.attention.layer_norm_rms_epsilon", ValueType.F32, 1e-5),
        *tokenizer.keys,
    ]
    path = (into or folder) / "vocabulary.gguf"
    path.write_bytes(lay_out((), keys, [], 32).header)
    return path


def ids(path: Path, texts: Sequence[str], **options: Any) -> Ids:
    (found,) = results([tokenizing(path, texts, **options)])
    return [list(map(int, one)) for one in found]


def differing(texts: Sequence[str], found: Ids, expected: Ids) -> list[str]:
    return [text for text, mine, theirs in zip(texts, found, expected, strict=True) if mine != theirs]


def reference(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool = False) -> Ids:
    return [found.ids for found in tokenizer.encode_batch(list(texts), add_special_tokens=special)]


def test_there_are_enough_hard_strings() -> None:
    assert len(hard_strings()) >= 2000


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_each_way_of_cutting_is_llama_cpps_of_that_name(known: PreTokenizer, tmp_path: Path) -> None:
    tokenizer = small.byte_bpe(known.cuts, ignore_merges=known.ignore_merges)
    small.save(tokenizer, tmp_path, bos_token="<|begin|>", clean_up_tokenization_spaces=known.clean_spaces)
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size())
    assert open_gguf(path).get("tokenizer.ggml.pre", str, "") == known.name
    texts = [text for text in hard_strings() if known.marks_are_letters or not has_marks(text)]
    assert len(texts) >= (2000 if known.marks_are_letters else 1200)
    assert differing(texts, ids(path, texts), reference(tokenizer, texts)) == []


def test_words_that_llama_cpp_cuts_otherwise_are_warned_of(tmp_path: Path) -> None:
    known = next(found for found in KNOWN if not found.marks_are_letters)
    tokenizer = small.byte_bpe(known.cuts, ignore_merges=known.ignore_merges)
    small.save(tokenizer, tmp_path)
    config = Config(tmp_path / "config.json", {"vocab_size": tokenizer.get_vocab_size()})
    assert any("combining marks" in warning for warning in read_tokenizer(config).warnings)
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size())
    marked = [text for text in hard_strings() if has_marks(text)]
    assert differing(marked, ids(path, marked), reference(tokenizer, marked))


@pytest.mark.parametrize("begins_with_space", [True, False], ids=["llama", "gemma"])
def test_bpe_with_bytes_to_fall_back_to_is_the_same(begins_with_space: bool, tmp_path: Path) -> None:
    tokenizer = small.spaced_bpe(begins_with_space=begins_with_space)
    small.save(tokenizer, tmp_path, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size())
    assert open_gguf(path).get("tokenizer.ggml.model", str, "") == "llama"
    texts = hard_strings()
    assert differing(texts, ids(path, texts), reference(tokenizer, texts)) == []
    assert differing(texts, ids(path, texts, special=True), reference(tokenizer, texts, special=True)) == []


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_sentencepiece_models_are_the_same(kind: str, tmp_path: Path) -> None:
    processor = small.sentencepiece_model(tmp_path / "tokenizer.model", kind)
    path = vocabulary_file(tmp_path, processor.vocab_size())
    texts = hard_strings()
    assert differing(texts, ids(path, texts), [processor.encode(text) for text in texts]) == []


def test_word_pieces_are_the_same_but_for_spacing_marks(tmp_path: Path) -> None:
    tokenizer = small.word_piece()
    small.save(tokenizer, tmp_path, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size())
    # llama.cpp strips spacing and enclosing marks (Hindi's vowels, keycaps) too, BERT accents alone.
    texts = [text for text in hard_strings() if not has_marks(text, "Mc", "Me")]
    assert len(texts) >= 1500
    assert differing(texts, ids(path, texts, special=True), reference(tokenizer, texts, special=True)) == []


class TestSpecialTokens:
    def test_what_a_tokenizer_puts_around_a_text_is_put_there(self, tmp_path: Path) -> None:
        header = self.converted(tmp_path, single="<|begin|> $A <|end|>")
        assert header.get("tokenizer.ggml.add_bos_token", bool, False) is True
        assert header.get("tokenizer.ggml.add_eos_token", bool, False) is True
        assert header.get("tokenizer.ggml.bos_token_id", int, -1) == 0
        assert header.get("tokenizer.ggml.eos_token_id", int, -1) == 1

    def test_a_configuration_goes_before_the_template(self, tmp_path: Path) -> None:
        header = self.converted(tmp_path, single="<|begin|> $A", add_bos_token=False)
        assert header.get("tokenizer.ggml.add_bos_token", bool, True) is False

    def test_the_second_token_that_ends_an_answer_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
        header = self.converted(tmp_path, single="$A")
        assert header.get("tokenizer.ggml.eos_token_id", int, -1) == 1
        assert header.get("tokenizer.ggml.eot_token_id", int, -1) == 2

    def test_special_tokens_are_found_in_prompts_and_never_in_what_a_person_types(
        self, tmp_path: Path
    ) -> None:
        self.converted(tmp_path, single="$A")
        path = tmp_path / "vocabulary.gguf"
        (typed,) = ids(path, ["<|end|>"])
        (written,) = ids(path, ["<|end|>"], markers=True)
        assert written == [1]
        assert 1 not in typed

    def test_ids_that_the_model_has_no_embedding_of_are_left_out_and_told(self, tmp_path: Path) -> None:
        tokenizer = small.save(small.byte_bpe([GPT2]), tmp_path)
        config = Config(tmp_path / "config.json", {"vocab_size": tokenizer.get_vocab_size() - 5})
        (warning,) = [found for found in read_tokenizer(config).warnings if "left out" in found]
        assert warning.startswith("5 tokens")

    def test_ids_that_no_token_has_are_filled_with_what_no_text_holds(self, tmp_path: Path) -> None:
        tokenizer = small.save(small.byte_bpe([GPT2]), tmp_path)
        size = tokenizer.get_vocab_size()
        header = open_gguf(vocabulary_file(tmp_path, size + 2))
        tokens = header.metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, ArrayRef)
        assert list(header.read_array(tokens))[-2:] == [f"[PAD{size}]".encode(), f"[PAD{size + 1}]".encode()]

    @staticmethod
    def converted(folder: Path, *, single: str, **config: Any) -> GgufHeader:
        from tokenizers.processors import TemplateProcessing

        tokenizer = small.byte_bpe([GPT2])
        tokenizer.post_processor = TemplateProcessing(
            single=single, special_tokens=[("<|begin|>", 0), ("<|end|>", 1)]
        )
        small.save(tokenizer, folder, bos_token="<|begin|>", eos_token={"content": "<|end|>"}, **config)
        return open_gguf(vocabulary_file(folder, tokenizer.get_vocab_size()))


class TestChatTemplate:
    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"tokenizer_config.json": {"chat_template": "A"}}, {"chat_template": "A"}),
            (
                {"tokenizer_config.json": {"chat_template": "A"}, "chat_template.jinja": "B"},
                {"chat_template": "B"},
            ),
            ({"chat_template.json": {"chat_template": "C"}}, {"chat_template": "C"}),
            (
                {
                    "tokenizer_config.json": {
                        "chat_template": [
                            {"name": "default", "template": "D"},
                            {"name": "tool_use", "template": "T"},
                            {"name": "../x", "template": "X"},
                        ]
                    }
                },
                {"chat_template": "D", "chat_template.tool_use": "T"},
            ),
            (
                {"chat_template.jinja": "D", "additional_chat_templates/rag.jinja": "R"},
                {"chat_template": "D", "chat_template.rag": "R"},
            ),
            ({}, {}),
        ],
        ids=["config", "file-before-config", "json", "named", "folder", "none"],
    )
    def test_it_is_found_where_repositories_have_it(
        self, files: dict[str, Any], expected: dict[str, str], tmp_path: Path
    ) -> None:
        from quant.convert.tokenizers.chat_template import chat_template_keys

        for name, contents in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            text = contents if isinstance(contents, str) else json.dumps(contents)
            (tmp_path / name).write_text(text)
        found = {key.name: key.value for key in chat_template_keys(tmp_path)}
        named = found.pop("tokenizer.chat_templates", [])
        assert {f"tokenizer.{name}": text for name, text in expected.items()} == found
        assert list(named) == sorted(name.partition(".")[2] for name in expected if "." in name)  # type: ignore[arg-type]


class TestRefused:
    def test_a_way_of_cutting_that_llama_cpp_has_not_is_shown(self, tmp_path: Path) -> None:
        small.save(small.byte_bpe([r"\p{Lu}|\s"]), tmp_path)
        with pytest.raises(CannotConvert) as caught:
            vocabulary_file(tmp_path, 900)
        assert r"\p{Lu}|\s" in str(caught.value)

    def test_a_folder_without_a_tokenizer_says_what_to_fetch(self, tmp_path: Path) -> None:
        with pytest.raises(CannotConvert, match=r"tokenizer\.json, tokenizer\.model or vocab\.txt"):
            vocabulary_file(tmp_path, 900)

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("{", "bad-json"),
            ('{"model": {"vocab": 7}}', "bad-json"),
            ('{"model": {"vocab": {"a": "b"}}}', "bad-json"),
            ('{"model": ' + "[" * 100_000, "bad-json"),
            ('{"model": {"vocab": {"a": 1}}, "added_tokens": [{"id": 1}]}', "bad-json"),
        ],
        ids=["torn", "no-vocabulary", "text-for-an-id", "deep", "token-without-text"],
    )
    def test_a_damaged_tokenizer_json_is_named(self, text: str, rule: str, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(CheckpointDamaged) as caught:
            vocabulary_file(tmp_path, 900)
        assert caught.value.rule == rule

    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            (lambda data: data[:-1], "truncated"),
            (lambda data: b"\x0b" + data, "bad-protobuf"),
            (lambda _data: b"\x0a\xff\xff\xff\xff\x0f", "truncated"),
            (lambda _data: b"\xff" * 11, "bad-protobuf"),
            (lambda _data: b"\x0a\x04\x0a\x02\xff\xfe", "not-utf8"),
            (lambda _data: b"\x08\x01", "bad-protobuf"),
        ],
        ids=[
            "cut-off",
            "unknown-kind",
            "length-past-the-end",
            "endless-number",
            "no-text",
            "number-for-a-piece",
        ],
    )
    def test_a_damaged_sentencepiece_model_is_named(
        self, change: Callable[[bytes], bytes], rule: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "tokenizer.model"
        piece = b"\x0a\x05\x0a\x03abc"
        path.write_bytes(change(piece * 20))
        with pytest.raises(CheckpointDamaged) as caught:
            vocabulary_file(tmp_path, 900)
        assert caught.value.rule == rule


class TestFinding:
    def test_cuts_that_are_written_in_another_way_are_known(self) -> None:
        split = {"type": "Split", "behavior": "Removed", "invert": True}
        level = {"type": "ByteLevel", "use_regex": False}
        cl100k = next(known.cuts[0] for known in KNOWN if known.name == "llama-bpe")
        written = cl100k.replace(r"\r", "\r").replace(r"\n", "\n")
        assert cuts_of([split | {"pattern": {"Regex": written}}, level]) == (cl100k,)

    @pytest.mark.parametrize(
        "step",
        [
            {"type": "Punctuation"},
            {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"},
            {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "MergedWithNext"},
        ],
        ids=["unknown-step", "literal", "other-behaviour"],
    )
    def test_another_step_is_no_way_of_cutting(self, step: dict[str, Any]) -> None:
        assert cuts_of([step]) is None

    def test_between_two_that_cut_alike_the_spaces_decide(self) -> None:
        (cuts,) = {known.cuts for known in KNOWN if known.name == "qwen2"}
        for clean, name in ((True, "stablelm2"), (False, "qwen2")):
            found = find_pre_tokenizer(cuts, False, clean)
            assert found is not None
            assert found.name == name
