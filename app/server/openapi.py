"""The OpenAPI document, made of the schemas that read the requests: it says what is true."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from app.server.endpoint import JSON, Endpoint
from app.server.schemas.base import ErrorAnswer
from app.version import VERSION

REF = "#/components/schemas/{name}"


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document of some endpoints, of OpenAPI 3.2, the first with words for the events of a stream."""
    types = [ErrorAnswer]
    for endpoint in endpoints:
        types += [kind for kind in (endpoint.request, endpoint.answer, endpoint.event) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = operation(endpoint, by_type)
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "localq",
            "version": VERSION,
            "description": "OpenAI's and Anthropic's interfaces, over models on this machine.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"header": []}],
    }


def operation(endpoint: Endpoint, schema_of: dict[int, Any]) -> dict[str, Any]:
    """One operation."""
    answers: dict[str, Any] = {}
    content: dict[str, Any] = {}
    if endpoint.answer is not None:
        content[JSON] = {"schema": schema_of[id(endpoint.answer)]}
    if endpoint.event is not None:
        content["text/event-stream"] = {
            "itemSchema": event_schema([schema_of[id(endpoint.event)], schema_of[id(ErrorAnswer)]])
        }
    answers["200"] = {"description": "Done.", **({"content": content} if content else {})}
    fault = {JSON: {"schema": schema_of[id(ErrorAnswer)]}}
    for status in statuses(endpoint):
        answers[str(status)] = {"description": HTTPStatus(status).phrase, "content": fault}
    found: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": re.sub(r"[^a-z0-9]+", "_", f"{endpoint.method} {endpoint.path}".lower()).strip("_"),
        "responses": answers,
    }
    names = re.findall(r"\{(\w+)(?::\w+)?\}", endpoint.path)
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if endpoint.request is not None:
        found["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schema_of[id(endpoint.request)]}},
        }
    if endpoint.public:
        found["security"] = []
    return found


def event_schema(data: Sequence[Any]) -> dict[str, Any]:
    """One server-sent event, whose data is JSON of one of these schemas, or the mark of the end."""
    json_data = {"contentMediaType": JSON, "contentSchema": {"anyOf": list(data)}}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {
            "event": {"type": "string"},
            "data": {"type": "string", "anyOf": [{"const": "[DONE]"}, json_data]},
        },
    }


def statuses(endpoint: Endpoint) -> Iterable[int]:
    """Statuses that an operation answers errors with."""
    if endpoint.public:
        return (400, 403)
    found = {*endpoint.errors}
    if endpoint.method == "POST":
        found.add(415)  # the guard wants a content type that no form can send, with a body or without
    if endpoint.request is None:
        found.discard(413)
    else:
        found.add(408)
    return sorted(found)
