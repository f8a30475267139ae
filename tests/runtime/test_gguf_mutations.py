"""Files that are almost right: the validator accepts or refuses them; llama.cpp survives what it accepts."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import GgufError
from runtime.gguf import open_gguf, vocabulary
from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_child import Verdict, load_in_children
from tests.hostile.gguf_fields import find_fields, mutants

FILES: dict[str, Callable[[], bytes]] = {
    "sentencepiece": g.model,
    "byte-pair": g.bpe_model,
    "projector": g.projector,
    "adapter": g.adapter,
    "imatrix": g.imatrix,
}


def accepted(candidates: Iterable[tuple[str, bytes]], folder: Path) -> dict[Path, str]:
    """The files that the validator lets through, each with what is wrong with it."""
    found: dict[Path, str] = {}
    for number, (lie, data) in enumerate(candidates):
        path = folder / f"{number}.gguf"
        path.write_bytes(data)
        try:
            open_gguf(path)
        except GgufError:
            path.unlink()
        else:
            found[path] = lie
    return found


def deaths(found: dict[Path, str], *, vocabulary_only: bool) -> list[tuple[str, Verdict]]:
    verdicts = load_in_children(list(found), vocabulary_only=vocabulary_only)
    assert len(verdicts) == len(found)
    return [(found[verdict.path], verdict) for verdict in verdicts if verdict.outcome.startswith("died")]


@pytest.mark.parametrize("kind", ["projector", "adapter", "imatrix"])
def test_a_single_lie_is_accepted_or_refused_and_nothing_else(kind: str, tmp_path: Path) -> None:
    assert accepted(mutants(FILES[kind]()), tmp_path)


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-pair"])
def test_llama_cpp_survives_every_accepted_single_lie(kind: str, tmp_path: Path) -> None:
    found = accepted([("nothing", FILES[kind]()), *mutants(FILES[kind]())], tmp_path)
    assert len(found) > 100
    assert deaths(found, vocabulary_only=False) == []


def test_llama_cpp_survives_accepted_combinations_of_lies(tmp_path: Path) -> None:
    chance = random.Random(20260907)
    found = accepted(_combinations(chance, 1_000), tmp_path)
    assert len(found) > 100
    assert deaths(found, vocabulary_only=True) == []


def _combinations(chance: random.Random, count: int) -> Iterable[tuple[str, bytes]]:
    """Vocabularies of every kind with two or three fields changed."""
    bases = [
        g.model(tokenizer__ggml__model=g.string(kind)) for kind in ("llama", "t5", "plamo2", "test", "none")
    ]
    bases += [g.bpe_model(tokenizer__ggml__pre=g.string(kind)) for kind in ("gpt-2", "llama-bpe", "qwen2")]
    bases.append(g.bpe_model(tokenizer__ggml__model=g.string("gemma4")))
    values = ("value of", "first byte of value", "first byte of tokenizer", "tokenizer")  # not the structure
    fields = {base: [field for field in find_fields(base) if field.name.startswith(values)] for base in bases}
    for _ in range(count):
        data = base = chance.choice(bases)
        lies = []
        for field in chance.sample(fields[base], chance.choice((2, 2, 3))):
            lie = chance.choice(list(field.lies(data))) if field.width > 1 else chance.randrange(256)
            data = field.flip(data, lie)
            lies.append(f"{field.name} = {lie}")
        yield ", ".join(lies), data


def test_the_harness_finds_a_check_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary: without the check of repeated tokens, llama.cpp aborts at an accepted file."""
    monkeypatch.setattr(vocabulary, "_check_texts", lambda source, tokens: None)
    candidates = [(lie, data) for lie, data in mutants(g.bpe_model()) if "tokens[" in lie]
    found = deaths(accepted(candidates, tmp_path), vocabulary_only=True)
    assert found and all("tokens[" in lie for lie, _ in found)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data(), kind=st.sampled_from(sorted(FILES)))
def test_any_mixture_of_lies_cuts_and_stray_bytes_ends_in_a_header_or_a_typed_error(
    data: st.DataObject, kind: str, tmp_path: Path
) -> None:
    content = FILES[kind]()
    for field in data.draw(st.lists(st.sampled_from(find_fields(content)), min_size=1, max_size=4)):
        content = field.flip(
            content,
            data.draw(st.one_of(st.sampled_from(list(field.lies(content)) or [0]), st.integers(0, 1 << 64))),
        )
    if data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(content)))
        stray = data.draw(st.binary(max_size=40))
        content = content[:position] + stray + content[position + data.draw(st.integers(0, 40)) :]
    path = tmp_path / "mixture.gguf"
    path.write_bytes(content)
    try:
        header = open_gguf(path)
    except GgufError as error:
        assert error.rule and error.reason
    else:
        assert header.file_size == len(content)


class _FailingReads:
    """``os.pread`` that fails at its ``number``-th call."""

    def __init__(self, number: int, fault: Callable[[bytes], bytes]) -> None:
        self.left = number
        self.fault = fault
        self.pread = os.pread

    def __call__(self, fd: int, nbytes: int, position: int) -> bytes:
        self.left -= 1
        content = self.pread(fd, nbytes, position)
        return self.fault(content) if self.left == 0 else content


def _input_output_error(content: bytes) -> bytes:
    raise OSError(5, "Input/output error")


def _out_of_memory(content: bytes) -> bytes:
    raise MemoryError


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (_input_output_error, "unreadable"),
        (lambda content: b"", "shrunk"),
        (_out_of_memory, "MemoryError"),
        (lambda content: content[: len(content) // 2], "accepted"),
        (lambda content: content[:1], "accepted"),
    ],
    ids=["io-error", "end-of-file", "no-memory", "half", "one-byte"],
)
def test_a_fault_at_any_read_is_a_typed_error_or_read_over(
    fault: Callable[[bytes], bytes], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [f"{token:050}" for token in range(100_000)]
    types = [1] * len(tokens)
    path = tmp_path / "model.gguf"
    path.write_bytes(
        g.build(
            g.bpe_keys(
                tokenizer__ggml__tokens=g.strings(tokens), tokenizer__ggml__token_type=g.numbers(g.I32, types)
            ),
            [g.Tensor("token_embd.weight", (32, 1))],
        )
    )
    outcomes = []
    for number in range(1, 100):
        reads = _FailingReads(number, fault)
        monkeypatch.setattr(os, "pread", reads)
        try:
            open_gguf(path)
            outcomes.append("accepted")
        except GgufError as error:
            outcomes.append(error.rule)
        except MemoryError:
            outcomes.append("MemoryError")
        if reads.left > 0:
            break
    *faulty, last = outcomes
    assert len(faulty) > 3
    assert set(faulty) == {expected} and last == "accepted"
