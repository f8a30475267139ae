"""What the path of a repository in the Hub's cache says: ``models--ORG--NAME/snapshots/COMMIT``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from quant.convert.metadata import Provenance, model_card

_REPOSITORY: Final = re.compile(r"models--([\w.-]{1,96}?)--([\w.-]{1,96})")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
HUB: Final = "https://huggingface.co"


def snapshot_provenance(folder: Path) -> Provenance:
    """Repository and commit if ``folder`` is a snapshot of the cache, and the model card's licence."""
    licence = model_card(folder).get("license")
    parts = folder.absolute().parts[-3:]
    if len(parts) == 3 and parts[1] == "snapshots" and _COMMIT.fullmatch(parts[2]):
        found = _REPOSITORY.fullmatch(parts[0])
        if found is not None:
            repository = f"{found[1]}/{found[2]}"
            return Provenance(repository, commit=parts[2], url=f"{HUB}/{repository}", license=licence)
    return Provenance(license=licence)
