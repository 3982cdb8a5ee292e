# SPDX-License-Identifier: GPL-3.0-or-later
"""A converged host in enforcing mode: types of files, and denials."""

from __future__ import annotations

import re
import typing as t

import pytest

DENIED = re.compile(r"avc:  denied .* scontext=\w+:\w+:(?P<source>\w+)\S* .* permissive=0")
DIRECTORIES = (
    "/etc/kaido-ollama-monitoring",
    "/etc/ollama",
    "/etc/systemd/system",
    "/opt/ollama",
    "/usr/local",
    "/usr/share/ollama",
    "/var/lib/kaido-ollama",
    "/var/lib/kaido-ollama-monitoring",
)


def type_of_the_server(host: t.Any) -> str:
    process = host.service("ollama").systemd_properties["MainPID"]
    context: str = host.check_output("cat /proc/%s/attr/current", process)
    return context.rstrip("\0").split(":")[2]


def test_the_policy_is_enforced(host: t.Any) -> None:
    assert host.check_output("getenforce") == "Enforcing"


@pytest.mark.parametrize("path", DIRECTORIES)
def test_files_have_the_types_of_the_policy(host: t.Any, path: str) -> None:
    assert host.check_output("restorecon -n -v -R %s", path) == ""


def test_the_release_has_the_types_of_programs(host: t.Any) -> None:
    assert host.check_output("restorecon -n -v -R -F /opt/ollama/releases/0.35.1") == ""
    assert ":bin_t:" in host.check_output("stat --format %C /opt/ollama/releases/0.35.1/bin/ollama")


def test_neither_the_server_nor_ansible_is_denied_anything(host: t.Any) -> None:
    """Debian's policy denies other programs of the system something, such as systemd-networkd."""
    denials = [match for match in map(DENIED.search, host.check_output("dmesg").splitlines()) if match]
    ours = {type_of_the_server(host), "unconfined_t"}
    assert [match[0] for match in denials if match["source"] in ours] == []
