from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from runtime.engine.config import EngineConfig
from runtime.engine.messages import ModelInfo, Prompt, Request, SamplingParams
from runtime.engine.validation import RANGES, check_config, check_request, check_stop
from runtime.errors import InvalidRequest

INFO = ModelInfo(
    description="m",
    architecture="llama",
    parameters=1,
    size_bytes=1,
    trained_context_tokens=64,
    context_tokens=64,
    slots=1,
    threads=1,
    vocabulary_size=100,
    chat_template=None,
    bos_text="",
    eos_text="",
    control_texts=(),
    load_seconds=0,
)


def request(**fields: Any) -> Request:
    given: dict[str, Any] = {"id": 1, "prompt": Prompt("x")} | fields
    return Request(**given)


def sampling(name: str, value: Any) -> SamplingParams:
    given: dict[str, Any] = {name: value}
    return SamplingParams(**given)


def test_the_defaults_are_in_range() -> None:
    check_request(request(), INFO)
    check_request(request(prompt=(0, 99), logprobs=0, max_tokens=1, stop=("a",)), INFO)


def test_every_number_of_the_sampling_parameters_has_a_range() -> None:
    numbers = {f.name for f in msgspec.structs.fields(SamplingParams) if f.type in (int, float)}
    assert numbers == set(RANGES)


@pytest.mark.parametrize("name", RANGES)
def test_a_sampling_parameter_out_of_its_range_is_named_with_its_value(name: str) -> None:
    low, high = RANGES[name]
    whole = isinstance(getattr(SamplingParams(), name), int)
    for value in (low - 1, high * 2 + 1, *(() if whole else (math.nan, math.inf))):
        with pytest.raises(InvalidRequest, match=name) as caught:
            check_request(request(sampling=sampling(name, value)), INFO)
        assert caught.value.field == name
    for value in (low, high):
        check_request(request(sampling=sampling(name, value)), INFO)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -(2**63)}, "max_tokens"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 2**31}, "logprobs"),
        ({"stop": ("",)}, "stop"),
        ({"stop": ("x" * 1025,)}, "stop"),
        ({"stop": ("a",) * 65}, "stop"),
        ({"prompt": (0, 100)}, "prompt"),
        ({"prompt": (-1,)}, "prompt"),
        ({"max_tokens": 2**70}, "max_tokens"),
        ({"sampling": SamplingParams(seed=-1)}, "seed"),
        ({"sampling": SamplingParams(seed=2**32 - 1)}, "seed"),
        ({"sampling": SamplingParams(seed=2**70)}, "seed"),
        ({"sampling": SamplingParams(dry_breakers=("x",) * 17)}, "dry_breakers"),
        ({"sampling": SamplingParams(dry_breakers=("x" * 33,))}, "dry_breakers"),
        ({"max_tokens": 5.5}, "request"),
        ({"ignore_eos": "yes"}, "request"),
        ({"prompt": (1, 2.5)}, "request"),
        ({"sampling": SamplingParams(top_k=40.5)}, "request"),  # type: ignore[arg-type]
        ({"sampling": SamplingParams(logit_bias={100: 1.0})}, "logit_bias"),
        ({"sampling": SamplingParams(logit_bias={1: math.nan})}, "logit_bias"),
        ({"sampling": SamplingParams(logit_bias={1: math.inf})}, "logit_bias"),
    ],
)
def test_a_field_out_of_its_range_is_refused(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(request(**fields), INFO)
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"slots": 0}, "slots"),
        ({"context_tokens": 0}, "context_tokens"),
        ({"ubatch_tokens": -1}, "ubatch_tokens"),
        ({"slots": 9, "ubatch_tokens": 8}, "slots"),
        ({"context_tokens": 2**30, "slots": 4}, "context_tokens"),
    ],
)
def test_an_engine_that_cannot_work_is_refused(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        check_config(EngineConfig(model_paths=("x",), **fields))


def test_a_text_is_no_list_of_stops() -> None:
    with pytest.raises(InvalidRequest, match="list of texts"):
        check_stop("END")
    check_stop(["END"])


def test_a_token_may_be_forbidden() -> None:
    check_request(request(sampling=SamplingParams(logit_bias={5: -math.inf})), INFO)
