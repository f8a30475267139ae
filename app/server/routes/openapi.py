"""``GET /openapi.json``"""

from __future__ import annotations

from functools import cache

from app.server.endpoint import JSON, Call, Endpoint, Plain, Reply, encoder


async def document(call: Call) -> Reply:
    """The interface, as a document."""
    return Plain(_encoded(), JSON)


@cache
def _encoded() -> bytes:
    from app.server.app import ENDPOINTS as ALL
    from app.server.openapi import describe

    return encoder.encode(describe(ALL))


ENDPOINTS = (Endpoint("GET", "/openapi.json", "Describe this interface.", document),)
