# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server gets which request, and which requests wait, by the statistics of the balancers and from outside."""

from __future__ import annotations

import csv
import json
import socket
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from conftest import LAB, address, gate, get_host, is_stand_in, until

TOKEN = "token-of-the-load-0123456789"
LIMITS = {"hecate": 1, "big2": 2, "big3": 1}


needs_gate = pytest.mark.skipif(not is_stand_in("0.34.4"), reason="needs the gate of the stand-in")


class Gateway:
    """A gateway, from outside."""

    def __init__(self, name: str) -> None:
        self.host = get_host(name)
        self.url = f"https://{address(self.host)}:11443"
        self.ca = LAB / "ca.crt"
        self.ca.write_text(self.host.check_output("cat /etc/ollama-gateway/ca.crt"))

    def ask(
        self, method: str, path: str, extra: t.Mapping[str, str] | None = None, **options: t.Any
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}", **(extra or {})}
        options = {"timeout": 30, **options}
        return requests.request(method, self.url + path, headers=headers, verify=str(self.ca), **options)

    def statistics(self) -> dict[tuple[str, str], dict[str, str]]:
        text = self.host.check_output("curl --silent --fail 'http://127.0.0.1:11444/;csv'")
        return {(row["# pxname"], row["svname"]): row for row in csv.DictReader(text.splitlines())}

    def asked(self) -> dict[str, int]:
        """How many requests each server has got so far."""
        return {
            name: sum(
                int(row["stot"] or 0)
                for (backend, server), row in self.statistics().items()
                if server == name and backend.startswith("inference-")
            )
            for name in LIMITS
        }


@pytest.fixture(scope="module", params=["hecate", "edge"])
def edge(request: pytest.FixtureRequest) -> Gateway:
    return Gateway(request.param)


def load(url: str, **options: t.Any) -> dict[str, t.Any]:
    arguments = " ".join(f"--{key} {value}" for key, value in options.items())
    program = "python3 /usr/local/bin/load.py --ca /etc/ollama-gateway/ca.crt --token-file /usr/local/etc/token"
    found: dict[str, t.Any] = json.loads(get_host("edge").check_output(f"{program} {url} {arguments}"))
    return found


@needs_gate
def test_requests_wait_in_the_balancer_for_a_free_server() -> None:
    hecate = Gateway("hecate")
    backend = "inference-models-2"
    servers = [get_host(name) for name in LIMITS]

    def now(server: str, column: str) -> int:
        return int(hecate.statistics()[backend, server][column])

    def ask(number: int) -> int:
        body = {"model": "tiny", "prompt": str(number), "stream": False}
        return hecate.ask("POST", "/api/generate", json=body).status_code

    with gate(*servers) as opened, ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(ask, number) for number in range(10)]
        until(lambda: now("BACKEND", "qcur") == 10 - sum(LIMITS.values()))
        # As many at a time as each server does, and no more.
        assert {name: now(name, "scur") for name in LIMITS} == LIMITS
        # A free server is used next.
        before = now("big2", "stot")
        get_host("big2").check_output("rm /run/kaido-gate")
        until(lambda: now("BACKEND", "qcur") == 0)
        assert now("big2", "stot") > before
        opened()
        assert [answer.result() for answer in answers] == [200] * 10


def test_a_load_is_answered_by_all_and_never_by_more_than_a_server_does() -> None:
    hecate = Gateway("hecate")
    before = hecate.asked()
    found = load("https://hecate:11443", clients=10, seconds=5)
    assert found["complete"] == found["requests"] > 15, found
    assert all(count > before[name] for name, count in hecate.asked().items())
    rows = {server: row for (backend, server), row in hecate.statistics().items() if backend == "inference-models-2"}
    assert all(int(rows[name]["smax"]) <= limit for name, limit in LIMITS.items())


def test_one_after_the_other_goes_to_all() -> None:
    """Least connections: servers without any are used in turn."""
    hecate = Gateway("hecate")
    before = hecate.asked()
    assert load("https://hecate:11443", clients=1, seconds=4)["lost"] == 0
    assert all(count > before[name] for name, count in hecate.asked().items())


@pytest.mark.parametrize("path", ["/api/generate", "/api/show", "/v1/completions"])
def test_a_model_is_tested_only_where_it_is_declared(edge: Gateway, path: str) -> None:
    before = edge.asked()
    options = {"prompt": "x", "stream": False, "options": {"num_predict": 1}, "max_tokens": 1}
    for name in ["kaido/tiny2:q8", "KAIDO/tiny2:Q8", "registry.ollama.ai/kaido/tiny2:q8", "default-chat"] * 3:
        answer = edge.ask("POST", path, json={"model": name, **options})
        assert answer.status_code == 200, answer.text
    asked = edge.asked()
    assert (asked["hecate"], asked["big3"]) == (before["hecate"], before["big3"])
    assert asked["big2"] == before["big2"] + (0 if path == "/api/show" else 12)


def test_routes_without_a_model_use_the_server_with_most_models(edge: Gateway) -> None:
    for path in ["/api/tags", "/v1/models"]:
        texts = {edge.ask("GET", path).text for _turn in range(4)}
        assert len(texts) == 1
        assert "default-chat" in texts.pop()
    before = edge.asked()
    assert edge.ask("POST", "/api/generate", json={"model": "nobody"}).status_code == 404
    asked = edge.asked()
    assert {name: asked[name] - before[name] for name in asked} == {"hecate": 0, "big2": 1, "big3": 0}
    assert edge.ask("GET", "/api/version").json() == {"version": "0.35.0"}


@needs_gate
def test_a_request_that_waits_too_long_is_refused() -> None:
    edge = Gateway("edge")
    with gate(*[get_host(name) for name in LIMITS]) as opened, ThreadPoolExecutor(8) as pool:
        body = {"model": "tiny", "prompt": "x", "stream": False}
        answers = [pool.submit(edge.ask, "POST", "/api/generate", json=body) for _client in range(8)]
        until(lambda: sum(answer.done() for answer in answers) == 8 - sum(LIMITS.values()))
        refused = [answer.result() for answer in answers if answer.done()]
        opened()
        assert sorted(answer.result().status_code for answer in answers) == [200] * 4 + [503] * 4
    assert {answer.status_code for answer in refused} == {503}
    assert all("no server is free" in answer.text for answer in refused)


@needs_gate
def test_a_disconnected_client_frees_its_slot() -> None:
    hecate = Gateway("hecate")
    body = {"model": "kaido/tiny2:q8", "prompt": "x", "stream": False}

    def now(server: str, column: str) -> int:
        return int(hecate.statistics()["inference-models-1", server][column])

    before = hecate.host.check_output("date +%s")
    with gate(get_host("big2")) as opened, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(hecate.ask, "POST", "/api/generate", json=body) for _client in range(2)]
        until(lambda: now("big2", "scur") == 2)
        # These two are answered; who comes now is next, and leaves.
        with pytest.raises(requests.exceptions.ReadTimeout):
            hecate.ask("POST", "/api/generate", json=body, timeout=1)
        until(lambda: now("BACKEND", "qcur") == 0)
        opened()
        assert [answer.result().status_code for answer in answers] == [200, 200]
    log = hecate.host.check_output(f"journalctl --unit ollama-balancer --output cat --since @{before}")
    assert "kaido/tiny2:q8 inference-models-1/<NOSRV> status=-1 end=CQ" in log


@pytest.mark.parametrize("name", ["hecate", "big2", "edge"])
def test_statistics_and_orders_are_for_the_host_alone(name: str) -> None:
    there = get_host(name)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address(there), 11444), timeout=5)
    assert there.file("/run/ollama-balancer/admin.sock").mode == 0o600
    assert there.file("/run/ollama-balancer/admin.sock").user == "ollama-balancer"
    # What nginx runs as gets requests to HAProxy, and no orders.
    connect = (
        "runuser -u ollama-gateway -- python3 -c 'import socket; socket.socket(1).connect(\"/run/ollama-balancer/%s\")'"
    )
    assert there.run(connect % "http.sock").rc == 0
    assert "PermissionError" in there.run(connect % "admin.sock").stderr
    # The statistics take no orders.
    order = "curl --silent --include --data 's=big2&action=drain&b=peers' http://127.0.0.1:11444/"
    assert "location: /;st=DENY" in there.check_output(order)


@pytest.mark.parametrize("name", ["hecate", "big2"])
def test_it_is_confined(name: str) -> None:
    there = get_host(name)
    pid = there.service("ollama-balancer").systemd_properties["MainPID"]
    status = dict(line.split(":\t") for line in there.check_output(f"grep -P ':\\t' /proc/{pid}/status").splitlines())
    assert status["CapBnd"] == status["CapEff"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split()[0] == there.check_output("id -u ollama-balancer")
    exposure = there.check_output("systemd-analyze security --no-pager ollama-balancer.service | tail -1")
    assert float(exposure.split("service: ")[1].split()[0]) <= 1.5
    assert not there.service("haproxy").is_running
    assert not there.service("haproxy").is_enabled
    assert there.service("ollama-balancer").is_enabled
    # Neither HAProxy's check nor its start has anything to complain about.
    log = there.check_output("journalctl --unit ollama-balancer --output cat") + there.check_output(
        "haproxy -c -f /etc/ollama-gateway/haproxy.cfg 2>&1"
    )
    assert "config :" not in log
    assert "Warnings were found" not in log


@pytest.mark.parametrize("hop", ["1", "own", "f" * 64])
def test_a_client_is_no_gateway(hop: str) -> None:
    """The model is on big2 alone: a request that passes the balancer of hecate would not find it."""
    gateway = Gateway("hecate")
    answer = gateway.ask("POST", "/api/show", json={"model": "kaido/tiny2:q8"}, extra={"X-Ollama-Hop": hop})
    assert answer.status_code == (502 if len(hop) == 64 else 200), answer.text


def test_the_edge_alone_has_no_server(edge: Gateway) -> None:
    rows = {server for backend, server in Gateway("edge").statistics() if backend == "own"}
    assert rows == set()
    assert not get_host("edge").service("ollama").is_running
