# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ollama_monitoring: its configuration, units and errors, evaluated by Ansible."""

from __future__ import annotations

import configparser
import json
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import install
from ansible_collections.kaido.ollama.plugins.module_utils._monitor.program import Config

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

ROLE = ROOT / "roles/ollama_monitoring"
NAMES = ("files", "errors", "changes", "package", "program", "config")


def evaluate(
    folder: Path, mine: dict[str, t.Any], others: tuple[str, ...] = (), groups: dict[str, t.Any] | None = None
) -> dict[str, t.Any]:
    """Return the variables of the role on the host dev1, a server with other gateways, or as the groups define it."""
    content = (
        "{{ {" + ", ".join(f"'{name}': ollama_monitoring__{name} | default('')" for name in NAMES) + "} | to_json }}"
    )
    play = {
        "hosts": "dev1",
        "gather_facts": False,
        "connection": "local",
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml"), "mine.yml"],
        "tasks": [
            {"ansible.builtin.copy": {"content": content, "dest": str(folder / "out.json"), "mode": "0600"}},
        ],
    }
    gateways = {name: {"ollama_gateway_enabled": True} for name in others}
    inventory = groups or {"ollama_servers": {"hosts": {"dev1": None, **gateways}}}
    (folder / "templates").symlink_to(ROLE / "templates")
    (folder / "mine.yml").write_text(yaml.safe_dump(mine))
    done = run_playbook(folder, inventory, [play])
    assert done.status == 0, done.output
    found: dict[str, t.Any] = json.loads((folder / "out.json").read_text())
    return found


def config_of(found: dict[str, t.Any], folder: Path) -> Config:
    """Return the configuration as the program reads it."""
    path = folder / "config.json"
    path.write_text(found["files"]["/etc/kaido-ollama-monitoring/config.json"])
    return Config.load(str(path))


def test_the_module_removes_what_the_role_writes(tmp_path: Path) -> None:
    found = evaluate(tmp_path, {"ollama_monitoring_enabled": True})
    units = {f"{install.UNIT_DIR}/{unit}" for unit in install.UNITS}
    assert set(found["files"]) == {*units, found["config"]}
    assert found["config"].startswith(install.CONFIG_DIR)
    assert found["program"] == install.PROGRAM
    assert found["errors"] == []
    # ansible-core 2.16 returns texts; the module converts them.
    assert {part: int(count) for part, count in found["changes"].items()} == {"gpu_driver": 0, "server": 0, "models": 0}


def test_defaults_are_those_of_the_program(tmp_path: Path) -> None:
    assert config_of(evaluate(tmp_path, {}), tmp_path) == Config()


def test_variables_of_other_roles_are_used(tmp_path: Path) -> None:
    found = evaluate(
        tmp_path,
        {
            "ollama_settings": {"host": "0.0.0.0:11500"},
            "ollama_models_dir": "/home/llm/models",
            "ollama_group": "llm",
            "ollama_gpu": False,
            "ollama_gateway_enabled": True,
            "ollama_gateway_address": "[::]",
            "ollama_monitoring_verify_share": 10,
            "ollama_monitoring_install_exporter": True,
            "ollama_report": {"models": [{"changed": True}, {"changed": False}]},
        },
    )
    config = config_of(found, tmp_path)
    assert (config.api_url, config.models_dir) == ("http://127.0.0.1:11500", "/home/llm/models")
    assert (config.gpu, config.share) == ("off", 10)
    assert config.gateway == {
        "address": "[::1]:11443", "nginx_status": "http://127.0.0.1:11445/status", "haproxy": "",
    }  # fmt: skip
    assert int(found["changes"]["models"]) == 1
    assert found["package"] == "prometheus-node-exporter"
    unit = found["files"]["/etc/systemd/system/kaido-ollama-verification.service"]
    assert "\nSupplementaryGroups=llm\n" in unit
    assert "\nBindReadOnlyPaths=/home/llm/models\n" in unit


def test_a_balancer_is_scraped_where_there_is_one(tmp_path: Path) -> None:
    found = evaluate(tmp_path, {"ollama_gateway_enabled": True}, ("hecate",))
    assert config_of(found, tmp_path).gateway["haproxy"] == "http://127.0.0.1:11444/metrics?scope=backend"


@pytest.mark.parametrize("servers", [[], ["s1"], ["s1", "s2"]])
def test_a_gateway_without_a_server_is_monitored_without_one(tmp_path: Path, servers: list[str]) -> None:
    hosts = {name: {"ollama_gateway_enabled": True} for name in servers}
    groups = {"ollama_gateways": {"hosts": {"dev1": None}}, "ollama_servers": {"hosts": hosts}}
    mine = {"ollama_gateway_enabled": True, "ollama_models_dir": "/home/llm/models"}
    found = evaluate(tmp_path, mine, groups=groups)
    units = [f"{install.UNIT_DIR}/{install.METRICS}.{kind}" for kind in ("service", "timer")]
    assert set(found["files"]) == {found["config"], *units}
    assert "SupplementaryGroups" not in found["files"][units[0]]
    assert "/home/llm/models" not in found["files"][units[0]]
    config = config_of(found, tmp_path)
    assert not config.server
    assert config.gateway["address"] == "127.0.0.1:11443"
    assert bool(config.gateway["haproxy"]) == bool(servers)


def test_a_gateway_beside_a_server_is_monitored_with_it(tmp_path: Path) -> None:
    host = {"hosts": {"dev1": None}}
    assert config_of(evaluate(tmp_path, {}, groups={"ollama_gateways": host, "ollama_servers": host}), tmp_path).server


def test_the_units_are_complete_and_sandboxed(tmp_path: Path) -> None:
    files = evaluate(tmp_path, {})["files"]
    for unit in install.UNITS:
        text = files[f"{install.UNIT_DIR}/{unit}"]
        assert text.endswith("\n")
        assert "{" not in text
        parsed = configparser.RawConfigParser(strict=False, interpolation=None)
        parsed.read_string(text)
        if unit.endswith("service"):
            service = parsed["Service"]
            assert service["User"] == "ollama-monitoring"
            assert service["NoNewPrivileges"] == "true"
            assert re.fullmatch(r"/\S+\.pyz (metrics|verify) --config /\S+", service["ExecStart"])
            # What runs as root runs in the sandbox: ! instead of +.
            assert re.match(r"!/\S+\.pyz publish ", service.get("ExecStartPost", "!/x.pyz publish "))
            assert service["CapabilityBoundingSet"] == ""
    metrics = files["/etc/systemd/system/kaido-ollama-metrics.service"]
    # The account owns only the innermost directory; the metrics are published beside it.
    assert f"RuntimeDirectory={Config().collected.split('/', 2)[2].rpartition('/')[0]}\n" in metrics
    assert Path(Config().collected).parent.parent == Path(Config().output).parent
    verification = files["/etc/systemd/system/kaido-ollama-verification.service"]
    assert "\nIOSchedulingClass=idle\n" in verification
    assert "\nCPUSchedulingPolicy=idle\n" in verification
    assert "DeviceAllow" not in verification


BAD = [
    {
        "interval": (4, "expected seconds, at least 5"),
        "verify_share": (0, "expected percent, 1 to 100"),
        "verify_delay": (-1, "expected seconds, at least 0"),
        "verify_calendar": ("weekly\nPersistent=no", "expected a calendar expression of systemd"),
        "gateway_status_port": (65536, "expected a port from 1 to 65535"),
        "textfile_directory": ("relative", "expected an absolute path"),
    },
    {
        "interval": ("often", "expected a whole number"),
        "verify_share": (101, "expected percent, 1 to 100"),
        "verify_calendar": ("", "expected a calendar expression of systemd"),
        "textfile_directory": ("/a b", "expected an absolute path"),
    },
]


@pytest.mark.parametrize("bad", BAD, ids=["first", "second"])
def test_invalid_values_are_named_with_their_variables(tmp_path: Path, bad: dict[str, tuple[object, str]]) -> None:
    errors = evaluate(tmp_path, {f"ollama_monitoring_{name}": value for name, (value, _text) in bad.items()})
    found = {error.split(":")[0]: error for error in errors["errors"]}
    assert set(found) == {f"ollama_monitoring_{name}" for name in bad}
    for name, (_value, text) in bad.items():
        assert found[f"ollama_monitoring_{name}"].startswith(f"ollama_monitoring_{name}: invalid value ")
        assert text in found[f"ollama_monitoring_{name}"]
