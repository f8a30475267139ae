"""Files whose vocabulary or texts lie (G24 to G28)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_bytes import (
    build,
    flag,
    model,
    numbers,
    string,
    strings,
    u32,
)
from tests.hostile.gguf_case import Hostile, raw


def cases() -> Iterator[Hostile]:
    yield from _vocabulary()
    yield from _texts()


def _vocabulary() -> Iterator[Hostile]:
    def tokens(*changed: str | bytes, types: int | None = None, **changes: bytes) -> bytes:
        """The vocabulary with its last tokens replaced; ``types`` is the last one's."""
        texts = [*g.SPM_TOKENS[: -len(changed)], *changed]
        kinds = [*g.SPM_TYPES[:-1], g.SPM_TYPES[-1] if types is None else types]
        return model(
            tokenizer__ggml__tokens=strings(texts),
            tokenizer__ggml__token_type=numbers(g.I32, kinds),
            **changes,
        )

    for case, text in (
        ("negative", "<0x-1>"),
        ("zz", "<0xZZ>"),
        ("empty", ""),
        ("short", "<0x"),
        ("long", "<0x000>"),
    ):
        yield Hostile(f"g24_byte_token_{case}", "bad-byte-token", partial(tokens, text, types=6))
    plamo = string("plamo2")
    yield Hostile(
        "g24_plamo2_byte_token",
        "bad-byte-token",
        lambda: tokens("<0x-1>", types=6, tokenizer__ggml__model=plamo),
    )
    bert = string("bert")
    yield Hostile(
        "g24_byte_token_of_bert", "bad-token-type", lambda: tokens("x", tokenizer__ggml__model=bert)
    )
    yield Hostile("g24_token_of_1_mib", "string-too-long", lambda: tokens("x" * (1 << 20)))
    yield Hostile("g24_token_of_5_kib", "string-too-long", lambda: tokens("x" * 5_000))
    yield Hostile("g24_token_with_nul", "bad-token", lambda: tokens("x\0y"))
    yield Hostile("g24_token_not_utf8", "bad-token", lambda: tokens(b"\xff"))
    yield Hostile("g24_token_cut_in_a_sequence", "bad-token", lambda: tokens(b"\xc3", b"\xa9"))
    yield Hostile("g24_duplicate_token", "duplicate-token", lambda: tokens("a"))
    yield Hostile("g24_duplicate_of_an_empty_token", "duplicate-token", lambda: tokens("[EMPTY_262]", ""))
    ten_million = strings([], count=10_000_000)
    yield Hostile(
        "g24_10_million_tokens",
        "array-too-long",
        lambda: raw(g.text("tokenizer.ggml.tokens"), ten_million),
        size=81 << 20,
    )
    million = strings([], count=1_000_000)
    yield Hostile(
        "g24_1_million_tokens",
        "vocabulary-too-large",
        lambda: raw(g.text("tokenizer.ggml.tokens"), million),
        size=9 << 20,
    )
    long_tokens = strings([f"{token:04096}" for token in range(4_200)])
    yield Hostile(
        "g24_17_mib_of_tokens", "vocabulary-too-large", lambda: model(tokenizer__ggml__tokens=long_tokens)
    )
    some_long = strings([f"{token:04096}" for token in range(300)])
    yield Hostile(
        "g24_300_tokens_of_4_kib",
        "vocabulary-too-large",
        lambda: model(
            tokenizer__ggml__tokens=some_long, tokenizer__ggml__token_type=None, tokenizer__ggml__scores=None
        ),
    )
    yield Hostile("g24_no_tokens", "out-of-range", lambda: model(tokenizer__ggml__tokens=strings([])))
    yield Hostile(
        "g24_tokens_are_numbers", "wrong-type", lambda: model(tokenizer__ggml__tokens=numbers(g.I32, [1]))
    )
    rwkv = string("rwkv")
    yield Hostile("g24_rwkv_without_newline", "bad-vocabulary", lambda: model(tokenizer__ggml__model=rwkv))

    yield Hostile(
        "g23_one_token_without_eos",
        "bad-special-token",
        lambda: model(
            tokenizer__ggml__tokens=strings(["a"]),
            tokenizer__ggml__token_type=None,
            tokenizer__ggml__scores=None,
            tokenizer__ggml__eos_token_id=None,
            tokenizer__ggml__bos_token_id=u32(0),
        ),
    )
    yield Hostile(
        "g23_eos_behind_the_last_token",
        "bad-special-token",
        lambda: model(tokenizer__ggml__eos_token_id=u32(263)),
    )
    yield Hostile(
        "g23_eos_signed", "wrong-type", lambda: model(tokenizer__ggml__eos_token_id=g.value(g.I32, -1))
    )

    for case, merge in (
        ("without_space", "ab"),
        ("without_right", "a "),
        ("without_left", " b"),
        ("nul", "a \0b"),
    ):
        yield Hostile(
            f"g25_merge_{case}",
            "bad-merge",
            partial(g.bpe_model, tokenizer__ggml__merges=strings(["a b", merge, "a c"])),
        )
    yield Hostile(
        "g25_merge_of_64_kib",
        "bad-merge",
        lambda: g.bpe_model(tokenizer__ggml__merges=strings(["a " + "b" * 65_536])),
    )
    yield Hostile(
        "g25_scores_too_short",
        "array-too-short",
        lambda: model(tokenizer__ggml__scores=numbers(g.F32, [0.0])),
    )
    yield Hostile(
        "g25_score_nan",
        "bad-score",
        lambda: model(tokenizer__ggml__scores=numbers(g.F32, [float("nan")] * len(g.SPM_TOKENS))),
    )
    yield Hostile("g25_scores_are_texts", "wrong-type", lambda: model(tokenizer__ggml__scores=strings(["x"])))
    yield Hostile(
        "g25_types_too_short",
        "array-too-short",
        lambda: model(tokenizer__ggml__token_type=numbers(g.I32, [1])),
    )
    for wrong in (7, 99, -1, 1 << 16):
        yield Hostile(f"g25_token_type_{wrong}", "bad-token-type", partial(tokens, "x", types=wrong))

    for count in (1, 2, 3, 4):
        charsmap = numbers(g.U8, [0] * count)
        yield Hostile(
            f"g26_charsmap_of_{count}_bytes",
            "bad-charsmap",
            partial(model, tokenizer__ggml__precompiled_charsmap=charsmap),
        )
    lying = numbers(g.U8, [255, 255, 255, 255, 0, 0, 0, 0])
    yield Hostile(
        "g26_charsmap_longer_than_itself",
        "bad-charsmap",
        lambda: model(tokenizer__ggml__precompiled_charsmap=lying),
    )


def _texts() -> Iterator[Hostile]:
    template = g.text("tokenizer.chat_template")
    yield Hostile(
        "g27_template_of_200_mb",
        "string-too-long",
        lambda: raw(template, struct.pack("<IQ", g.STRING, 200_000_000)),
        size=200_000_100,
    )
    yield Hostile(
        "g27_template_not_utf8", "not-utf8", lambda: model(tokenizer__chat_template=string(b"{{ \xff }}"))
    )
    yield Hostile("g27_template_is_a_flag", "wrong-type", lambda: model(tokenizer__chat_template=flag(True)))
    many = {f"tokenizer.chat_template.t{number}": string("x") for number in range(17)}
    yield Hostile("g27_17_templates", "too-many-templates", lambda: build(many))
    yield Hostile("g28_name_not_utf8", "not-utf8", lambda: model(general__name=string(b"\x9b2J")))
