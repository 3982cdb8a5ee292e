# SPDX-License-Identifier: GPL-3.0-or-later
"""Three servers behind one gateway: the cost of gateway and load balancer, the distribution, and the loss of a host."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import typing as t

import yaml

from tests.lab.lab import Lab, Wanted, connect

from .converge import ROOT, play

SERVERS = ("hecate", "big2", "big3")
TOKEN = "token-of-the-bench-0123456789"
LOAD = ROOT / "molecule" / "balance" / "files" / "load.py"
FLEET = {
    "ollama_servers": {
        "vars": {
            "ollama_models": ["tiny:latest"],
            "ollama_environment": {"STANDIN_TOKEN_SECONDS": "0.02"},
            "ollama_gateway_enabled": True,
            "ollama_gateway_rate": 0,
            "ollama_gateway_tokens": [{"name": "bench", "token": TOKEN, "scope": "user"}],
        }
    }
}


class Fleet:
    """The hosts of the lab; requests come from this machine or from hecate."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        hosts = yaml.safe_load((lab.inventory / "hosts.yml").read_text())["ollama_servers"]["hosts"]
        self.url = f"https://{hosts['hecate']['ansible_host']}:11443"
        self.ca = lab.dir / "ca.crt"
        self.ca.write_text(self.run("cat /etc/ollama-gateway/ca.crt"))
        self.token = lab.dir / "token"
        self.token.write_text(TOKEN)

    def run(self, command: str, text: str = "") -> str:
        """Run a command on hecate."""
        ssh = ["ssh", "-F", str(self.lab.ssh_config), "hecate", command]
        return subprocess.run(ssh, input=text, capture_output=True, text=True, check=True).stdout

    def start(self, **options: t.Any) -> subprocess.Popen[str]:
        """Send requests from this machine."""
        given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        command = [sys.executable, str(LOAD), self.url, "--ca", str(self.ca), "--token-file", str(self.token), *given]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def median(self, url: str) -> dict[str, t.Any]:
        """Send requests from hecate, one after the other."""
        self.run("umask 077; cat >token", TOKEN)
        options = "--ca /etc/ollama-gateway/ca.crt --token-file token --clients 1 --seconds 15"
        found: dict[str, t.Any] = json.loads(self.run(f"python3 - {url} {options}", LOAD.read_text()))
        return found

    def asked(self) -> dict[str, int]:
        """Return the number of requests that each server received from the load balancer of hecate."""
        rows = csv.DictReader(self.run("curl --silent 'http://127.0.0.1:11444/;csv'").splitlines())
        return {row["svname"]: int(row["stot"]) for row in rows if row["# pxname"] == "inference-models-1"}


def balance() -> t.Iterator[tuple[str, str]]:
    lab = Lab("bench")
    try:
        lab.up(Wanted(dict.fromkeys(SERVERS, "debian12")))
        extra = ROOT / ".cache" / "bench.yml"
        extra.write_text(yaml.safe_dump(FLEET))
        play("ansible-playbook", "-i", str(lab.inventory), "-i", str(extra), "playbooks/site.yml")
        fleet = Fleet(lab)
        direct = fleet.median("http://127.0.0.1:11434")
        through = fleet.median("https://127.0.0.1:11443")
        for what, key in (("the first word of an answer", "first"), ("an answer of 24 words", "median")):
            yield f"{what}: from the server itself", f"{1000 * direct[key]:.1f} ms"
            yield (
                "  through gateway and load balancer, each on a new connection",
                f"+ {1000 * (through[key] - direct[key]):.1f} ms",
            )

        before = fleet.asked()
        done = json.loads(fleet.start(clients=12, seconds=15).communicate()[0])
        shares = [count - before[name] for name, count in fleet.asked().items() if name in SERVERS]
        yield f"{done['requests']} requests of 12 clients for 3 servers, one at a time each", "/".join(map(str, shares))
        yield (
            "  of the most that the servers can do in that time",
            f"{done['requests'] * direct['median'] / 3 / done['seconds']:.2f}",
        )

        asking = fleet.start(clients=12, seconds=15)
        try:
            asking.wait(5)
        except subprocess.TimeoutExpired:
            connect().containers.get(f"{lab.prefix}-big3").kill()
        done = json.loads(asking.communicate()[0])
        yield "one of the 3 hosts dies while 12 clients ask: requests", f"{done['requests']}"
        yield "  lost without a byte of an answer", f"{done['lost']}"
        yield "  cut short in mid-answer", f"{done['cut']}"
        yield "  the longest that one took", f"{done['slowest']:.1f} s"
    finally:
        lab.down()
