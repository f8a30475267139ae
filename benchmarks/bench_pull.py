"""How fast files come from a Hub on this machine: with the hash, without it, and by huggingface_hub itself.

    python -m benchmarks.bench_pull [--mib 512] [--rounds 5] [--folder FOLDER]

The server is a process of its own that sends out of memory; every round starts all ways in turn, each in a
process of its own, and times them from the first request to the last byte on the disk (fsync included, where
the way has one). Prints medians and ratios as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = ("hashed", "unhashed", "huggingface_hub")
WEIGHTS = "model-Q4_K_M.gguf"


def serve(mib: int) -> None:
    """Serves one file of ``mib`` MiB, after a line with the endpoint, until stdin ends."""
    from tests.hub.server import FakeHub

    block = hashlib.shake_256(b"localq").digest(1 << 20)
    data = b"".join(block[shift:] + block[:shift] for shift in range(mib))
    with FakeHub() as hub:
        hub.add("org/model", {WEIGHTS: data})
        hub.repos["org/model"].files[0].entry()  # hashes it now
        print(hub.endpoint, flush=True)
        sys.stdin.read()


def fetch(way: str, folder: Path) -> float:
    """Seconds that one way takes to bring the file into ``folder``."""
    if way == "huggingface_hub":
        import huggingface_hub

        began = time.perf_counter()
        huggingface_hub.hf_hub_download("org/model", WEIGHTS, cache_dir=folder)
        return time.perf_counter() - began
    from app.hub import download
    from app.hub.api import Hub
    from app.hub.part import open_parts
    from app.hub.reference import HubReference

    if way == "unhashed":
        _leave_out_the_hash(download)
    with Hub() as hub:
        began = time.perf_counter()
        repo = hub.repo(HubReference("org/model"))
        file = repo.files[0]
        with open_parts(folder, {file.key: file.size}, lambda here: None) as parts:
            job = download.Download(hub, repo.repo, repo.commit, file, parts[file.key])
            job.run(lambda state: None)
        return time.perf_counter() - began


def _leave_out_the_hash(download: object) -> None:
    """The same client, but nothing is read back and hashed: it only waits until every chunk is here."""

    class NoHash:
        def update(self, data: bytes) -> None:
            """Nothing."""

        def hexdigest(self) -> str:
            return ""

    from app.hub.download import Download

    Download._read = lambda self, file, chunk: None  # type: ignore[method-assign]
    Download._verified = lambda self, sha256, git: ""  # type: ignore[method-assign]
    download.hashlib = type("none", (), {"sha256": NoHash, "sha1": lambda *_, **__: NoHash()})  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, help="On the disk to write to.  [default: the temporary folder]"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fetch", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.mib)
    elif asked.fetch:
        print(fetch(asked.fetch, asked.folder))
    else:
        print(json.dumps(compare(asked.mib, asked.rounds, asked.folder), indent=1))


def compare(mib: int, rounds: int, folder: Path | None) -> dict[str, object]:
    """Seconds of each way (median), and the ratios."""
    module = [sys.executable, "-m", "benchmarks.bench_pull"]
    server = subprocess.Popen(
        [*module, "--serve", "--mib", str(mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdin is not None
    endpoint = server.stdout.readline().strip()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        for _ in range(rounds):
            for way in WAYS:
                work = Path(tempfile.mkdtemp(dir=folder))
                environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
                command = [*module, "--fetch", way, "--folder", str(work)]
                try:
                    ran = subprocess.run(
                        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
                    )
                finally:
                    shutil.rmtree(work, ignore_errors=True)
                seconds[way].append(float(ran.stdout.split()[-1]))
    finally:
        server.stdin.close()
        server.wait()
    median = {way: statistics.median(times) for way, times in seconds.items()}
    return {
        "mib": mib,
        "seconds": seconds,
        "mib_per_second": {way: mib / median[way] for way in WAYS},
        "hashed_over_unhashed": median["unhashed"] / median["hashed"],
        "hashed_over_huggingface_hub": median["huggingface_hub"] / median["hashed"],
    }


if __name__ == "__main__":
    main()
