"""``/openapi.json`` is true: what Schemathesis makes of it is answered as it says, and never with a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from openapi_spec_validator import OpenAPIV32SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from app.server.app import ENDPOINTS
from app.server.openapi import describe
from tests.app.server_process import ServerProcess, serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(describe(ENDPOINTS))))
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def tiny(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server over a model so small that thousands of answers take no time."""
    with serving(tmp_path_factory.mktemp("tiny"), str(tiny_path), "--ctx", "256", "--slots", "2") as server:
        yield server


def check(server: ServerProcess, operation: Any, count: int) -> None:
    """Ask for ``count`` cases of an operation; the worker outlives them all."""
    workers = server.worker_pids()

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def run(case: Any) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{server.port}", timeout=60)
        case.validate_response(response, checks=CHECKS)

    run()
    assert server.process.poll() is None
    if "unload" not in operation.path:
        assert server.worker_pids() == workers


def test_the_document_is_valid_openapi(tiny: ServerProcess) -> None:
    document = tiny.get("/openapi.json")
    OpenAPIV32SpecValidator(document).validate()
    assert {(each.method, each.path.replace(":path", "")) for each in ENDPOINTS} == {
        (method.upper(), path) for path, operations in document["paths"].items() for method in operations
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_every_operation_keeps_to_it(tiny: ServerProcess, operation: Any) -> None:
    check(tiny, operation, 12 if operation.method == "post" else 3)


@pytest.mark.parametrize(
    "event",
    [{"data": "{}"}, {"data": "[GONE]"}, {"data": '{"error": {"message": 1}}'}],
    ids=lambda each: each["data"],
)
def test_events_that_it_does_not_describe_are_found(event: dict[str, str]) -> None:
    """The check above could fail: none of these is an event of a chat."""
    operation = next(each for each in OPERATIONS if each.path == "/v1/chat/completions")
    text = "".join(f"{name}: {value}\n" for name, value in event.items()) + "\n"
    response = schemathesis.Response(
        status_code=200,
        headers={"content-type": ["text/event-stream"]},
        content=text.encode(),
        request=requests.Request("POST", f"http://127.0.0.1{operation.path}").prepare(),
        elapsed=0.1,
        verify=False,
    )
    with pytest.raises(FailureGroup):
        operation.Case().validate_response(response, checks=[response_schema_conformance])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_twenty_thousand_requests(tiny: ServerProcess, operation: Any) -> None:
    check(tiny, operation, 2000 if operation.method == "post" else 200)
