"""Who is asked for what, and who waits: judged by the balancers' own statistics, and from outside."""

from __future__ import annotations

import csv
import json
import os
import socket
import typing as t
from pathlib import Path

import pytest
import requests
import testinfra

LAB = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".cache/lab" / f"molecule-{os.environ['MOLECULE_SCENARIO_NAME']}"
TOKEN = "token-of-the-load-0123456789"
LIMITS = {"hecate": 1, "big2": 2, "big3": 1}


def host(name: str) -> t.Any:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=str(LAB / "inventory"), sudo=True)


def address(name: str) -> str:
    return str(host(name).check_output("hostname -I").split()[0])


class Door:
    """A gateway, from outside."""

    def __init__(self, name: str) -> None:
        self.host = host(name)
        self.url = f"https://{address(name)}:11443"
        self.ca = LAB / "ca.crt"
        self.ca.write_text(self.host.check_output("cat /etc/ollama-gateway/ca.crt"))

    def ask(
        self, method: str, path: str, extra: t.Mapping[str, str] | None = None, **options: t.Any
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}", **(extra or {})}
        return requests.request(method, self.url + path, headers=headers, verify=str(self.ca), timeout=30, **options)

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


@pytest.fixture(scope="module", params=["hecate", "door"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(request.param)


def load(url: str, **options: t.Any) -> dict[str, t.Any]:
    arguments = " ".join(f"--{key} {value}" for key, value in options.items())
    program = "python3 /usr/local/bin/load.py --ca /etc/ollama-gateway/ca.crt --token-file /usr/local/etc/token"
    found: dict[str, t.Any] = json.loads(host("door").check_output(f"{program} {url} {arguments}"))
    return found


def test_requests_wait_at_the_balancer_and_go_to_who_is_free() -> None:
    hecate = Door("hecate")
    before = hecate.asked()
    found = load("https://hecate:11443", clients=10, seconds=5)
    assert found["complete"] == found["requests"] > 15, found
    rows = {server: row for (backend, server), row in hecate.statistics().items() if backend == "inference-models-2"}
    # Never more at a time than a server does; and while others waited, as many.
    assert {name: int(rows[name]["smax"]) for name in LIMITS} == LIMITS
    assert int(rows["BACKEND"]["qmax"]) >= 4
    asked = {name: count - before[name] for name, count in hecate.asked().items()}
    share = found["requests"] / 4
    assert all(abs(asked[name] - LIMITS[name] * share) <= 2 for name in LIMITS), asked


def test_one_after_the_other_goes_to_all() -> None:
    """Least connections: who has none is asked in turns."""
    hecate = Door("hecate")
    before = hecate.asked()
    assert load("https://hecate:11443", clients=1, seconds=4)["lost"] == 0
    assert all(count > before[name] for name, count in hecate.asked().items())


@pytest.mark.parametrize("path", ["/api/generate", "/api/show", "/v1/completions"])
def test_a_model_is_only_asked_where_it_is_declared(door: Door, path: str) -> None:
    before = door.asked()
    options = {"prompt": "x", "stream": False, "options": {"num_predict": 1}, "max_tokens": 1}
    for name in ["kaido/tiny2:q8", "KAIDO/tiny2:Q8", "registry.ollama.ai/kaido/tiny2:q8", "default-chat"] * 3:
        answer = door.ask("POST", path, json={"model": name, **options})
        assert answer.status_code == 200, answer.text
    asked = door.asked()
    assert (asked["hecate"], asked["big3"]) == (before["hecate"], before["big3"])
    assert asked["big2"] == before["big2"] + (0 if path == "/api/show" else 12)


def test_what_no_model_decides_is_answered_by_who_has_most(door: Door) -> None:
    for path in ["/api/tags", "/v1/models"]:
        texts = {door.ask("GET", path).text for _turn in range(4)}
        assert len(texts) == 1
        assert "default-chat" in texts.pop()
    before = door.asked()
    assert door.ask("POST", "/api/generate", json={"model": "nobody"}).status_code == 404
    asked = door.asked()
    assert {name: asked[name] - before[name] for name in asked} == {"hecate": 0, "big2": 1, "big3": 0}
    assert door.ask("GET", "/api/version").json() == {"version": "0.35.0"}


def test_who_waits_too_long_is_told_so() -> None:
    found = load("https://door:11443", clients=12, seconds=3)
    assert found["lost"] > 0
    assert found["cut"] == found["wrong"] == 0
    assert {why.split(":")[1] for why in found["why"]} == {" status 503"}
    assert "no server is free" in found["why"][0]


def test_who_leaves_gives_up_the_place() -> None:
    hecate = Door("hecate")
    ask = (
        f"curl -s -o /dev/null --cacert /etc/ollama-gateway/ca.crt -H 'Authorization: Bearer {TOKEN}'"
        """ -d '{"model": "kaido/tiny2:q8", "prompt": "x"}' https://hecate:11443/api/generate -m"""
    )
    # Two are answered, one would be next.
    host("door").run(f"{ask} 5 & {ask} 5 & sleep 0.2; {ask} 0.3; wait")
    assert int(hecate.statistics()["inference-models-1", "BACKEND"]["qcur"]) == 0
    log = hecate.host.check_output("journalctl --unit ollama-balancer --output cat --since -15s")
    assert "kaido/tiny2:q8 inference-models-1/<NOSRV> status=-1 end=CQ" in log


@pytest.mark.parametrize("name", ["hecate", "big2", "door"])
def test_statistics_and_orders_are_for_the_host_alone(name: str) -> None:
    there = host(name)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address(name), 11444), timeout=5)
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
    there = host(name)
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
    gateway = Door("hecate")
    answer = gateway.ask("POST", "/api/show", json={"model": "kaido/tiny2:q8"}, extra={"X-Ollama-Hop": hop})
    assert answer.status_code == (502 if len(hop) == 64 else 200), answer.text


def test_the_door_alone_has_no_server(door: Door) -> None:
    rows = {server for backend, server in Door("door").statistics() if backend == "own"}
    assert rows == set()
    assert not host("door").service("ollama").is_running
