# SPDX-License-Identifier: GPL-3.0-or-later
"""Module balancer against an admin socket that answers with what HAProxy 2.6 and 3.0 answered."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.modules import gateway_backend

from tests.conftest import ROOT
from tests.unit.conftest import RunModule

RECORDED = ROOT / "tests" / "fixtures" / "haproxy"
CHECKED = "check-peers"


class HAProxy:
    """Recorded tables; orders change the states in them as HAProxy does, those of followers too."""

    def __init__(self, version: str, moment: str) -> None:
        self.state = [line.split(" ") for line in self.read(version, f"{moment}.state")]
        self.stat = [line.split(",") for line in self.read(version, f"{moment}.stat")]
        self.orders: list[str] = []
        self.looks = 0
        self.finishes_after = 10**6

    @staticmethod
    def read(version: str, name: str) -> list[str]:
        return (RECORDED / version / name).read_text().rstrip("\n").split("\n")

    def answer(self, command: str) -> str:
        if command == "show servers state":
            return "\n".join(" ".join(row) for row in self.state) + "\n\n"
        if command == "show stat -1 4 -1":
            self.looks += 1
            if self.looks > self.finishes_after:
                self.finish()
            return "\n".join(",".join(row) for row in self.stat) + "\n\n"
        assert command.startswith("set server ")
        self.orders.append(command)
        name, _word, state = command.removeprefix("set server ").split(" ")
        backend, server = name.split("/")
        for row in self.state[2:]:
            if row[3] == server and (row[1] == backend or backend == CHECKED):
                row[6] = "0" if state == "ready" else "8" if row[1] == backend else "16"
        return "\n"

    def finish(self) -> None:
        """All requests end, and all servers are found answering."""
        for row in self.stat[1:]:
            row[4] = "0"
        for row in self.state[2:]:
            row[5] = "2"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[t.Callable[[t.Any], Path]]:
    with contextlib.ExitStack() as stack:

        def start(haproxy: t.Any) -> Path:
            class Handler(socketserver.StreamRequestHandler):
                def handle(self) -> None:
                    self.wfile.write(haproxy.answer(self.rfile.readline().decode().strip()).encode())

            path = tmp_path / "admin.sock"
            server = stack.enter_context(socketserver.ThreadingUnixStreamServer(str(path), Handler))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            return path

        yield start


@pytest.fixture(params=["2.6", "3.0"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Serve = t.Callable[[t.Any], Path]


def test_check_apply_check_apply(version: str, serve: Serve, run_module: RunModule) -> None:
    haproxy = HAProxy(version, "ready")
    params = {"server": "big2", "state": "drained", "socket": str(serve(haproxy)), "wait": 5}
    predicted = run_module(gateway_backend, params, check=True)
    assert haproxy.orders == []
    done = run_module(gateway_backend, params)
    # One order, to the one that the others follow.
    assert haproxy.orders == ["set server check-peers/big2 state drain"]
    assert (predicted["changed"], done["changed"]) == (True, True), done
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["before"]["inference-1"] == "ready"
    assert {row["state"] for row in done["backends"]} == {"drained"}
    assert (done["sessions"], done["up"], len(done["backends"])) == (0, True, 5)
    for check in (True, False):
        assert not run_module(gateway_backend, params, check=check)["changed"]
    back = {**params, "state": "ready"}
    for check, changes in [(True, True), (False, True), (True, False), (False, False)]:
        assert run_module(gateway_backend, back, check=check)["changed"] is changes
    assert haproxy.orders[1:] == ["set server check-peers/big2 state ready"]


def test_draining_waits_for_what_is_in_flight(version: str, serve: Serve, run_module: RunModule) -> None:
    haproxy = HAProxy(version, "draining")
    params = {"server": "big2", "state": "drained", "socket": str(serve(haproxy))}
    late = run_module(gateway_backend, {**params, "wait": 0.3})
    assert late["failure"]["code"] == "requests_running"
    assert (late["sessions"], late["changed"]) == (2, False), late
    assert "2 requests are still in progress after 0.3 s" in late["msg"]
    assert run_module(gateway_backend, {**params, "wait": 0})["sessions"] == 2
    haproxy.finishes_after = haproxy.looks + 2
    assert run_module(gateway_backend, params)["sessions"] == 0


def test_ready_waits_until_the_server_answers(version: str, serve: Serve, run_module: RunModule) -> None:
    haproxy = HAProxy(version, "down")
    params = {"server": "big2", "state": "ready", "socket": str(serve(haproxy))}
    late = run_module(gateway_backend, {**params, "wait": 0.3})
    assert late["failure"]["code"] == "server_down"
    assert late["up"] is False
    assert not run_module(gateway_backend, {**params, "wait": 0})["failed"]
    # A server that is down can be drained, too: then it stays out when it comes back.
    assert run_module(gateway_backend, {**params, "state": "drained"})["changed"]
    haproxy.finishes_after = haproxy.looks + 2
    assert run_module(gateway_backend, params)["up"] is True


def test_a_server_drained_manually_in_one_backend(version: str, serve: Serve, run_module: RunModule) -> None:
    haproxy = HAProxy(version, "ready")
    haproxy.answer("set server inference-1/big2 state drain")
    params = {"server": "big2", "state": "ready", "socket": str(serve(haproxy)), "wait": 0}
    assert run_module(gateway_backend, params)["diff"]["before"]["inference-1"] == "drained"
    assert haproxy.orders[1:] == ["set server inference-1/big2 state ready"]


@pytest.mark.parametrize(
    ("flags", "state"), [(0, "ready"), (1, "maintenance"), (2, "maintenance"), (32, "maintenance")]
)
def test_maintenance_counts_as_drained(serve: Serve, run_module: RunModule, flags: int, state: str) -> None:
    haproxy = HAProxy("3.0", "ready")
    for row in haproxy.state[2:]:
        row[6] = str(flags)
    params = {"server": "big2", "state": "drained", "socket": str(serve(haproxy)), "wait": 0}
    result = run_module(gateway_backend, params)
    assert result["diff"]["before"]["inference-1"] == state
    assert result["changed"] == (state == "ready")


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ({"server": "big9"}, "server_unknown", "'big9' is not a server"),
        ({"server": "a/b"}, "value_invalid", "server: invalid value 'a/b'"),
        ({"server": "a; disable frontend edge"}, "value_invalid", "server: "),
        ({"server": "a\nquit"}, "value_invalid", "server: "),
        ({"server": ""}, "value_invalid", "server: invalid value ''"),
        ({"wait": -1}, "value_invalid", "wait: invalid value -1"),
        ({"socket": "/nonexistent/admin.sock"}, "haproxy_unreachable", "no HAProxy answers at /nonexistent/admin.sock"),
    ],
)
def test_invalid_input_is_one_line(
    serve: Serve, run_module: RunModule, params: dict[str, t.Any], code: str, says: str
) -> None:
    haproxy = HAProxy("2.6", "ready")
    given = {"server": "big2", "state": "drained", "socket": str(serve(haproxy)), **params}
    result = run_module(gateway_backend, given)
    assert result["failure"]["code"] == code
    assert says in result["msg"]
    assert "\n" not in result["msg"]
    assert haproxy.orders == []


class Unwilling(HAProxy):
    def answer(self, command: str) -> str:
        return "Permission denied.\n\n" if command.startswith("set") else super().answer(command)


class Strange:
    def answer(self, command: str) -> str:
        return "Unknown command.\n\n"


class Invalid(HAProxy):
    def answer(self, command: str) -> str:
        return super().answer(command).replace(" 2 ", " x ").replace(",0,", ",y,")


class Endless:
    def answer(self, command: str) -> str:
        return "x" * (1 << 20)


def test_an_endless_or_invalid_answer_is_a_failure(
    serve: Serve, run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account of HAProxy owns the socket."""
    monkeypatch.setattr("ansible_collections.kaido.ollama.plugins.module_utils._service.haproxy._LIMIT", 1000)
    params = {"server": "big2", "state": "drained", "socket": str(serve(Endless()))}
    result = run_module(gateway_backend, params)
    assert result["failure"]["code"] == "haproxy_unreachable"
    assert "too long" in result["msg"]
    monkeypatch.undo()
    (tmp_path / "admin.sock").unlink()
    serve(Invalid("2.6", "ready"))
    assert run_module(gateway_backend, params)["failure"]["code"] == "response_invalid"


def test_a_refusal_and_nonsense_are_failures(serve: Serve, run_module: RunModule, tmp_path: Path) -> None:
    params = {"server": "big2", "state": "drained", "socket": str(serve(Unwilling("2.6", "ready")))}
    result = run_module(gateway_backend, params)
    assert result["failure"]["code"] == "haproxy_refused"
    assert "Permission denied." in result["msg"]
    (tmp_path / "admin.sock").unlink()
    serve(Strange())
    assert run_module(gateway_backend, params)["failure"]["code"] == "response_invalid"
