# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment, runner and command line of the stand-in."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import typing as t

import pytest

from tests import standin
from tests.conformance.target import Target
from tests.standin import build, settings
from tests.standin.registry import make_model


def _settings(**env: str) -> settings.Settings:
    return settings.Settings({"HOME": "/home/x", **env})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("http", "127.0.0.1", 11434)),
        ("1.2.3.4", ("http", "1.2.3.4", 11434)),
        ("1.2.3.4:5", ("http", "1.2.3.4", 5)),
        ("http://h", ("http", "h", 80)),
        ("https://h/path", ("https", "h", 443)),
        (":11434", ("http", "", 11434)),
        ("::1", ("http", "::1", 11434)),
        ("[::1]:5", ("http", "::1", 5)),
        ("h:99999", ("http", "h", 11434)),
        ("h:nan", ("http", "h", 11434)),
        ('"h:5"', ("http", "h", 5)),
        ("ollama.com", ("https", "ollama.com", 443)),
    ],
)
def test_host(text: str, expected: tuple[str, str, int]) -> None:
    found = _settings(OLLAMA_HOST=text)
    assert (found.scheme, found.host, found.port) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("off", True), ("no", True), ("0", False), ("False", False)]
)
def test_invalid_booleans_are_true(text: str, expected: bool) -> None:
    assert _settings(OLLAMA_NOPRUNE=text).noprune is expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 300), ("30m", 1800), ("1h30m", 5400), ("90", 90), ("0", 0), ("nan", 300), ("-1", None)]
)
def test_keep_alive(text: str, seconds: float | None) -> None:
    assert _settings(OLLAMA_KEEP_ALIVE=text).keep_alive == (settings.FOREVER if seconds is None else seconds)


@pytest.mark.parametrize("origins", ["example.com", "http://a, http://b"])
def test_an_invalid_origin_is_a_panic(origins: str) -> None:
    with pytest.raises(settings.Panic, match="bad origin"):
        _settings(OLLAMA_ORIGINS=origins)


def test_no_home_and_no_models_is_a_panic() -> None:
    with pytest.raises(settings.Panic, match="HOME is not defined"):
        settings.Settings({})


def test_a_listener_on_all_addresses_ignores_the_host_header() -> None:
    with standin.running(env={"OLLAMA_HOST": "0.0.0.0:0"}) as server:
        target = Target(server.url, None)
        assert target.call("GET", "/api/version", headers={"Host": "evil.example.com"}).status == 200


def test_a_model_runs_on_the_gpu(tmp_path: pathlib.Path) -> None:
    make_model(tmp_path, "model", 4000)
    with standin.running(models_dir=tmp_path, env={"STANDIN_GPU": "cuda:24564"}) as server:
        target = Target(server.url, tmp_path)
        target.call("POST", "/api/generate", {"model": "model"})
        row = target.loaded("model")[0]
        assert row["size_vram"] == row["size"] > 0
        compute = [line for line in server.log if "inference compute" in line]
        assert len(compute) == 1
        assert "library=CUDA" in compute[0]


def test_without_a_gpu_the_log_contains_cpu(tmp_path: pathlib.Path) -> None:
    with standin.running() as server:
        assert sum("id=cpu library=cpu" in line for line in server.log) == 1


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a file; while it exists, every response waits after its first word."""
    path = tmp_path / "gate"
    path.touch()
    return path


def test_a_full_queue_is_503(tmp_path: pathlib.Path, gate: pathlib.Path) -> None:
    make_model(tmp_path / "models", "model", 4000)
    env = {"OLLAMA_MAX_QUEUE": "1", "STANDIN_GATE": str(gate)}
    with (
        standin.running(models_dir=tmp_path / "models", env=env) as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        target = Target(server.url, tmp_path)
        body = {"model": "model", "prompt": "x", "stream": False}
        first = pool.submit(target.call, "POST", "/api/generate", body)
        server.wait_for("waits at the gate")
        refused = target.call("POST", "/api/generate", body)
        gate.unlink()
        assert first.result().status == 200
    assert refused.status == 503
    assert "maximum pending requests exceeded" in refused.error


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/api/generate", {"prompt": "x"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/chat/completions", {"stream": True, "messages": [{"role": "user", "content": "x"}]}),
    ],
)
def test_the_first_word_of_a_stream_comes_before_the_gate_opens(
    tmp_path: pathlib.Path, gate: pathlib.Path, path: str, prompt: dict[str, t.Any]
) -> None:
    make_model(tmp_path / "models", "model", 4000)
    with standin.running(models_dir=tmp_path / "models", env={"STANDIN_GATE": str(gate)}) as server:
        connection = Target(server.url, None).connect()
        connection.request("POST", path, json.dumps({"model": "model", **prompt}))
        answer = connection.getresponse()
        assert answer.readline()
        server.wait_for("waits at the gate")
        gate.unlink()
        assert len(answer.read().splitlines()) > 3
        connection.close()


def test_a_response_at_the_gate_ends_with_its_client(tmp_path: pathlib.Path, gate: pathlib.Path) -> None:
    make_model(tmp_path / "models", "model", 4000)
    with standin.running(models_dir=tmp_path / "models", env={"STANDIN_GATE": str(gate)}) as server:
        connection = Target(server.url, None).connect()
        connection.request("POST", "/api/generate", json.dumps({"model": "model", "prompt": "x", "stream": False}))
        server.wait_for("waits at the gate")
        connection.close()
        server.wait_for('"/api/generate"')


@pytest.mark.parametrize("stream", [False, True])
def test_a_runner_that_fails_leaves_an_unfinished_response(tmp_path: pathlib.Path, stream: bool) -> None:
    """Observed on a real server with a model that returns invalid UTF-8: status 200, no error, and no end."""
    make_model(tmp_path, "model", 4000)
    with standin.running(models_dir=tmp_path, env={"STANDIN_RUNNER_FAILS": "1"}) as server:
        reply = Target(server.url, None).call(
            "POST", "/api/generate", {"model": "model", "prompt": "x", "stream": stream}
        )
    assert reply.status == 200
    rows = [json.loads(line) for line in reply.lines]
    assert not any(row["done"] or "error" in row for row in rows)
    assert [row["response"] for row in rows] == ([] if stream else [""])


def test_the_log_has_the_query_string_of_a_request() -> None:
    """Like the log of a real server: a token in the query is logged."""
    with standin.running() as server:
        Target(server.url, None).call("GET", "/api/version?token=secret")
        server.wait_for('GET      "/api/version?token=secret"')
        [line] = [line for line in server.log if "secret" in line]
        assert line.startswith("[GIN] ")
        assert "| 200 |" in line


def test_a_plain_build_has_no_variables_of_the_stand_in(tmp_path: pathlib.Path) -> None:
    """It represents a real server in tests of the lab: other numbers, no variables of the stand-in."""
    make_model(tmp_path, "model", 4000)
    shown = []
    for plain in ({}, {"STANDIN_PLAIN": "1"}):
        with standin.running(
            models_dir=tmp_path, env={"STANDIN_RUNNER_FAILS": "1" if plain else "", **plain}
        ) as server:
            target = Target(server.url, tmp_path)
            answer = target.call("POST", "/api/generate", {"model": "model", "prompt": "x", "stream": False}).json()
            assert answer["done"]
            shown.append((answer["eval_count"], target.loaded("model")[0]["size"]))
    assert shown[0][0] != shown[1][0]
    assert shown[0][1] != shown[1][1]


def test_at_most_three_models_stay_loaded(tmp_path: pathlib.Path) -> None:
    with standin.running(models_dir=tmp_path) as server:
        target = Target(server.url, tmp_path)
        for number in range(4):
            make_model(tmp_path, f"m{number}", 4000, seed=number)
            target.call("POST", "/api/generate", {"model": f"m{number}"})
        assert {row["name"] for row in target.loaded("")} == {"m1:latest", "m2:latest", "m3:latest"}


def test_a_model_expires(tmp_path: pathlib.Path) -> None:
    make_model(tmp_path, "model", 4000)
    with standin.running(models_dir=tmp_path) as server:
        target = Target(server.url, tmp_path)
        target.call("POST", "/api/generate", {"model": "model", "keep_alive": "100ms"})
        assert target.loaded("model")
        standin.until(lambda: not target.loaded("model"), "the model has expired")


def test_an_embedding_model_embeds(tmp_path: pathlib.Path) -> None:
    make_model(tmp_path, "embed", 4000, architecture="bert")
    with standin.running(models_dir=tmp_path) as server:
        target = Target(server.url, tmp_path)
        assert target.rows("embed")[0]["capabilities"] == ["embedding"]
        found = target.call("POST", "/api/embed", {"model": "embed", "input": ["a", "b"]}).json()["embeddings"]
        assert [len(vector) for vector in found] == [64, 64]
        assert found[0] != found[1]
        reply = target.call("POST", "/api/generate", {"model": "embed", "prompt": "x"})
        assert (reply.status, reply.error) == (400, '"embed" does not support generate')


def test_a_cloud_model_is_refused_if_the_cloud_is_disabled(tmp_path: pathlib.Path) -> None:
    make_model(tmp_path, "far", 4000, config={"remote_host": "https://ollama.com:443", "remote_model": "far"})
    with standin.running(models_dir=tmp_path, env={"OLLAMA_NO_CLOUD": "1"}) as server:
        target = Target(server.url, tmp_path)
        assert target.rows("far")[0]["remote_model"] == "far"
        reply = target.call("POST", "/api/generate", {"model": "far", "prompt": "x"})
        assert reply.status == 403
        assert "ollama cloud is disabled" in reply.error
        assert target.call("GET", "/api/status").json() == {"cloud": {"disabled": True, "source": "env"}}


# -- the built program ---------------------------------------------------------------------------------------------


class Program:
    def __init__(self, directory: pathlib.Path, version: str) -> None:
        self.path = directory / "ollama"
        build.build(version, self.path)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(directory), "OLLAMA_HOST": self.address}

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.path), "serve"]
        process = subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        for line in process.stderr:
            if "vram-based default context" in line:
                return process
        raise AssertionError("it did not start")

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.path), *args]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Program]:
    directory = tmp_path_factory.mktemp("program")
    found = Program(directory, "0.35.1")
    make_model(directory / ".ollama/models", "model", 4000)
    process = found.start()
    yield found
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_the_same_version_gives_the_same_bytes() -> None:
    assert build.archive("0.35.1") == build.archive("0.35.1") != build.archive("0.40.2")


def test_version_with_and_without_a_server(program: Program) -> None:
    assert program.run("--version").stdout == "ollama version is 0.35.1\n"
    other = Program(pathlib.Path(program.env["HOME"]), "0.40.2")
    assert other.run("-v").stdout == (
        "Warning: could not connect to a running Ollama instance\nWarning: client version is 0.40.2\n"
    )
    other.env = program.env
    assert other.run("-v").stdout == "ollama version is 0.35.1\nWarning: client version is 0.40.2\n"
    build.build("0.35.1", program.path)


def test_commands(program: Program) -> None:
    assert program.run("list").stdout.split("\n")[1].split()[0] == "model:latest"
    assert program.run("cp", "model", "copy").returncode == 0
    assert "copy:latest" in program.run("ls").stdout
    assert len(program.run("run", "copy", "hello").stdout) > 10
    assert "copy:latest" in program.run("ps").stdout
    assert "FROM " in program.run("show", "--modelfile", "copy").stdout
    assert program.run("rm", "copy").stdout == "deleted 'copy'\n"
    gone = program.run("rm", "copy")
    assert (gone.returncode, gone.stderr) == (1, "Error: model 'copy' not found\n")
    failed = program.run("pull", "--insecure", "127.0.0.1:1/library/none")
    assert failed.returncode == 1
    assert "connection refused" in failed.stderr


def test_a_busy_port_is_fatal(program: Program) -> None:
    found = program.run("serve")
    assert found.returncode == 1
    assert found.stderr.endswith(f"Error: listen tcp {program.address}: bind: address already in use\n")


def test_an_invalid_origin_is_fatal(program: Program) -> None:
    program.env["OLLAMA_ORIGINS"] = "example.com"
    try:
        assert program.run("serve").returncode == 2
    finally:
        del program.env["OLLAMA_ORIGINS"]
