# SPDX-License-Identifier: GPL-3.0-or-later
"""The no-op converge of playbook site in the lab, over SSH, as a user runs it: one host with ten models, four hosts."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import yaml

from tests.lab.demo import environment
from tests.lab.lab import Lab, Wanted

ROOT = Path(__file__).resolve().parents[2]
RUNS = 5


def play(*arguments: str) -> tuple[float, str]:
    """Run a command of Ansible; returns the seconds and the output."""
    command = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]]
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment()}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return time.monotonic() - started, done.stdout


def converge() -> t.Iterator[tuple[str, str]]:
    names = {f"bench/m{index}:1b": "1M" for index in range(10)}
    yield from without_changes(["hecate"], names, {"ollama_models": list(names)}, {})


def hosts() -> t.Iterator[tuple[str, str]]:
    """Four servers; one of them is the mirror, and all are behind its gateway."""
    variables = {
        "ollama_models": ["tiny:latest"],
        "ollama_gateway_tokens": [{"name": "bench", "token": "token-of-the-bench-0123456789", "scope": "user"}],
    }
    first = {"ollama_mirror_enabled": True, "ollama_gateway_enabled": True}
    yield from without_changes(["hecate", "dev1", "dev2", "dev3"], {}, variables, first)


def without_changes(
    hosts: list[str], models: dict[str, str], variables: dict[str, t.Any], first_host: dict[str, t.Any]
) -> t.Iterator[tuple[str, str]]:
    """Converge, then measure converges without changes beside a ping, one of each at a time.

    :param models: models for the registry, name -> size.
    :param first_host: variables of the first host.
    """
    lab = Lab("bench")
    try:
        lab.up(Wanted(dict.fromkeys(hosts, "debian12"), models=models))
        extra = ROOT / ".cache" / "bench.yml"
        extra.write_text(yaml.safe_dump({"ollama_servers": {"hosts": {hosts[0]: first_host}, "vars": variables}}))
        site = ("ansible-playbook", "-i", str(lab.inventory), "-i", str(extra), "playbooks/site.yml")
        first, _output = play(*site)
        pings, seconds, output = [], [], ""
        for _run in range(RUNS):
            pings.append(play("ansible", "localhost", "-m", "ping")[0])
            spent, output = play(*site)
            seconds.append(spent)
            if re.search("changed=[^0]", output):
                raise SystemExit(f"the converge was no no-op:\n{output}")
        calls = len(re.findall(r"Using module file", play(*site, "-vvv")[1]))
        yield "first converge", f"{first:.1f} s"
        yield f"no-op converge, hosts: {len(hosts)}", f"{statistics.median(seconds):.2f} s"
        yield "  remote module calls", f"{calls}"
        yield "  lines of output", f"{len(output.splitlines())}"
        yield "  against `ansible localhost -m ping`", f"{statistics.median(seconds) / statistics.median(pings):.2f}"
    finally:
        lab.down()
