"""The whole way with the demo model: from a path or a store to an answer of llama.cpp."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import psutil
import pytest

from tests.app.pseudo_terminal import CTRL_C, CTRL_D, PseudoTerminal

pytestmark = pytest.mark.model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "LOCALQ_HOME": str(tmp_path / "home"),
        "LOCALQ_CONFIG": os.devnull,
        "LOCALQ_THREADS": "1",
        "LOCALQ_CONTEXT": "512",
    }


def localq(environment: dict[str, str], *words: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", *words],
        input=piped,
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
        check=False,
    )


def test_an_imported_model_answers_and_goes_again(environment: dict[str, str], demo_path: Path) -> None:
    assert localq(environment, "import", str(demo_path), "--name", "demo", "--link").returncode == 0
    question = ("run", "demo", "What is the capital of France?", "--system", "", "--temp", "0")
    answer = localq(environment, *question, "--max-tokens", "30")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Paris" in answer.stdout
    document = json.loads(localq(environment, *question, "--max-tokens", "30", "--json").stdout)
    assert document["text"] + "\n" == answer.stdout
    assert document["finish_reason"] == "stop"
    assert document["usage"]["prompt_tokens"] > 10
    assert document["timings"]["decode_tokens_per_second"] > 1
    shown = json.loads(localq(environment, "show", "demo", "--json").stdout)
    assert shown["summary"]["architecture"] == "llama"
    assert shown["memory"]["fits"] is True
    assert localq(environment, "rm", "demo").returncode == 0
    assert demo_path.exists()


def test_a_model_in_parts_runs_from_its_files_and_from_the_store(
    environment: dict[str, str], demo_path: Path, tmp_path: Path
) -> None:
    """In the store the parts are blobs: nothing about their names says that they belong together."""
    split_model(demo_path, tmp_path / "parts.gguf")
    assert (
        localq(environment, "import", str(tmp_path / "parts-00001-of-00002.gguf"), "-q").stdout == "parts\n"
    )
    words = ("What is the capital of France?", "--system", "", "--temp", "0", "--max-tokens", "20")
    for model in ("parts", str(tmp_path / "parts-00002-of-00002.gguf")):
        ran = localq(environment, "run", model, *words)
        assert "Paris" in ran.stdout, ran.stderr


def split_model(source: Path, target: Path) -> None:
    """Writes the model in ``source`` again, in two files named after ``target``."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama", split_max_tensors=len(reader.tensors) // 2 + 1)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_piped_text_and_raw_completion(environment: dict[str, str], demo_path: Path) -> None:
    words = ("run", str(demo_path), "--raw", "--temp", "0", "--max-tokens", "8", "--json")
    document = json.loads(localq(environment, *words, piped="The capital of France is").stdout)
    assert document["usage"]["output_tokens"] == 8
    assert document["finish_reason"] == "length"
    assert document["text"].startswith(" ")


def test_a_prompt_that_does_not_fit_is_an_error_with_both_numbers(
    environment: dict[str, str], demo_path: Path
) -> None:
    ran = localq(environment, "run", str(demo_path), "--json", piped="word " * 2000)
    assert ran.returncode == 3
    error = json.loads(ran.stderr)["error"]
    assert error["type"] == "PromptTooLong"
    assert error["details"]["prompt_tokens"] > 2000
    assert error["details"]["context_tokens"] == 512


def test_bench_measures_speed_and_memory(environment: dict[str, str], demo_path: Path) -> None:
    words = ("bench", str(demo_path), "--prompt-tokens", "64", "--output-tokens", "16", "--repetitions", "2")
    report = json.loads(localq(environment, *words, "--json").stdout)
    assert report["decode_tokens_per_second"] > 1
    assert report["prefill_tokens_per_second"] > 1
    assert report["threads"] == 1
    assert 0.9 < report["predicted_peak_bytes"] / report["peak_memory_bytes"] < 2
    assert 0 < report["decode_gb_per_second"] < 2 * report["read_bandwidth_gb_per_second"]
    assert report["weight_bytes_per_token"] < demo_path.stat().st_size


def test_a_chat_survives_the_death_of_its_worker_and_an_interrupt(
    environment: dict[str, str], demo_path: Path
) -> None:
    command = [sys.executable, "-m", "app.cli.main", "run", str(demo_path), "--temp", "0", "--system", ""]
    with PseudoTerminal(command, environment) as chat:
        chat.expect(">>> ", 60)
        chat.send(b"What is the capital of France?\r")
        chat.expect("Paris", 60)
        chat.expect(">>> ", 60)
        chat.send(b"Write a very long story about a river.\r")
        chat.expect("river", 60)  # echoed
        chat.expect("\x1b[K", 60)
        time.sleep(0.5)
        chat.send(CTRL_C)
        chat.expect("(stopped)", 60)
        chat.expect(">>> ", 60)
        worker = worker_of(chat.process.pid)
        worker.send_signal(signal.SIGKILL)
        time.sleep(0.5)
        chat.send(b"/clear\r")
        chat.send(b"What is the capital of Italy?\r")
        chat.expect("Rome", 60)
        chat.expect(">>> ", 60)
        assert worker_of(chat.process.pid).pid != worker.pid
        chat.send(CTRL_D)
        assert chat.wait(60) == 0
    assert not psutil.pid_exists(worker.pid)


def test_ctrl_c_while_the_model_loads_leaves_no_process(environment: dict[str, str], demo_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli.main", "run", str(demo_path), "Count to a thousand."]
    with PseudoTerminal(command, environment) as terminal:
        terminal.expect("loading", 60)
        worker = worker_of(terminal.process.pid)
        terminal.send(CTRL_C)
        assert terminal.wait(60) == 130
        assert not re.search(b"Traceback", terminal.seen)
    deadline = time.monotonic() + 5
    while worker.is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.is_running()


def worker_of(pid: int) -> psutil.Process:
    """The engine's worker among the children of ``localq``."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children():
            if "runtime.engine.worker" in child.cmdline():
                return child
        time.sleep(0.02)
    pytest.fail("localq has no worker")
