# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers for the tests of all scenarios: the lab of the scenario, its hosts, and the server that they run.

Tests import it by its name: `from conftest import LAB, get_host`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t
from pathlib import Path

import testinfra
import yaml

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = os.environ["MOLECULE_SCENARIO_NAME"]
LAB = PROJECT / ".cache/lab" / f"molecule-{SCENARIO}"

sys.path.append(str(PROJECT))

from tests.standin import until  # noqa: E402

__all__ = ["LAB", "PROJECT", "address", "gate", "get_host", "is_stand_in", "until"]


def get_host(name: str) -> t.Any:
    """A host of the lab, as root."""
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=str(LAB / "inventory"), sudo=True)


def address(host: t.Any) -> str:
    return str(host.check_output("hostname -I").split()[0])


def is_stand_in(version: str) -> bool:
    """Whether the lab's own server has that version, and not one of LAB_RELEASES: only that one keeps times."""
    inventory = yaml.safe_load((LAB / "inventory/hosts.yml").read_text())
    return version not in inventory["ollama_servers"]["vars"]["lab_given_releases"]


@contextlib.contextmanager
def gate(*hosts: t.Any, path: str = "/run/kaido-gate") -> t.Iterator[t.Callable[[], None]]:
    """A stand-in whose STANDIN_GATE is the path waits after the first word of each answer; the callable opens it."""

    def open_() -> None:
        for host in hosts:
            host.check_output(f"rm -f {path}")

    for host in hosts:
        host.check_output(f"touch {path}")
    try:
        yield open_
    finally:
        open_()
