# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input of the roles beside the server: one line each, with variable, value and what is expected."""

# mypy: disable-error-code=var-annotated
from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._service.fleet import Fleet
from ansible_collections.kaido.ollama.plugins.plugin_utils.role_validation import role_options, validate

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

TOKEN = "user-token-0123456789-abcdef"
ROLES = [
    "gpu_driver",
    "ollama",
    "ollama_mirror",
    "ollama_gateway",
    "ollama_client",
    "ollama_monitoring",
    "update",
    "ollama_benchmark",
]
GATEWAY = {"ollama_gateway_enabled": True, "ollama_gateway_tokens": [{"name": "a", "token": TOKEN, "scope": "user"}]}
CLIENT = {
    "ollama_client_provider": "gateway",
    "ollama_client_providers": {"gateway": {"model": "m"}},
    "ollama_client_keys": {"gateway": TOKEN},
    "__is_client": True,
}
NOT_LISTS = ["10.0.0.0/8", "a,b", "", 5, True, None, {"a": 1}, 1.5]
NOT_STRINGS = [None, True, [], ["x"], {}, {"a": "b"}]
NOT_PORTS = [0, -1, 65536, "abc", "", "80a", None, [], 1.5, True, "11443/tcp"]
NOT_NUMBERS = ["abc", "", None, [], "1.5", True]
NOT_URLS = [
    "zeus",
    "ftp://a",
    "https://",
    "//a",
    "https://a b",
    "https://u:p@a",
    "https://a/x",
    "https://a?x",
    "https://a:0",
]
NOT_ADDRESSES = [
    "zeus",
    "localhost",
    "0.0.0.0:80",
    "[0.0.0.0]",
    "256.1.1.1",
    "[::",
    "::1:80:x",
    "",
    "10.0.0.0/8",
    "*",
    "fe80::1%eth0",
]
BAD: list[tuple[str, t.Any]] = [
    *(
        (name, value)
        for name in ("ollama_mirror_allow", "ollama_gateway_names", "ollama_gateway_servers", "ollama_gateway_tokens",
                     "ollama_client_services", "ollama_mirrors")
        for value in NOT_LISTS
    ),
    *(
        (name, value)
        for name in ("ollama_mirror_port", "ollama_gateway_port", "ollama_gateway_stats_port",
                     "ollama_client_forwarder_port")
        for value in NOT_PORTS
    ),
    *((name, value) for name in ("ollama_mirror_address", "ollama_gateway_address") for value in NOT_ADDRESSES),
    *((name, value) for name in ("ollama_mirror_url", "ollama_gateway_url") for value in NOT_URLS),
    ("ollama_gateway_url", "http://a"),
    *((name, value) for name in ("ollama_mirror_url", "ollama_gateway_url", "ollama_mirror_rate",
                                 "ollama_gateway_authority_host", "ollama_client_group") for value in NOT_STRINGS),
    *((name, value) for name in ("ollama_mirror_enabled", "ollama_gateway_enabled", "ollama_client_forwarder",
                                 "ollama_gateway_renew_authority", "ollama_sandbox", "gpu_driver_hold")
      for value in ("maybe", "", None, 2, [])),
    *((name, value) for name in ("ollama_mirror_connections", "ollama_gateway_rate", "ollama_gateway_failure_rate",
                                 "ollama_gateway_connections", "ollama_gateway_token_connections",
                                 "ollama_gateway_timeout", "ollama_gateway_queue_timeout")
      for value in [*NOT_NUMBERS, -1]),
    *((name, 0) for name in ("ollama_gateway_connections", "ollama_gateway_timeout", "ollama_gateway_queue_timeout")),
    *(("ollama_mirror_rate", value) for value in (20, "20", "20 MB", "20mb", "0m", "-1m", "m", "1.5m", "20g")),
    ("ollama_mirror_connections", 16),
    *(("ollama_gateway_max_body", value) for value in (0, "64 MB", "64mb", "-1", "", "m", None)),
    *(("ollama_mirror_allow", [value]) for value in ("10.0.0.0/33", "lan", "", 10, None, "10.0.0", "fd00::/129", "*")),
    *(("ollama_mirror_allow", [value]) for value in ("all", "localhost", "10.0.0.0/255.0.0.0", "fe80::1%eth0")),
    ("ollama_mirror_allow", ["10.0.0.0/8", "lan"]),
    *(("ollama_gateway_names", [value]) for value in ("a b", "", None, 5.5, ["a"], "https://a", "a:1", "-a", "*")),
    *(("ollama_gateway_names", [value]) for value in ("fe80::1%eth0", "[fd00::1]", "$host", "~^a$", "a..b")),
    *(("ollama_gateway_servers", [value]) for value in ("nobody", "", 5, ["a"], None)),
    ("ollama_gateway_authority_host", "nobody"),
    *((name, value) for name in ("ollama_mirror_tls_certificate", "ollama_gateway_tls_key")
      for value in ("relative.crt", "/a b", 5, None)),
    ("ollama_mirror_tls_certificate", "/only.crt"),
    ("ollama_gateway_tls_key", "/only.key"),
    *(("ollama_gateway_peer_secret", value) for value in ("short", "a b" * 10, None, 5)),
    *(("ollama_gateway_tokens", [value]) for value in (
        "alice", None, {}, {"name": "a"}, {"name": "a", "token": TOKEN}, {"name": "a", "token": TOKEN, "scope": "root"},
        {"name": "a", "token": "short", "scope": "user"}, {"name": "a", "token": "a b" * 20, "scope": "user"},
        {"name": "a", "token": TOKEN, "scope": "user", "role": "x"}, {"name": "a b", "token": TOKEN, "scope": "user"},
        {"name": None, "token": TOKEN, "scope": "user"}, {"name": "a", "token": 5, "scope": "user"},
    )),
    ("ollama_gateway_tokens", []),
    ("ollama_gateway_tokens", [{"name": "a", "token": TOKEN, "scope": "user"}] * 2),
    ("ollama_gateway_stats_port", 11443),
    *(("ollama_client_provider", value) for value in ("hecate", "", "Gateway", None, [], 5)),
    *(("ollama_client_fallback", value) for value in ("hecate", "gateway", None, ["openai"])),
    *(("ollama_client_providers", value) for value in (
        None, [], "gateway", {"hecate": {"model": "m"}}, {"gateway": "m"}, {"gateway": {}},
        {"gateway": {"model": None}},
        {"gateway": {"model": "m", "modell": "x"}}, {"gateway": {"model": "a b"}}, {"gateway": {"model": ["m"]}},
        {"gateway": {"model": "m", "url": "zeus"}}, {"gateway": {"model": "m", "url": "http://lan"}},
        {"gateway": {"model": "m", "url": "https://u:p@a"}}, {"gateway": {"model": "m", "ca": "/path"}},
    )),
    *(("ollama_client_keys", value) for value in (
        None, [], TOKEN, {}, {"gatway": TOKEN}, {"gateway": TOKEN, "hecate": TOKEN}, {"gateway": ""},
        {"gateway": None}, {"gateway": "a b"}, {"gateway": "a\n"}, {"gateway": 'a"b'},
    )),
    *(("ollama_client_group", value) for value in ("root", "", "a b", "A", "1a", "a:b", "a" * 33, "-a")),
    *(("ollama_client_services", [value]) for value in ("a b", "", "-x", None, "a;b", "../x", ["x"])),
    *(("ollama_update_serial", value) for value in ("abc", 0, -1, "0%", "101%", "50 %", [1, "x"], {}, None, "")),
    *(("ollama_update_drain", value) for value in ("abc", -1, None, "", [], "5m")),
    *(("ollama_update_probe", value) for value in ("m", None, {}, 5)),
    *(("ollama_settings", value) for value in ("host=::1", [], None, 5)),
    ("ollama_models", "llama3.2:3b"),
    ("ollama_models", None),
    # Role ollama: what module preflight and the modules of models refuse, before the run begins.
    *(("ollama_models", [value]) for value in (
        5, None, "", "a b", "a\nb", "\x1b[31m", "a:", "a@sha256:0", {}, {"name": None}, {"name": "a", "digest": "abc"},
        {"name": "a", "state": "here"}, {"name": "a", "aliases": "b"}, {"name": "a", "digset": "x"}, "a:cloud",
        {"name": "a", "state": "absent", "aliases": ["b"]}, "M" * 400, "\u2603",
    )),
    ("ollama_models", ["a", "a:latest"]),
    *(("ollama_settings", value) for value in (
        {"host": "127.0.0.1:99999"}, {"host": "a b"}, {"num_parallel": -1}, {"num_parallel": "many"},
        {"keep_alife": "5m"},
        {"keep_alive": "soon"}, {"kv_cache_type": "q3"}, {"host": None}, {"host": "0.0.0.0"}, {1: 2},
        {"https_proxy": "zeus\nx"}, {"flash_attention": "maybe"},
    )),
    *(("ollama_environment", value) for value in ("A=b", [], None, {"A B": "x"}, {"A": "x\ny"}, {"": "x"})),
    *(("ollama_unit_limits", value) for value in (
        "MemoryMax=1G", {"MemoryMax": "1M"}, {"MemoryMax": None}, {"Memorymax": "1G"}, {"CPUQuota": "0%"}, {"Nice": 99},
    )),
    *(("ollama_models_lock", value) for value in (["a"], 5, None, {"a": 1}, "/nonexistent/lock.yml", "a\nb")),
    *(("ollama_user", value) for value in ("root", "", "a b", None, 5, "-x", "a" * 40, "nobody")),
    *(("ollama_group", value) for value in ("root", "docker", "", "a:b", None)),
    *((name, value) for name in ("ollama_models_dir", "ollama_install_dir")
      for value in ("relative", "/", "/etc", "/a/../b", "/a\nb", None, 5, "")),
    *(("ollama_version", value) for value in ("v0.35.1", "latest", "", None, 0.35, "0.35", "0.1.0", "0.35.1; id")),
    *(("ollama_release_base_url", value)
      for value in ("", "ftp://a", "zeus", None, "http://", "file://host/x", "http://a b")),
    *(("ollama_release_keep", value) for value in (0, -1, "x", None, True)),
    *(("ollama_startup_timeout", value) for value in (0, -5, "soon", None, float("nan"), float("inf"))),
    *(("ollama_mirrors", [value]) for value in ("zeus lan", "ftp://a", "", 5, None)),
    *(("ollama_models_parallel", value) for value in (0, 65, "x", 1.5, None)),
    *(("ollama_models_mount_required", value) for value in ("maybe", "/mnt/other", None, 5)),
    ("ollama_gpu", "requred"),
    *(("gpu_driver_branch", value) for value in ("12", "old", "", None, "580; id")),
    *(("gpu_driver_cards", [value]) for value in ("zz", "10de", "1234:5678", None, 5)),
    *(("gpu_driver_kernel", value) for value in ("../../x", "a b", "x\n", None)),
    *(("gpu_driver_vendor", value) for value in ("nvidea", "", None, ["nvidia"])),
    *(("gpu_driver_key_fingerprint", value) for value in ("abc", None, "g" * 40)),
    *(("gpu_driver_amdgpu_dkms", value) for value in ("1.0", None)),
    *(("ollama_monitoring_interval", value) for value in (0, 4, -1, "often", None, 10**9)),
    *(("ollama_monitoring_verify_share", value) for value in (0, 101, "half", None)),
    *(("ollama_monitoring_verify_calendar", value) for value in ("", "weekly\nPersistent=no", None, "; id")),
    *(("ollama_monitoring_textfile_directory", value) for value in ("", "relative", "/a b", None)),
    *(("ollama_monitoring_exporter_package", value) for value in ("", "a b", "-y", None)),
    *(("ollama_monitoring_gateway_status_port", value) for value in NOT_PORTS),
    *((name, value) for name in ("ollama_benchmark_parallel", "ollama_benchmark_prompt_tokens")
      for value in ([], [0], [-1], ["x"], "1,2", None, [10**9])),
    *((name, value) for name in ("ollama_benchmark_rounds", "ollama_benchmark_time_limit", "ollama_benchmark_timeout",
                                 "ollama_benchmark_answer_tokens") for value in (0, -1, "x", None, 10**9)),
    *(("ollama_benchmark_models", [value]) for value in ("a b", "", None, 5)),
    *(("ollama_benchmark_threshold", value) for value in (-1, "x", None, 10**6)),
]  # fmt: skip


def check(name: str, value: t.Any) -> list[str]:
    values = {**GATEWAY, **CLIENT, name: value}
    hosts: dict[str, dict[str, t.Any]] = {"a": values, "b": {**GATEWAY, "ansible_host": "192.0.2.2"}}
    groups = {"all": ["a", "b"], "ollama_servers": ["a", "b"]}
    record = Fleet(groups, hosts).record()
    return (
        validate(
            ROLES, values, record, {"name": "a", "groups": groups, "hostvars": hosts, "inventory_dir": "/nonexistent"}
        )
        + record["errors"]
    )


def identify(case: t.Any) -> str:
    return json.dumps(case, default=str)[:60]


def test_the_table_is_long_enough() -> None:
    assert len({identify(case) for case in BAD}) >= 300


@pytest.mark.parametrize(("name", "value"), BAD, ids=identify)
def test_each_is_one_line_that_names_the_variable_and_what_is_expected(name: str, value: t.Any) -> None:
    found = check(name, value)
    assert found, "accepted"
    stem = name.removesuffix("_certificate").removesuffix("_key")
    assert any(line.startswith(stem) for line in found), found
    for line in found:
        assert "\n" not in line
        assert len(line) < 400
        assert "Error" not in line
        assert "u:p" not in line
        assert TOKEN not in line


NOT_FINITE = [float("inf"), float("-inf"), float("nan"), ".inf", "nan", "9" * 5000]
NOT_MAPPINGS = [*NOT_FINITE, 5, 1.5, True, "x", [], [1], ["a"], [[]], [{"a": 1}], {1: 2}, 10**400]
WRONG_TYPES: dict[str, list[t.Any]] = {
    "str": [float("inf"), float("-inf"), float("nan"), True, None, [], {}, {1: 2}, [{}]],
    "path": [*NOT_FINITE[:3], 5, 1.5, 10**400, True, None, [], {}, {1: 2}],
    "int": [*NOT_FINITE, 10**400, 1.5, True, None, [], [1], {}, {"a": 1}],
    "float": [*NOT_FINITE, 10**400, True, None, [], [1], {}, {"a": 1}],
    "bool": [*NOT_FINITE, 10**400, 1.5, 7, None, [], [True], {}],
    "list": [*NOT_FINITE, 10**400, 5, 1.5, True, None, {}, {1: 2}],
    "dict": [*NOT_MAPPINGS, None],
}
# Its form is not a type, and a single number is a valid list of hosts at a time.
OTHER_TYPES = {"ollama_models_lock", "ollama_models_mount_required", "ollama_gpu", "ollama_update_serial"}


@pytest.mark.parametrize("role", ROLES)
def test_values_of_a_wrong_type_are_one_line(role: str) -> None:
    """Each variable with values of all other types, also where ansible-core ends with an exception of its own."""
    for name, option in role_options(role).items():
        kind = option.get("type", "str")
        cases = [*WRONG_TYPES.get(kind, [])]
        if kind == "list" and option.get("elements") in ("int", "dict", "str"):
            cases += [[value] for value in WRONG_TYPES[option["elements"]]]
        elif option.get("options"):
            cases += [{key: value} for key in option["options"] for value in WRONG_TYPES["dict"]]
        for value in [] if name in OTHER_TYPES else cases:
            found = check(name, value)
            assert any(line.startswith(name) for line in found), (name, value, found)
            assert all("\n" not in line and len(line) < 400 for line in found), found


@pytest.mark.parametrize("value", [*NOT_MAPPINGS, None, "a=b", {"a": {1: 2}}, "\ud800"], ids=str)
@pytest.mark.parametrize("name", ["host", "num_parallel", "keep_alive", "gpu_overhead", "flash_attention", "a"])
def test_settings_of_any_type_are_refused_or_accepted(name: str, value: t.Any) -> None:
    for line in check("ollama_settings", {name: value}):
        assert "ollama_settings" in line
        assert "\n" not in line


@pytest.mark.parametrize("value", [*NOT_MAPPINGS, None, "a=b", {"a": {1: 2}}, "\ud800"], ids=str)
def test_keys_of_models_of_any_type_are_refused_or_accepted(value: t.Any) -> None:
    custom = ("files", "adapters", "system", "template", "parameters", "messages", "license", "quantize")
    plain = ("state", "digest", "aliases", "source", "verify", "loaded", "keep_alive", "probe", "from")
    entries: list[dict[str, t.Any]] = [{"name": "a", key: value} for key in plain]
    entries += [{"name": "a", "from": "b", key: value} for key in custom]
    entries.append({"name": "a", "from": "b", "parameters": {"num_ctx": value}})
    entries.append({"name": "a", "loaded": True, "probe": {"tokens_per_second": value}})
    for line in [line for entry in entries for line in check("ollama_models", [entry])]:
        assert line.startswith("ollama_")
        assert "\n" not in line


GOOD: list[tuple[str, t.Any]] = [
    ("ollama_mirror_allow", []),
    ("ollama_mirror_allow", ["10.1.2.3", "::1", "fd00::/8", "10.0.0.0/8"]),
    *(("ollama_mirror_address", value) for value in ("0.0.0.0", "::", "[::]", "127.0.0.1", "fd00::1", "[fd00::1]")),
    *(("ollama_mirror_url", value) for value in ("", "http://a", "https://a:1/", "http://[fd00::1]:80", "http://10.0.0.1")),
    *(("ollama_mirror_rate", value) for value in ("", "20m", "500k", "1M")),
    *(("ollama_mirror_connections", value) for value in (0, "0", 17, "100")),
    ("ollama_gateway_names", ["llm.lan", "10.0.0.1", "::1", "*.lan"]),
    ("ollama_gateway_port", "443"),
    ("ollama_gateway_max_body", 1000000),
    ("ollama_gateway_servers", ["a"]),
    ("ollama_gateway_servers", ["b", "a"]),
    ("ollama_client_keys", {"gateway": TOKEN, "openai": "sk-1"}),
    ("ollama_client_services", ["notes.service", "notes@1.service", "notes"]),
    *(("ollama_update_serial", value) for value in (1, "1", "50%", "100%", [1, "10%"])),
    *(("ollama_update_drain", value) for value in (0, "300", 0.5)),
    ("ollama_gpu", False),
    ("ollama_sandbox", "no"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), GOOD, ids=identify)
def test_valid_values_are_accepted(name: str, value: t.Any) -> None:
    assert check(name, value) == []


def test_all_defaults_are_valid() -> None:
    values: dict[str, t.Any] = {}
    for role in [name for name in ROLES if name != "update"]:
        values |= yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text()) or {}
    found = validate(ROLES, values, Fleet({}, {}).record(), {"name": "a", "groups": {}, "hostvars": {"a": {}}})
    assert found == []


def test_each_variable_of_these_roles_has_a_type_or_a_rule() -> None:
    """A text without choices and without a rule would be accepted whatever it is."""
    from ansible_collections.kaido.ollama.plugins.module_utils._service.validation import RULES

    for role in ("ollama_mirror", "ollama_gateway", "ollama_client"):
        for name, option in role_options(role).items():
            free = option["type"] in ("str", "path", "int") and not option.get("choices")
            checked = name in RULES or name == "ollama_gateway_authority_host"
            assert checked or not free, name


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        # The default of another role is known only within that role.
        ({"ollama_release_base_url": "https://releases.lan/{{ ollama_version }}"}, ""),
        ({"ollama_gateway_names": "{{ nothing }}"}, "ollama_gateway_names: the template cannot be resolved: "),
        (
            {"ollama_models": [{"name": "a", "from": "b", "template": "{{ .Prompt }}"}]},
            "must not evaluate with !unsafe",
        ),
        ({"ollama_gateway_names": "{{ ['a.lan'] }}"}, ""),
    ],
)
def test_values_are_templates(tmp_path: Path, variables: dict[str, t.Any], message: str) -> None:
    inventory = {"ollama_servers": {"hosts": {"a": {"ansible_connection": "local"}}, "vars": variables}}
    play = [{"hosts": "all", "gather_facts": False, "roles": ["kaido.ollama.ollama_services"]}]
    done = run_playbook(tmp_path, inventory, play)
    assert (done.status == 0) == (not message), done.output
    assert message in done.output
