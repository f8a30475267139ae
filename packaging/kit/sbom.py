"""A bill of materials of an artefact in CycloneDX 1.6: what is in it, which version, under which licence."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

from kit.locked import Locked
from kit.project import metadata, source_date_epoch, version


@dataclass(frozen=True)
class Component:
    """A part: a Python package, or a library that came with the system that built it."""

    name: str
    version: str
    purl: str
    license: str = ""
    hashes: tuple[str, ...] = ()
    """Digests ``sha256:...`` of what may be installed as it, as the lock has them."""


def packages(distributions: Iterable[Distribution], locked: dict[str, tuple[str, ...]]) -> list[Component]:
    """Installed packages, each once, by name; ``locked`` has the hashes that the lock allows for a name."""
    found = {}
    for distribution in distributions:
        name = distribution.metadata["Name"].lower().replace("_", "-")
        found[name] = Component(
            name,
            distribution.version,
            f"pkg:pypi/{name}@{distribution.version}",
            _license(distribution),
            locked.get(name, ()),
        )
    return [found[name] for name in sorted(found)]


def of_lock(lock: Iterable[Locked]) -> list[Component]:
    """What a package asks for that carries nothing of it, as the lock names it."""
    return [
        Component(entry.name, entry.version, f"pkg:pypi/{entry.name}@{entry.version}", hashes=entry.hashes)
        for entry in lock
    ]


def _license(distribution: Distribution) -> str:
    """The licence as the package states it: its expression, its short field, or its classifiers."""
    known = cast(Message, distribution.metadata)  # the field may be missing
    if expression := known.get("License-Expression"):
        return str(expression)
    classifiers = [
        text.rpartition(" :: ")[2] for text in known.get_all("Classifier") or [] if "License" in text
    ]
    field = str(known.get("License") or "")
    return field if field and len(field) < 80 and "\n" not in field else " AND ".join(classifiers)


def this_project() -> Component:
    """localq itself."""
    return Component("localq", version(), f"pkg:generic/localq@{version()}", metadata()["license"])


def document(
    artefact: Path, components: Iterable[Component], subject: Component | None = None
) -> dict[str, Any]:
    """The bill of ``artefact``, which exists and is ``subject``, else localq. Same content, same bill."""
    subject = subject or this_project()
    parts = [_part(component) for component in components if component.name != subject.name]
    return _document(artefact, subject, parts)


def same_parts(artefact: Path, other: Path) -> dict[str, Any]:
    """The bill of ``artefact``, which is localq, with the parts that the bill ``other`` names."""
    return _document(artefact, this_project(), json.loads(other.read_text(encoding="utf-8"))["components"])


def _document(artefact: Path, subject: Component, parts: list[dict[str, Any]]) -> dict[str, Any]:
    digest = hashlib.sha256(artefact.read_bytes()).hexdigest()
    project = _part(subject) | {
        "type": "application",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": [{"name": "localq:file", "value": artefact.name}],
    }
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(source_date_epoch()))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'sha256:{digest}')}",
        "version": 1,
        "metadata": {"timestamp": when, "component": project},
        "components": parts,
        "dependencies": [
            {"ref": project["bom-ref"], "dependsOn": sorted(part["bom-ref"] for part in parts)},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }


def _part(component: Component) -> dict[str, Any]:
    part: dict[str, Any] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
    }
    if component.license:
        part["licenses"] = [{"license": {"name": component.license}}]
    if component.hashes:
        values = [digest.removeprefix("sha256:") for digest in component.hashes]
        part["properties"] = [{"name": "localq:locked-sha256", "value": value} for value in values]
    return part


def write(artefact: Path, components: Iterable[Component], subject: Component | None = None) -> Path:
    """The bill beside ``artefact``."""
    return save(artefact, document(artefact, components, subject))


def save(artefact: Path, bill: dict[str, Any]) -> Path:
    """``bill`` in its place beside ``artefact``."""
    path = artefact.with_name(f"{artefact.name}.cdx.json")
    path.write_text(f"{json.dumps(bill, indent=1, sort_keys=True)}\n", encoding="utf-8")
    return path
