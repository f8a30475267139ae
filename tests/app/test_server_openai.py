"""The official client against the endpoint, on the demo model."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.app.server_process import ServerProcess

pytestmark = pytest.mark.model

ASK: list[Any] = [
    {"role": "system", "content": ""},
    {"role": "user", "content": "What is the capital of France?"},
]


class TestChat:
    def test_an_answer_has_its_usage_and_reason(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(model="demo", messages=ASK, temperature=0, max_tokens=8)
        choice = answer.choices[0]
        assert choice.message.content and "Paris" in choice.message.content
        assert choice.message.role == "assistant"
        assert choice.finish_reason in ("stop", "length")
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.usage.completion_tokens <= 8
        assert answer.model == "demo"

    def test_the_same_prompt_again_comes_from_the_cache(self, client: OpenAI) -> None:
        for _ in range(2):
            answer = client.chat.completions.create(model="demo", messages=ASK, max_tokens=1)
        assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens == answer.usage.prompt_tokens - 1

    def test_a_stream_says_what_the_whole_answer_says(self, client: OpenAI) -> None:
        whole = client.chat.completions.create(model="demo", messages=ASK, temperature=0, max_tokens=24)
        stream = client.chat.completions.create(
            model="demo",
            messages=ASK,
            temperature=0,
            max_completion_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None and whole.usage is not None
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
        assert len({chunk.id for chunk in chunks}) == 1

    def test_a_seed_repeats_an_answer_and_several_answers_differ(self, client: OpenAI) -> None:
        def ask() -> list[str | None]:
            answer = client.chat.completions.create(
                model="demo",
                messages=[{"role": "user", "content": "Tell me a story."}],
                temperature=1.5,
                top_p=1,
                seed=7,
                n=3,
                max_tokens=24,
            )
            return [choice.message.content for choice in answer.choices]

        first = ask()
        assert first == ask()
        assert len(set(first)) == 3

    def test_a_stop_string_ends_an_answer(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(
            model="demo", messages=ASK, temperature=0, max_tokens=40, stop=["Par"]
        )
        content = answer.choices[0].message.content or ""
        assert "Par" not in content and content
        assert answer.choices[0].finish_reason == "stop"

    def test_log_probabilities_belong_to_the_tokens_of_the_answer(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(
            model="demo", messages=ASK, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None and logprobs.content is not None
        assert len(logprobs.content) == 6
        assert "".join(entry.token for entry in logprobs.content) == answer.choices[0].message.content
        for entry in logprobs.content:
            assert len(entry.top_logprobs) == 3
            assert entry.top_logprobs[0].token == entry.token  # greedy
            assert entry.logprob <= 0 and entry.bytes == list(entry.token.encode())

    def test_a_forbidden_token_does_not_come(self, client: OpenAI, endpoint: ServerProcess) -> None:
        (paris,) = endpoint.post("/tokenize", {"content": " Paris"})["tokens"]
        answer = client.chat.completions.create(
            model="demo", messages=ASK, temperature=0, max_tokens=24, logit_bias={str(paris): -100}
        )
        assert " Paris" not in (answer.choices[0].message.content or "")

    def test_extras_of_llama_cpp_are_taken(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(
            model="demo",
            messages=ASK,
            max_tokens=4,
            extra_body={"top_k": 1, "min_p": 0.1, "repeat_penalty": 1.1, "grammar": 'root ::= "yes" | "no"'},
        )
        assert answer.choices[0].message.content in ("yes", "no")

    def test_the_asynchronous_client_streams_beside_others(self, endpoint: ServerProcess) -> None:
        async def all_of_them() -> list[str]:
            async with AsyncOpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0) as client:

                async def one() -> str:
                    stream = await client.chat.completions.create(
                        model="demo", messages=ASK, temperature=0, max_tokens=16, stream=True
                    )
                    return "".join(
                        [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
                    )

                return await asyncio.gather(*(one() for _ in range(6)))

        answers = asyncio.run(all_of_them())
        assert len(answers) == 6 and all("Paris" in answer for answer in answers)


class TestCompletions:
    def test_a_text_is_continued(self, client: OpenAI) -> None:
        answer = client.completions.create(
            model="demo",
            prompt="The capital of France is",
            temperature=0,
            max_tokens=3,
            echo=True,
            logprobs=2,
        )
        assert answer.choices[0].text.startswith("The capital of France is Paris")
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None and logprobs.tokens is not None and logprobs.text_offset is not None
        assert len(logprobs.tokens) == 3
        assert logprobs.text_offset[0] == len("The capital of France is")

    def test_several_prompts_have_answers_in_their_order(self, client: OpenAI) -> None:
        answer = client.completions.create(
            model="demo", prompt=["One, two,", "A, B,"], temperature=0, max_tokens=4, n=2
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert "three" in answer.choices[0].text and "C" in answer.choices[2].text

    def test_a_stream_is_the_whole_text(self, client: OpenAI) -> None:
        whole = client.completions.create(model="demo", prompt="One, two,", temperature=0, max_tokens=12)
        stream = client.completions.create(
            model="demo", prompt="One, two,", temperature=0, max_tokens=12, stream=True
        )
        assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text

    def test_tokens_are_a_prompt_too(self, client: OpenAI, endpoint: ServerProcess) -> None:
        tokens = endpoint.post("/tokenize", {"content": "One, two,", "add_special": True})["tokens"]
        answers = [
            client.completions.create(model="demo", prompt=prompt, temperature=0, max_tokens=5)
            .choices[0]
            .text
            for prompt in (tokens, "One, two,")
        ]
        assert answers[0] == answers[1]


class TestEmbeddings:
    def test_like_texts_are_near_and_vectors_have_length_one(self, client: OpenAI) -> None:
        texts = [
            "The cat sat on the mat.",
            "A cat was sitting on a rug.",
            "Revenue grew by 5 % last quarter.",
        ]
        answer = client.embeddings.create(model="demo", input=texts, encoding_format="float")
        cat, other_cat, money = (entry.embedding for entry in answer.data)
        assert all(math.isclose(math.hypot(*entry.embedding), 1, rel_tol=1e-5) for entry in answer.data)
        assert dot(cat, other_cat) > dot(cat, money) + 0.1
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 20

    def test_base64_and_numbers_are_the_same_vector(self, client: OpenAI, endpoint: ServerProcess) -> None:
        numbers = client.embeddings.create(model="demo", input="hello", encoding_format="float")
        raw = endpoint.post("/v1/embeddings", {"input": "hello", "encoding_format": "base64"})
        data = base64.b64decode(raw["data"][0]["embedding"])
        assert list(struct.unpack(f"<{len(data) // 4}f", data)) == pytest.approx(numbers.data[0].embedding)
        default = client.embeddings.create(model="demo", input="hello")  # the client asks for base64
        assert default.data[0].embedding == pytest.approx(numbers.data[0].embedding)

    def test_fewer_dimensions_are_normalised_again(self, client: OpenAI) -> None:
        answer = client.embeddings.create(model="demo", input="hello", dimensions=64, encoding_format="float")
        assert len(answer.data[0].embedding) == 64
        assert math.isclose(math.hypot(*answer.data[0].embedding), 1, rel_tol=1e-5)

    def test_a_batch_gives_what_single_texts_give(self, client: OpenAI) -> None:
        texts = [f"text number {number} " * (number % 7 + 1) for number in range(20)]
        batch = client.embeddings.create(model="demo", input=texts, encoding_format="float")
        single = client.embeddings.create(model="demo", input=texts[13], encoding_format="float")
        assert [entry.index for entry in batch.data] == list(range(20))
        assert batch.data[13].embedding == pytest.approx(single.data[0].embedding, abs=1e-4)

    def test_more_dimensions_than_there_are_is_an_error(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="576"):
            client.embeddings.create(model="demo", input="hello", dimensions=577)


class TestBestOf:
    def test_the_likeliest_of_several_is_given(self, client: OpenAI) -> None:
        asked: dict[str, Any] = {"model": "demo", "prompt": "A word:", "seed": 5, "max_tokens": 6}
        several = client.completions.create(n=6, logprobs=0, **asked)

        def mean(choice: Any) -> float:
            values = choice.logprobs.token_logprobs
            return float(sum(values) / len(values))

        likeliest = sorted(several.choices, key=mean, reverse=True)
        best = client.completions.create(n=2, best_of=6, **asked)
        assert [choice.text for choice in best.choices] == [choice.text for choice in likeliest[:2]]
        assert [choice.index for choice in best.choices] == [0, 1]
        assert best.choices[0].logprobs is None
        assert best.usage is not None and several.usage is not None
        assert best.usage.completion_tokens == several.usage.completion_tokens

    def test_what_cannot_be_is_refused(self, client: OpenAI) -> None:
        for wrong in ({"n": 3, "best_of": 2}, {"best_of": 2, "stream": True}):
            with pytest.raises(openai.BadRequestError) as raised:
                client.completions.create(model="demo", prompt="x", **wrong)  # type: ignore[call-overload]
            assert raised.value.param == "best_of"


def test_the_usage_of_several_prompts_counts_all_of_them(client: OpenAI) -> None:
    counts = []
    for prompt in (
        "One, two,",
        "A much longer text, with more words in it",
        ["One, two,", "A much longer text, with more words in it"],
    ):
        answer = client.completions.create(model="demo", prompt=prompt, max_tokens=2)
        assert answer.usage is not None
        counts.append(answer.usage.prompt_tokens)
    assert counts[2] == counts[0] + counts[1]


class TestErrors:
    def test_an_unknown_model_is_not_found(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt-9", messages=ASK)
        assert caught.value.code == "model_not_found" and caught.value.param == "model"

    def test_a_prompt_that_is_too_long_says_both_numbers(self, client: OpenAI) -> None:
        long = "word " * 3000
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(
                    model="demo", messages=[{"role": "user", "content": long}], stream=stream
                )
            assert caught.value.code == "context_length_exceeded"
            assert "1024" in caught.value.message and "30" in caught.value.message

    def test_truncation_is_done_when_asked_for_and_reported(self, endpoint: ServerProcess) -> None:
        turns = [{"role": "system", "content": "Be brief."}]
        for number in range(20):
            turns += [
                {"role": "user", "content": f"question {number} " + "word " * 60},
                {"role": "assistant", "content": "answer"},
            ]
        turns.append({"role": "user", "content": "And now?"})
        body = {"messages": turns, "max_tokens": 8, "truncation": "auto"}
        answer = endpoint.post("/v1/chat/completions", body)
        assert 0 < answer["truncated_messages"] < 40
        assert answer["usage"]["prompt_tokens"] < 1024
        status, _, _ = endpoint.request("POST", "/v1/chat/completions", body | {"truncation": "disabled"})
        assert status == 400

    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"temperature": -1}, "temperature"),
            ({"n": 1000}, "n"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user"}]}, "messages[0].content"),
            ({"max_tokens": "many"}, "max_tokens"),
            ({"logit_bias": {"x": 1}}, "logit_bias"),
            ({"logit_bias": {"99999999": 1}}, "logit_bias"),
            ({"top_logprobs": 3}, "top_logprobs"),
            ({"chat_template": "{{ 7 * 7 }}"}, "chat_template"),
            ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
            ({"modalities": ["audio"]}, "modalities"),
        ],
    )
    def test_a_wrong_field_is_named(self, endpoint: ServerProcess, change: Any, param: str) -> None:
        status, _, body = endpoint.request("POST", "/v1/chat/completions", {"messages": ASK, **change})
        error = json.loads(body)["error"]
        assert status == 400 and error["type"] == "invalid_request_error"
        assert error["param"] == param, error

    def test_an_image_is_refused_and_not_left_out(self, client: OpenAI) -> None:
        image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        with pytest.raises(openai.BadRequestError, match="text only"):
            client.chat.completions.create(model="demo", messages=[{"role": "user", "content": [image]}])


def test_models_are_listed_and_shown(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "demo"
    shown = client.models.retrieve("demo").model_dump()
    assert shown["context_length"] == 1024 and shown["loaded"] and "chat" in shown["capabilities"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
