# SPDX-License-Identifier: GPL-3.0-or-later
"""The no-op converge of role 17_ollama on one lab host with ten verified models, over SSH, as a user runs it."""

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
    lab = Lab("bench")
    try:
        lab.up(Wanted({"hecate": "debian12"}, models=names))
        extra = ROOT / ".cache" / "bench.yml"
        extra.write_text(yaml.safe_dump({"ollama_servers": {"vars": {"ollama_models": list(names)}}}))
        site = ("ansible-playbook", "-i", str(lab.inventory), "-i", str(extra), "playbooks/site.yml")
        first, _output = play(*site)
        pings, seconds = [], []
        for _run in range(RUNS):
            pings.append(play("ansible", "localhost", "-m", "ping")[0])
            spent, output = play(*site)
            seconds.append(spent)
            if "changed=0" not in output:
                raise SystemExit(f"the converge was no no-op:\n{output}")
        calls = len(re.findall(r"Using module file", play(*site, "-vvv")[1]))
        yield "first converge, models of 10 MB in all", f"{first:.1f} s"
        yield "no-op converge, ten verified models", f"{statistics.median(seconds):.2f} s"
        yield "  remote module calls", f"{calls}"
        yield "  against `ansible localhost -m ping`", f"{statistics.median(seconds) / statistics.median(pings):.2f}"
    finally:
        lab.down()
