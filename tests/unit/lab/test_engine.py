# SPDX-License-Identifier: GPL-3.0-or-later
"""How the lab gets a Docker Engine, for every state of a machine."""

from __future__ import annotations

import http.server
import os
import socketserver
import subprocess
import threading
from pathlib import Path

import pytest

from tests.lab import LabError, engine
from tests.lab.engine import Probe, Step, decide


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (Probe("answers"), []),
        (Probe("denied", sudo=True), ["join"]),
        (Probe("silent", root=True, installed=True), ["daemon"]),
        (Probe("silent", root=True, installed=True, systemd=True), ["service"]),
        (Probe("silent", root=True, apt=True), ["install", "daemon"]),
        (Probe("silent", sudo=True, apt=True, systemd=True), ["install", "service"]),
        (Probe("silent", sudo=True, apt=True), ["install", "daemon"]),
    ],
)
def test_steps(seen: Probe, steps: list[Step]) -> None:
    assert decide(seen) == steps


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Probe("denied"), "usermod -aG docker USER"),
        # A re-run with the group that is still denied must not re-run for ever.
        (Probe("denied", sudo=True, joined=True), "usermod -aG docker USER"),
        (Probe("silent", apt=True), "install and start it takes root"),
        (Probe("silent", installed=True), "and start it takes root"),
        (Probe("silent", root=True), "install Docker Engine"),
        (Probe("silent", docker_host="unix:///run/other.sock", root=True), "'unix:///run/other.sock'"),
        (Probe("answers", docker_host="tcp://far:2375"), "unset DOCKER_HOST"),
    ],
)
def test_the_next_step(seen: Probe, words: str) -> None:
    with pytest.raises(LabError) as caught:
        decide(seen)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_join_keeps_the_user_and_no_secrets() -> None:
    environ = {"HOME": "/home/x", "LC_ALL": "C.UTF-8", "ANSIBLE_CONFIG": "a.cfg", "AWS_SECRET_ACCESS_KEY": "hunter2"}
    command = engine.join_command(1000, 1000, {1000, 27, 114}, environ, ["up", "x"])
    assert command[:5] == ["sudo", "setpriv", "--reuid=1000", "--regid=1000", "--groups=27,114,1000"]
    assert {"HOME=/home/x", "LC_ALL=C.UTF-8", "ANSIBLE_CONFIG=a.cfg", f"{engine.JOINED}=1"} <= set(command)
    assert "hunter2" not in " ".join(command)
    assert command[-4:] == ["-m", "tests.lab", "up", "x"]


class Ping(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/_ping" else 404)
        self.end_headers()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(("status", "answer"), [(200, "answers"), (503, "silent")])
def test_query_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, answer: str) -> None:
    monkeypatch.chdir(tmp_path)  # socket addresses are short
    monkeypatch.setattr(Ping, "status", status)
    with socketserver.ThreadingUnixStreamServer("s", Ping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert engine.ask("s") == answer
        server.shutdown()


def test_query_without_a_listener(tmp_path: Path) -> None:
    assert engine.ask(str(tmp_path / "none")) == "silent"


def test_only_a_daemon_that_the_lab_started_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CACHE", tmp_path)
    monkeypatch.setattr(engine, "STATE", tmp_path / "engine.json")
    assert engine.our_daemon() == 0
    pid = os.getpid()
    engine.remember({"pid": pid, "start": engine.start_time(pid)})
    assert engine.our_daemon() == pid
    # The same number, given to a process that started at another time.
    engine.remember({"pid": pid, "start": engine.start_time(pid) + 1})
    assert engine.our_daemon() == 0


def test_a_zombie_process_counts_as_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}").is_dir()
    assert engine.start_time(child.pid) == 0
    child.wait()
