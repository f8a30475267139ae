"""The commands around the endpoint: ``serve``, ``key``, ``connect``, ``ps``, ``stop``."""

from __future__ import annotations

import http.client
import json
import os
import plistlib
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.server.clients import BY_NAME, CLIENTS
from tests.app.cli_runner import Cli
from tests.app.server_process import ServerProcess, serving


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment={"HOME": str(tmp_path), "LOCALQ_API_KEY": ""})


class TestServe:
    def test_an_address_that_others_reach_needs_a_key(self, cli: Cli) -> None:
        ran = cli.run("serve", "--host", "0.0.0.0")
        assert ran.exit_code == 2 and "others can reach 0.0.0.0" in ran.stderr
        assert ran.last_line.startswith("next: localq key new")

    def test_a_key_that_could_be_guessed_is_refused(self, cli: Cli) -> None:
        assert cli.run("serve", "--api-key", "short").exit_code == 2
        file = cli.folder / "keys"
        file.write_text("# ours\nlong-enough-key\nwith a space\n")
        assert cli.run("serve", "--api-key-file", str(file)).exit_code == 2

    def test_a_missing_model_is_an_error_now(self, cli: Cli) -> None:
        ran = cli.run("serve", "no-such-model")
        assert ran.exit_code == 1 and "no-such-model" in ran.stderr

    def test_a_taken_port_is_named_and_another_proposed(self, cli: Cli) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ran = cli.run("serve", "--port", str(port))
        assert ran.exit_code == 2 and str(port) in ran.stderr
        assert ran.last_line == f"next: localq serve --port {port + 1}"

    def test_a_certificate_needs_its_key(self, cli: Cli) -> None:
        file = cli.folder / "cert.pem"
        file.write_text("no certificate")
        assert "give both" in cli.run("serve", "--tls-cert", str(file)).stderr
        ran = cli.run("serve", "--tls-cert", str(file), "--tls-key", str(file))
        assert ran.exit_code == 2 and "no certificate with its key" in ran.stderr

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
    def test_over_tls_it_answers_and_is_found(self, cli: Cli) -> None:
        certificate, key = cli.folder / "cert.pem", cli.folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.create_default_context(cafile=str(certificate))

        def encrypted(port: int) -> http.client.HTTPSConnection:
            return http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)

        words = ("--tls-cert", str(certificate), "--tls-key", str(key))
        with serving(cli.folder, *words, connect=encrypted) as server:
            assert server.get("/health")["status"] == "ok"
            assert cli.run("ps", "--json").json()[0]["url"] == f"https://127.0.0.1:{server.port}/v1"


class TestService:
    def test_a_unit_runs_this_very_command(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        keys = cli.folder / "my keys 100%"
        keys.write_text("a-secret-key-of-mine\n")
        ran = cli.run("serve", "--port", "0", "--json", "--api-key-file", str(keys), "--install-service")
        assert ran.exit_code == 0, ran.stderr
        path = cli.folder / ".config/systemd/user/localq.service"
        assert ran.json()["path"] == str(path) and "a-secret-key" not in path.read_text()
        lines = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        assert int(lines["TimeoutStopSec"]) > 15
        command = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(lines["ExecStart"])]
        assert str(keys) in command and "--install-service" not in command
        environment = os.environ | {"LOCALQ_HOME": str(cli.home), "LOCALQ_CONFIG": os.devnull}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd="/") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["key_needed"] is True
            process.terminate()
            assert process.wait(10) == 0

    def test_an_agent_of_launchd(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert cli.run("serve", "--install-service", "--port", "9000").exit_code == 0
        agent = plistlib.loads((cli.folder / "Library/LaunchAgents/localq.plist").read_bytes())
        assert agent["ProgramArguments"][1:] == ["-m", "app.cli.main", "serve", "--port", "9000"]
        assert agent["RunAtLoad"] is True

    def test_no_key_gets_into_its_file(self, cli: Cli) -> None:
        ran = cli.run("serve", "--api-key", "a-secret-key", "--install-service")
        assert ran.exit_code == 2 and "could be read by others" in ran.stderr
        assert not (cli.folder / ".config").exists()


class TestKey:
    def test_a_key_is_seen_once_and_works(self, cli: Cli) -> None:
        key = cli.run("key", "new", "laptop", "--json").json()["key"]
        assert cli.run("key", "new", "laptop").exit_code == 2
        listed = cli.run("key", "list")
        assert "laptop" in listed.stdout and key not in listed.stdout
        with serving(cli.folder) as server:
            assert server.request("GET", "/v1/models")[0] == 401
            headers = {"authorization": f"Bearer {key}"}
            assert server.request("GET", "/v1/models", headers=headers)[0] == 200
            assert len(cli.run("ps", "--json").json()) == 1  # the commands have a key of their own
        assert cli.run("key", "rm", "laptop").exit_code == 0
        assert cli.run("key", "rm", "laptop").exit_code == 2
        assert cli.run("key", "list", "--json").json() == []


class TestConnect:
    @pytest.mark.parametrize("program", BY_NAME)
    def test_settings_name_the_address_and_the_model(self, cli: Cli, program: str) -> None:
        ran = cli.run("connect", program, "--url", "http://127.0.0.1:9999/v1", "--model", "my-model", "-q")
        assert ran.exit_code == 0 and "http://127.0.0.1:9999" in ran.stdout
        if program not in ("shell", "open-webui"):
            assert "my-model" in ran.stdout

    def test_all_of_them_are_told_of_the_server_that_runs(self, cli: Cli) -> None:
        cli.add_model("tiny")
        with serving(cli.folder) as server:
            told = cli.run("connect", "--json").json()
        assert told["url"] == server.base_url and told["model"] == "tiny"
        assert set(told["settings"]) == {client.name for client in CLIENTS}

    def test_an_unknown_program_is_an_error_with_the_known_ones(self, cli: Cli) -> None:
        ran = cli.run("connect", "emacs-of-mine")
        assert ran.exit_code == 2 and "langchain" in ran.stderr
        cli.follow(ran)

    def test_what_it_prints_for_a_shell_and_for_python_works(self, cli: Cli) -> None:
        with serving(cli.folder) as server:
            settings = cli.run("connect", "shell", "--json").json()["settings"]["shell"]
            asked = subprocess.run(
                ["sh", "-c", settings + "\nenv"], capture_output=True, text=True, check=True
            ).stdout
            assert f"OPENAI_BASE_URL={server.base_url}" in asked.splitlines()
            compile(cli.run("connect", "python", "-q").stdout, "settings", "exec")
            compile(cli.run("connect", "langchain", "-q").stdout, "settings", "exec")


class TestPsAndStop:
    def test_a_server_is_shown_and_ended(self, cli: Cli) -> None:
        assert "no server runs" in cli.run("ps").stdout
        with serving(cli.folder) as server:
            (shown,) = cli.run("ps", "--json").json()
            assert shown["pid"] == server.process.pid and shown["models"] == []
            assert str(server.port) in cli.run("ps").stdout
            assert cli.run("stop", "no-such-model").exit_code == 2
            assert cli.run("stop").exit_code == 0
            assert server.process.wait(5) == 0
        assert cli.run("ps", "--json").json() == []
        assert "no server runs" in cli.run("stop").stdout

    def test_what_a_killed_server_left_is_cleared_away(self, cli: Cli) -> None:
        with serving(cli.folder) as server:
            server.process.kill()
            server.process.wait()
            assert list((cli.home / "server").glob("*.json"))
            assert cli.run("ps", "--json").json() == []
            assert not list((cli.home / "server").glob("*.json"))

    @pytest.mark.model
    def test_a_model_that_rests_is_unloaded(self, cli: Cli, demo_path: Path) -> None:
        with serving(cli.folder, str(demo_path), "--ctx", "256") as server:
            (model,) = cli.run("ps", "--json").json()[0]["models"]
            assert model["requests"] == 0 and model["resident_bytes"] > 0
            assert model["id"] in cli.run("ps").stdout
            assert cli.run("stop", model["id"]).exit_code == 0
            assert server.worker_pids() == []


@pytest.mark.model
class TestMemory:
    """Several models, kept by memory: the demo model under several names."""

    @pytest.fixture
    def stored(self, cli: Cli, demo_path: Path) -> Cli:
        for name in ("one", "two", "three"):
            cli.store.import_file(demo_path, name)
        return cli

    def ask(self, server: ServerProcess, model: str) -> None:
        body = {"model": model, "prompt": "Hi", "max_tokens": 1}
        assert server.post("/v1/completions", body)["model"] == model

    def loaded(self, server: ServerProcess) -> list[str]:
        return [model["id"] for model in server.get("/v1/running")["models"]]

    def test_the_one_that_rests_longest_makes_room(self, stored: Cli) -> None:
        with serving(stored.folder, "--ctx", "256", "--slots", "1") as server:
            self.ask(server, "one")
            need = server.get("/v1/running")["models"][0]["planned_bytes"]
        ram = f"{int(need * 2.5) >> 20}MiB"
        with serving(stored.folder, "--ctx", "256", "--slots", "1", "--ram", ram) as server:
            for model in ("one", "two", "one", "three"):
                self.ask(server, model)
            assert sorted(self.loaded(server)) == ["one", "three"]

    def test_a_model_that_rests_is_unloaded_after_a_while(self, stored: Cli) -> None:
        with serving(stored.folder, "--ctx", "256", "--slots", "1", "--ttl", "1") as server:
            self.ask(server, "one")
            assert self.loaded(server) == ["one"]
            limit = time.monotonic() + 5
            while self.loaded(server):
                assert time.monotonic() < limit
                time.sleep(0.1)
            self.ask(server, "one")  # and comes back

    def need(self, stored: Cli, context: str) -> int:
        """Bytes that the model is planned with."""
        with serving(stored.folder, "--ctx", context, "--slots", "1") as server:
            self.ask(server, "one")
            planned: int = server.get("/v1/running")["models"][0]["planned_bytes"]
            return planned

    def test_a_pinned_model_stays_and_the_others_request_is_told_so(self, stored: Cli) -> None:
        ram = f"{int(self.need(stored, '256') * 1.5) >> 20}MiB"
        words = ("one", "two", "--ctx", "256", "--slots", "1", "--ram", ram, "--ttl", "1", "--pin")
        with serving(stored.folder, *words) as server:
            self.ask(server, "one")
            body = {"model": "two", "prompt": "Hi", "max_tokens": 1}
            status, headers, answer = server.request("POST", "/v1/completions", body)
            assert status == 503 and b"pinned" in answer and b"insufficient_memory" in answer
            assert int(headers["retry-after"]) > 0
            time.sleep(2.5)
            assert self.loaded(server) == ["one"]
            self.ask(server, "one")

    def test_an_answer_under_way_is_over_before_its_model_goes(self, stored: Cli) -> None:
        """Also where it takes longer than the time after which the other may claim the memory."""
        ram = f"{int(self.need(stored, '2048') * 1.5) >> 20}MiB"
        with serving(stored.folder, "--ctx", "2048", "--slots", "1", "--ram", ram) as server:
            self.ask(server, "one")
            ended: dict[str, float] = {}
            long = {"model": "one", "prompt": "Hi", "max_tokens": 1500, "ignore_eos": True, "stream": True}

            def stream() -> None:
                status, _, answer = server.request("POST", "/v1/completions", long)
                ended["stream"] = time.monotonic()
                ended["tokens"] = answer.count(b"data: {") if status == 200 and b"[DONE]" in answer else 0

            def ask(model: str) -> None:
                self.ask(server, model)
                ended[model] = time.monotonic()

            started = time.monotonic()
            threads = [threading.Thread(target=stream)]
            threads[0].start()
            time.sleep(1)
            assert server.get("/health")["running"] == 1
            for model in ("two", "one"):  # the second one comes when the other model waits already
                threads.append(threading.Thread(target=ask, args=(model,)))
                threads[-1].start()
                time.sleep(5.5)
            for thread in threads:
                thread.join()
            assert ended["tokens"] >= 1000
            assert ended["stream"] < ended["two"] < ended["one"]
            assert ended["stream"] - started > 6  # else it has shown nothing
            assert server.log.read_text().count("unloaded") == 2
