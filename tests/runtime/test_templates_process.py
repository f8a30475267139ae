from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from runtime.engine.templates import child as template_child
from runtime.engine.templates import process as template_process
from runtime.engine.templates import wire
from runtime.engine.templates.child import TemplateChild
from runtime.engine.templates.renderer import ChatTemplate, TemplateRenderer
from runtime.engine.templates.sandbox import Sandbox, answer, check_jinja
from runtime.errors import EngineError, TemplateError, TemplateTimeout

HELLO = [{"role": "user", "content": "Hello"}]
ECHO = ChatTemplate("{{ messages[0].content }}")
FOR_EVER = ChatTemplate("{{ 9**(9**9) }}")


@pytest.fixture
def child() -> Iterator[TemplateChild]:
    child = TemplateChild()
    yield child
    if not child.dead:
        child.close()


def request(source: str, **context: object) -> bytes:
    return json.dumps({"source": source, "context": context, "now": "2026-11-22T09:05:00"}).encode()


def frames(*bodies: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(wire.LENGTH.pack(len(body)) + body for body in bodies))


def ended(pid: int, seconds: float) -> bool:
    """Whether the process is gone, or a zombie of somebody else's, within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# -- the process from outside ------------------------------------------------------------------------------


def test_the_process_has_its_limits(child: TemplateChild) -> None:
    process = psutil.Process(child.pid)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (3, 3)
    space = process.rlimit(psutil.RLIMIT_AS)[1]
    assert process.memory_info().vms < space <= process.memory_info().vms + wire.MEMORY_BYTES
    child.ask(request("x"), 5)
    assert process.rlimit(psutil.RLIMIT_CPU)[0] <= wire.CPU_SECONDS + 2


def test_the_process_gets_no_secret_no_descriptor_and_no_module_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "jinja2.py").write_text("raise RuntimeError('taken from the working directory')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with (tmp_path / "open").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)
        child = TemplateChild()
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
        descriptors = {entry.name for entry in Path(f"/proc/{child.pid}/fd").iterdir()}
        child.close()
    assert b"hf_secret" not in environment
    assert {entry.split(b"=")[0] for entry in environment.split(b"\0") if entry} <= {
        b"PYTHONPATH",
        *(name.encode() for name in template_child.KEPT_VARIABLES),
    }
    assert descriptors == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ '\\N{BULLET}' }}", "•"),
        ("{{ {'a': 1} | pprint }}", "{'a': 1}"),
        ("{{ 'a b c' | wordwrap(3) }}", "a b\nc"),
        ("{{ '<b>&eacute;</b>' | striptags }}", "é"),
        ("{{ lipsum(n=1, html=False) | length > 10 }}", "True"),
        ("{{ [1] | random }}{{ 'https://example.org' | urlize | length > 20 }}", "1True"),
        ("{{ 'é' | urlencode }}{{ '<' | e }}{{ '%.2f' | format(1) }}", "%C3%A9&lt;1.00"),
        ("{{ 2048 | filesizeformat(true) }}{{ {'a': 1} | xmlattr }}", '2.0 KiB a="1"'),
    ],
)  # fmt: skip
def test_filters_need_no_file_that_the_process_cannot_open_any_more(
    child: TemplateChild, source: str, text: str
) -> None:
    assert child.ask(request(source), 5).decode() == text


def test_limits_that_were_there_before_are_kept() -> None:
    script = (
        "import resource\n"
        "from runtime.engine.templates.child import TemplateChild\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (2, 2))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\n"
        "child = TemplateChild()\n"
        f"assert child.ask({request('x')!r}, 5) == b'x'\n"
        "child.close()\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_a_late_reply_kills_the_process(child: TemplateChild) -> None:
    start = time.perf_counter()
    with pytest.raises(TemplateTimeout, match="more than 1 s"):
        child.ask(request("{{ 9**(9**9) }}"), 0.2)
    assert time.perf_counter() - start < 1.5
    assert child.dead
    assert not psutil.pid_exists(child.pid)


def test_a_reply_that_came_with_the_alarm_counts_and_the_process_is_replaced(
    monkeypatch: pytest.MonkeyPatch, child: TemplateChild
) -> None:
    read_frame = wire.read_frame

    def read_and_wait(stream: IO[bytes]) -> bytes | None:
        frame = read_frame(stream)
        time.sleep(0.3)
        return frame

    monkeypatch.setattr(wire, "read_frame", read_and_wait)
    monkeypatch.setattr(wire, "WALL_SECONDS", 0.2)
    assert child.ask(request("x"), 5) == b"x"
    assert child.dead
    assert not psutil.pid_exists(child.pid)


def test_a_process_that_gets_no_processor_is_not_late_until_the_clock_says_so(
    monkeypatch: pytest.MonkeyPatch, child: TemplateChild
) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    threading.Timer(0.8, os.kill, (child.pid, signal.SIGCONT)).start()
    assert child.ask(request("x"), 0.2) == b"x"
    os.kill(child.pid, signal.SIGSTOP)
    monkeypatch.setattr(wire, "WALL_SECONDS", 0.4)
    with pytest.raises(TemplateTimeout):
        child.ask(request("x"), 0.2)
    assert child.dead


def test_a_want_of_memory_is_told_from_a_want_of_time(child: TemplateChild) -> None:
    with pytest.raises(TemplateTimeout, match="224 MiB"):
        child.ask(request("{{ 'a' * (3 * 10**8) }}"), 5)
    assert child.dead


def test_a_killed_process_is_a_typed_error_and_replaced() -> None:
    with TemplateRenderer() as renderer:
        assert renderer.render(ECHO, HELLO).text == "Hello"
        first = renderer.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with pytest.raises(TemplateError, match=r"ended its process \(code -9\)"):
            renderer.render(ECHO, HELLO)
        assert renderer.render(ECHO, HELLO).text == "Hello"
        assert renderer.pid != first


def test_ctrl_c_is_not_the_processs_business(child: TemplateChild) -> None:
    os.kill(child.pid, signal.SIGINT)
    assert child.ask(request("x"), 5) == b"x"


def test_the_process_ends_when_its_input_does(child: TemplateChild) -> None:
    child.close()
    assert not psutil.pid_exists(child.pid)


@pytest.mark.parametrize("source", ["{{ messages[0].content }}", "{{ 9**(9**9) }}"], ids=["idle", "busy"])
def test_the_process_outlives_its_front_by_seconds_at_most(source: str) -> None:
    script = (
        "import sys, threading, time\n"
        "from runtime.engine.templates import wire\n"
        "from runtime.engine.templates.renderer import ChatTemplate, TemplateRenderer\n"
        "wire.RENDER_SECONDS = wire.WALL_SECONDS = 600.0\n"
        "renderer = TemplateRenderer()\n"
        "hello = [{'role': 'user', 'content': 'Hello'}]\n"
        "renderer.render(ChatTemplate('{{ messages[0].content }}'), hello)\n"
        f"threading.Thread(target=renderer.render, args=(ChatTemplate({source!r}), hello)).start()\n"
        "time.sleep(0.3)\n"
        "print(renderer.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    front = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with front:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
        front.kill()
    assert ended(pid, 30)


def test_a_process_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_child, "MODULE", "runtime.no_such_module")
    with pytest.raises(EngineError, match=r"No module named runtime\.no_such_module"):
        TemplateChild()


def test_a_process_that_never_gets_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_child, "MODULE", "cProfile")
    monkeypatch.setattr(template_child, "START_SECONDS", 0.0)
    with pytest.raises(EngineError, match="did not start: it was not ready after 0 s"):
        TemplateChild()


def test_another_program_in_its_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_child, "MODULE", "this")
    with pytest.raises(EngineError, match="did not start: it gave no reason"):
        TemplateChild()


def test_a_python_that_cannot_be_started_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(EngineError, match=r"did not start: .*No such file"):
        TemplateChild()


def test_without_a_python_there_is_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(EngineError, match=r"sys\.executable is empty"):
        TemplateChild()


def test_a_process_that_replies_nonsense_is_ended(
    monkeypatch: pytest.MonkeyPatch, child: TemplateChild
) -> None:
    monkeypatch.setattr(wire, "read_frame", lambda stream: b"?")
    with pytest.raises(TemplateError, match="ended its process"):
        child.ask(request("x"), 5)
    assert child.dead


# -- its parts, in this process ----------------------------------------------------------------------------


def test_requests_are_answered_one_by_one() -> None:
    replies, before = io.BytesIO(), []
    requests = frames(
        request("a{{ x }}", x=1), request("{% if %}"), b'{"source": "{{ y }}", "describe": true}'
    )
    template_process.serve(Sandbox(), requests, replies, lambda: before.append(1))
    replies.seek(0)
    answers = [wire.read_frame(replies) for _ in range(5)]
    assert answers[:2] == [wire.READY, wire.TEXT + b"a1"]
    assert answers[2] is not None and answers[2].startswith(wire.FAILURE)
    assert answers[3:] == [wire.NAMES + b'["y"]', None]
    assert len(before) == 3


def test_the_program_serves_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = io.BytesIO()
    set_limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(frames(request("hi"))))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(replies))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: set_limits.append((kind, pair)))
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    assert template_process.main() == 0
    assert replies.getvalue().endswith(wire.TEXT + b"hi")
    assert (resource.RLIMIT_NOFILE, (3, 3)) in set_limits
    assert set_limits[-1][0] == resource.RLIMIT_CPU


def test_the_program_says_that_its_jinja_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(frames()))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(replies))
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    monkeypatch.setattr(template_process, "version", lambda name: "3.1.5")
    assert template_process.main() == 1
    assert b"install jinja2>=3.1.6" in replies.getvalue()


def test_the_program_ends_quietly_when_the_front_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x09")))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: None)
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    assert template_process.main() == 1


@pytest.mark.parametrize("installed", ["3.1.6", "3.1.10", "3.2", "4.0.0"])
def test_a_jinja_without_known_leaks_is_taken(installed: str) -> None:
    check_jinja(installed)


@pytest.mark.parametrize("installed", ["3.1.5", "3.1", "2.11.3", "unknown"])
def test_a_jinja_with_a_leaking_sandbox_is_refused(installed: str) -> None:
    with pytest.raises(RuntimeError, match=r"install jinja2>=3\.1\.6"):
        check_jinja(installed)


def test_where_the_kernel_tells_no_size_there_is_no_limit_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise FileNotFoundError

    assert resource.RLIMIT_AS in dict(template_process.limits(1 << 20))
    monkeypatch.setattr("builtins.open", refuse)
    assert template_process.address_space_bytes() is None
    assert resource.RLIMIT_AS not in dict(template_process.limits(None))


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("{{ 'x' * 10**11 }}", wire.MEMORY, b""),
        ("{{ ''.__class__.x }}", wire.FAILURE, b"tried to leave its sandbox in line 1"),
        ("{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}", wire.FAILURE, b"recurses too deep"),
        ("{% for i in range(9) %}{{ 'x' * 2**21 }}{% endfor %}", wire.FAILURE, b"wrote more than 16777216"),
        ("{{ '\\ud800' }}", wire.FAILURE, b"lone surrogate"),
        ("{{ raise_exception('\\ud800') }}", wire.FAILURE, b"refused the conversation: \\ud800"),
        ("{{ x | tojson }}", wire.FAILURE, b"not JSON serializable"),
        ("{% generation %}a{% endgeneration %}", wire.TEXT, b"a"),
        ("{{ range(3) | map('string') | tojson }}", wire.TEXT, b'["0", "1", "2"]'),
    ],
)  # fmt: skip
def test_whatever_a_template_does_it_gets_a_reply(source: str, kind: bytes, words: bytes) -> None:
    reply = answer(Sandbox(), request(source))
    assert reply[:1] == kind
    assert words in reply


def test_a_request_that_is_no_json_gets_a_reply_too() -> None:
    assert answer(Sandbox(), b"{").startswith(wire.FAILURE)


@pytest.mark.parametrize("data", [b"\x01", b"\xff\xff\xff\xff", b"\x05\0\0\0abc"])
def test_a_broken_frame_is_an_error(data: bytes) -> None:
    with pytest.raises(OSError, match="a frame"):
        wire.read_frame(io.BytesIO(data))
