# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients on dev1, which know only what the role wrote; and what others, there and on the network, can do."""

from __future__ import annotations

import json
import os
import re
import socket
import typing as t
from pathlib import Path

import pytest
import yaml
from conftest import get_host, is_stand_in

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
# Only that one takes a twentieth of a second for each word.
STAND_IN = is_stand_in("0.35.1")
TOKEN = yaml.safe_load((SCENARIO / "inventory/clients.yml").read_text())["ollama_clients"]["vars"][
    "ollama_client_keys"
]["gateway"]
# As a service: an account of its own, which is in the group.
SERVICE = (
    "systemd-run --quiet --wait --pipe --property DynamicUser=true --property SupplementaryGroups=%s "
    "--setenv PYTHONPATH=/opt/clients python3 /opt/clients/prove.py "
)
ALL = {
    ("ollama", "list"), ("ollama", "generate"), ("ollama", "chat"), ("ollama", "embed"),
    ("openai", "models"), ("openai", "chat"), ("openai", "embeddings"),
}  # fmt: skip


def outcomes(output: str) -> dict[tuple[str, str], str]:
    """The result of each check of prove.py: ok or FAILED, and the details."""
    rows = [line.split(maxsplit=3) for line in output.splitlines() if line.startswith(("ok", "FAILED"))]
    return {(client, what): f"{outcome} {how}" for outcome, client, what, how in rows}


def worked(output: str) -> set[tuple[str, str]]:
    return {tried for tried, how in outcomes(output).items() if how.startswith("ok ")}


def test_through_the_gateway(host: t.Any) -> None:
    done = host.run(SERVICE % "kaido-ollama")
    assert done.rc == 0, done.stdout + done.stderr
    assert worked(done.stdout) == ALL | {("curl", "chat")}
    base = json.loads(host.file("/etc/kaido-ollama/endpoint.json").content_string)["base_url"]
    assert f"asking gateway at {base}\n" in done.stdout
    # Word by word: at once it would be a thousandth of that.
    pieces, first, last = re.findall(r"[\d.]+", outcomes(done.stdout)["ollama", "chat"])[:3]
    assert int(pieces) > 3
    assert not STAND_IN or float(last) - float(first) > 0.05 * (int(pieces) - 3) / 2


def test_through_the_forwarder(host: t.Any) -> None:
    """By anybody on this host, without token or certificate."""
    done = host.run(SERVICE % "nogroup" + "--forwarder")
    assert done.rc == 0, done.stdout + done.stderr
    assert worked(done.stdout) == ALL
    pieces, first, last = re.findall(r"[\d.]+", outcomes(done.stdout)["ollama", "chat"])[:3]
    assert not STAND_IN or float(last) - float(first) > 0.05 * (int(pieces) - 3) / 2


def test_the_command_ollama_reaches_the_gateway(host: t.Any) -> None:
    assert "kaido/embed:q8" in host.check_output("sudo -iu ops ollama list")
    # dev1's own server has no such model.
    assert "kaido/embed:q8" not in host.check_output("curl --silent --fail http://127.0.0.1:11434/api/tags")
    refused = host.run("sudo -iu ops ollama pull tiny")
    assert refused.rc != 0
    assert "admin" in refused.stderr


def test_without_the_authority_tls_fails(host: t.Any) -> None:
    host.check_output("mkdir -p /opt/blind")
    for name, pattern in (
        ("endpoint.json", r's|"ca_file": .*|"ca_file": null,|'),
        ("endpoint.env", "s|CA_FILE=.*|CA_FILE=|"),
    ):
        host.check_output("sed %s /etc/kaido-ollama/%s >/opt/blind/%s", pattern, name, name)
    done = host.run(SERVICE % "kaido-ollama" + "--endpoint /opt/blind/endpoint.json")
    assert done.rc == 1, done.stdout + done.stderr
    found = outcomes(done.stdout)
    assert set(found) == ALL | {("curl", "chat")}
    for (client, what), how in found.items():
        assert how.startswith("FAILED ")
        # The package ollama keeps the reason to itself, but for streams.
        assert "certificate" in how.lower() or (client == "ollama" and what != "chat")


def test_a_description_of_another_version_is_not_guessed_at(host: t.Any) -> None:
    host.check_output("""sed 's|"version": 1|"version": 2|' /etc/kaido-ollama/endpoint.json >/opt/v2.json""")
    done = host.run(SERVICE % "kaido-ollama" + "--endpoint /opt/v2.json")
    assert (done.rc, done.stdout) == (2, "")
    assert "version 2" in done.stderr


def test_the_host_listens_on_no_other_address(host: t.Any) -> None:
    for url in ("http://hecate:11434/", "http://hecate:11434/api/version"):
        assert host.run(f"curl --silent --max-time 5 {url}").rc == 7
    assert host.check_output("curl --silent --insecure --output /dev/null --write-out %{http_code} "
                             "https://hecate:11443/api/tags") == "401"  # fmt: skip


@pytest.mark.parametrize(
    ("path", "group", "mode"),
    [
        ("/etc/kaido-ollama/endpoint.json", "root", 0o644),
        ("/etc/kaido-ollama/endpoint.env", "root", 0o644),
        ("/etc/kaido-ollama/ca/gateway.crt", "root", 0o644),
        ("/etc/kaido-ollama/keys", "kaido-ollama", 0o750),
        ("/etc/kaido-ollama/keys/gateway", "kaido-ollama", 0o640),
        ("/etc/ollama-forwarder/token.conf", "root", 0o600),
    ],
)
def test_files_have_the_expected_owners(host: t.Any, path: str, group: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == ("root", group, mode)


def test_the_token_is_in_no_other_file(host: t.Any) -> None:
    assert host.run("sudo -u nobody cat /etc/kaido-ollama/keys/gateway").rc != 0
    # sudo writes down what these tests call: a pattern that does not match itself.
    pattern = f"[{TOKEN[0]}]{TOKEN[1:]}"
    found = host.run("grep -rls -- %s /etc /var /run /home /root /tmp /opt", pattern).stdout.split()
    assert set(found) == {"/etc/kaido-ollama/keys/gateway", "/etc/ollama-forwarder/token.conf"}
    assert not host.run("journalctl --output cat | grep -- %s", pattern).stdout
    assert not host.run("cat /proc/[0-9]*/cmdline | grep --text -- %s", pattern).stdout


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 200),
        (["Host: localhost:11435"], 200),
        (["Origin: http://localhost:3000"], 200),
        # A page whose name was made to point here
        (["Host: evil.example:11435"], 403),
        (["Host: localhost.evil.example"], 403),
        (["Host: 192.0.2.1"], 403),
        # A page that posts across origins; this answer is Ollama's own.
        (["Origin: https://evil.example"], 403),
        # No token but its own
        (["Authorization: Bearer other"], 200),
    ],
)
def test_the_forwarder_is_not_for_web_pages(host: t.Any, headers: list[str], status: int) -> None:
    more = " ".join(f"--header '{header}'" for header in headers)
    command = f"curl --silent --output /dev/null --write-out %{{http_code}} {more} http://127.0.0.1:11435/api/tags"
    assert host.check_output(command) == str(status)


def test_the_forwarder_listens_on_loopback_alone_and_is_confined(host: t.Any) -> None:
    address = host.check_output("hostname -I").split()[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, 11435), timeout=5).close()
    assert sorted(set(host.check_output("ps -C nginx -o user:20=").split())) == ["ollama-forwarder", "root"]
    host.check_output("systemd-analyze security --threshold=30 ollama-forwarder.service")
    assert not host.run("systemctl is-enabled nginx.service").stdout.startswith("enabled")


def test_the_gateway_logs_the_name_of_the_token(host: t.Any) -> None:
    hecate = get_host("hecate")
    lines = hecate.check_output("journalctl --identifier ollama_gateway --output cat").splitlines()
    assert [line for line in lines if line.split()[2:6] == ["dev1", "POST", "/api/chat", "200"]]
