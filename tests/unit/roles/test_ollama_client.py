# SPDX-License-Identifier: GPL-3.0-or-later
"""How role ollama_client finds its gateway, and takes keys out of a vault: its own variables, evaluated by Ansible."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.playbook import ansible, run_playbook

ROLE = ROOT / "roles/ollama_client"
PASSWORD = "only for this test"
PLAY = [
    {
        "hosts": "dev1",
        "gather_facts": False,
        "connection": "local",
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}", "role_path": str(ROLE)},
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml"), "mine.yml"],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": "{{ ollama_client__plan | combine({'tls': ollama_client__tls_name "
                    "if ollama_client__plan.forwards | default(false) else ''}) | to_json }}",
                    "dest": "{{ playbook_dir }}/plan.json",
                    "mode": "0600",
                }
            }
        ],
    }
]
MINE = {
    "ollama_client_provider": "gateway",
    "ollama_client_forwarder": True,
    "ollama_client_providers": {"gateway": {"model": "m"}, "local": {"model": "m"}},
    "ollama_client_keys": {"gateway": "k"},
}


def plan_of(folder: Path, groups: dict[str, t.Any], mine: str | None = None) -> dict[str, t.Any]:
    """Return what the role would do on dev1, with the name in the gateway's certificate."""
    inventory = {name: {"hosts": hosts} for name, hosts in {**groups, "ollama_clients": {"dev1": None}}.items()}
    (folder / "mine.yml").write_text(mine or yaml.safe_dump(MINE))
    (folder / "password").write_text(PASSWORD)
    done = run_playbook(folder, inventory, PLAY, ANSIBLE_VAULT_PASSWORD_FILE=str(folder / "password"))
    assert done.status == 0, done.output
    found: dict[str, t.Any] = json.loads((folder / "plan.json").read_text())
    return found


GATE = {"ollama_gateway_enabled": True}


@pytest.mark.parametrize(
    ("groups", "url", "tls", "ca"),
    [
        ({"ollama_servers": {"off": None, "hecate": GATE}}, "https://hecate:11443", "hecate", True),
        ({"ollama_servers": {"s": GATE}, "ollama_gateways": {"edge": GATE}}, "https://edge:11443", "edge", True),
        (
            # The authority signs for the inventory's name too, and nginx compares names only.
            {"ollama_servers": {"hecate": {**GATE, "ansible_host": "192.0.2.1", "ollama_gateway_port": 443}}},
            "https://192.0.2.1:443", "hecate", True,
        ),
        (
            {"ollama_servers": {"hecate": {
                **GATE, "ollama_gateway_url": "https://llm.lan/", "ollama_gateway_tls_certificate": "/c"
            }}},
            "https://llm.lan", "llm.lan", False,
        ),
    ],
)  # fmt: skip
def test_the_gateway_is_found(tmp_path: Path, groups: dict[str, t.Any], url: str, tls: str, ca: bool) -> None:
    plan = plan_of(tmp_path, groups)
    assert plan["problem"] == ""
    assert (plan["endpoint"]["base_url"], plan["tls"], plan["needs_gateway_ca"]) == (url, tls, ca)


def test_there_is_no_gateway(tmp_path: Path) -> None:
    groups = {"others": {"x": GATE}, "ollama_servers": {"hecate": {"ollama_gateway_enabled": "no"}}}
    assert plan_of(tmp_path, groups)["problem"].startswith(
        "ollama_client_provider: invalid value 'gateway'; expected a gateway in"
    )
    # Other providers need no gateway; the local server has the address that role ollama configures.
    mine = {**MINE, "ollama_client_provider": "local", "ollama_settings": {"host": "0.0.0.0:11500"}}
    assert plan_of(tmp_path, {}, yaml.safe_dump(mine))["endpoint"]["base_url"] == "http://127.0.0.1:11500"


@pytest.mark.parametrize(("value", "forwards"), [("no", False), ("false", False), ("yes", True), (1, True)])
def test_the_forwarder_is_a_boolean(tmp_path: Path, value: t.Any, forwards: bool) -> None:
    """As --extra-vars and INI inventories give it: a string that is not empty is true to Jinja."""
    mine = yaml.safe_dump({**MINE, "ollama_client_forwarder": value})
    assert plan_of(tmp_path, {"ollama_servers": {"hecate": GATE}}, mine)["forwards"] is forwards


def test_keys_come_out_of_a_vault(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    password = ("--vault-password-file", tmp_path / "password")
    sealed = ansible("ansible-vault", "encrypt_string", *password, "--name", "gateway", "the-key").stdout
    assert "the-key" not in sealed
    mine = yaml.safe_dump({name: value for name, value in MINE.items() if name != "ollama_client_keys"})
    mine += "ollama_client_keys:\n" + "".join(f"  {line}\n" for line in sealed.splitlines())
    plan = plan_of(tmp_path, {"ollama_servers": {"hecate": GATE}}, mine)
    assert plan["problem"] == ""
    assert plan["files"]["/etc/kaido-ollama/keys/gateway"]["content"] == "the-key"


@pytest.mark.parametrize("installed", [True, False])
def test_a_gateway_that_is_down_keeps_the_installed_certificate(tmp_path: Path, installed: bool) -> None:
    """Field case 12: the client is converged from the certificate that it has."""
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(MINE))
    tasks = [
        task
        for task in yaml.safe_load((ROLE / "tasks/client.yml").read_text())
        if "certificate" in task["name"] and "ansible.builtin.copy" not in task
    ]
    assert len(tasks) == 2
    show = {"ansible.builtin.debug": {"msg": "{{ ollama_client__plan.files | to_json }}"}}
    down = {**GATE, "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    groups = {"ollama_servers": {"hosts": {"hecate": down}}, "ollama_clients": {"hosts": {"dev1": None}}}
    path = f"ollama_client__ca_path={tmp_path}/installed.crt"
    if installed:
        (tmp_path / "installed.crt").write_text("THE CERTIFICATE")
    done = run_playbook(tmp_path, groups, [{**PLAY[0], "tasks": [*tasks, show]}], "-e", path)
    assert (done.status == 0) == installed, done.output
    if installed:
        assert "its authority was not queried" in done.stdout
        assert "THE CERTIFICATE" in done.stdout
    else:
        assert "hecate: the gateway cannot be reached, and this host does not have the certificate" in done.stdout
