"""Pulls in a process of its own: ``pull_child HOME PATIENCE``, then a reference on each line of stdin.

For each it answers with a line of JSON: the model's name and its blob, or the type of the error; and the peak
of this process's memory so far.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from app.errors import AppError
from app.hub.session import Patience
from app.store import Store
from tests.hub.pulling import IMPATIENT, pull


def main() -> None:
    store, patience = Store(sys.argv[1]), {"patient": Patience(), "impatient": IMPATIENT}[sys.argv[2]]
    print(json.dumps({"ready": True, "peak_bytes": peak_bytes()}), flush=True)
    for line in sys.stdin:
        try:
            manifest = pull(store, line.strip(), patience=patience)
            answer = {"name": manifest.name, "digest": manifest.files[0].digest}
        except AppError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps({**answer, "peak_bytes": peak_bytes()}), flush=True)


def peak_bytes() -> int:
    """Of this program alone: what getrusage tells begins with the memory of the process that started it."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    main()
