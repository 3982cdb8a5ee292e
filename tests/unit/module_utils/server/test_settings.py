# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings table: the result of each value, refused values, and their messages."""

from __future__ import annotations

import re
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._server import settings as settings_module

from tests.conftest import ROOT

TEMPLATE = ROOT / "roles/ollama/templates/ollama.env.j2"

ACCEPTED: list[tuple[str, Any, str]] = [
    ("host", "127.0.0.1", "127.0.0.1:11434"),
    ("host", "127.0.0.1:11555", "127.0.0.1:11555"),
    ("host", "localhost", "localhost:11434"),
    ("host", "hecate.lan:80", "hecate.lan:80"),
    ("host", "http://127.0.0.1:11555", "127.0.0.1:11555"),
    ("host", "::1", "[::1]:11434"),
    ("host", "[::1]", "[::1]:11434"),
    ("host", "[fe80::1]:11555", "[fe80::1]:11555"),
    ("host", "0.0.0.0", "0.0.0.0:11434"),
    ("no_cloud", True, "1"),
    ("no_cloud", False, "0"),
    ("flash_attention", 1, "1"),
    ("flash_attention", 0, "0"),
    ("vulkan", "true", "1"),
    ("vulkan", "False", "0"),
    ("noprune", "1", "1"),
    ("noprune", "0", "0"),
    ("debug", True, "1"),
    ("debug", 2, "2"),
    ("debug", "2", "2"),
    ("keep_alive", "30m", "30m"),
    ("keep_alive", "1h30m", "1h30m"),
    ("keep_alive", "1.5h", "1.5h"),
    ("keep_alive", -1, "-1"),
    ("keep_alive", 0, "0"),
    ("keep_alive", "-1m", "-1m"),
    ("load_timeout", 300, "300"),
    ("num_parallel", 4, "4"),
    ("num_parallel", "4", "4"),
    ("context_length", 0, "0"),
    ("max_queue", 512, "512"),
    ("gpu_overhead", 0, "0"),
    ("gpu_overhead", 536870912, "536870912"),
    ("gpu_overhead", "2G", "2147483648"),
    ("gpu_overhead", "512 MiB", "536870912"),
    ("kv_cache_type", "q8_0", "q8_0"),
    ("origins", ["https://app.lan", "http://*.lan"], "https://app.lan,http://*.lan"),
    ("origins", "https://a.lan,https://b.lan", "https://a.lan,https://b.lan"),
    ("origins", "https://a.lan, https://b.lan", "https://a.lan,https://b.lan"),
    ("no_proxy", "localhost, 127.0.0.1,.lan", "localhost,127.0.0.1,.lan"),
    ("https_proxy", "http://[fd00::1]:3128/", "http://[fd00::1]:3128/"),
    ("https_proxy", "socks5://proxy.lan", "socks5://proxy.lan"),
    ("host", "http://127.0.0.1:11555/", "127.0.0.1:11555"),
    ("host", "localhost.", "localhost.:11434"),
    ("origins", "*", "*"),
    ("origins", ["moz-extension://abc", "tauri://*"], "moz-extension://abc,tauri://*"),
    ("remotes", ["ollama.com", "hecate.lan"], "ollama.com,hecate.lan"),
    ("cloud_base_url", "https://ollama.com:443", "https://ollama.com:443"),
    ("llm_library", "cuda_v12", "cuda_v12"),
    ("cuda_visible_devices", ["0", "1"], "0,1"),
    ("cuda_visible_devices", [0, 1], "0,1"),
    ("cuda_visible_devices", 0, "0"),
    ("cuda_visible_devices", "-1", "-1"),
    ("cuda_visible_devices", "GPU-8a2ecf15-9a1f-4d3e,1", "GPU-8a2ecf15-9a1f-4d3e,1"),
    ("hsa_override_gfx_version", "10.3.0", "10.3.0"),
    ("hsa_override_gfx_version_1", "gfx1030", "gfx1030"),
    ("https_proxy", "http://proxy.lan:3128", "http://proxy.lan:3128"),
    ("no_proxy", ["localhost", "10.0.0.0/8", ".lan"], "localhost,10.0.0.0/8,.lan"),
    ("ssl_cert_file", "/etc/ssl/own.pem", "/etc/ssl/own.pem"),
    ("jetson_jetpack", 6, "6"),
    ("llama_arg_fit", "off", "off"),
]

REFUSED: list[tuple[str, Any, str]] = [
    ("host", ":11434", "all interfaces"),
    ("host", ":", "all interfaces"),
    ("host", "http://hecate.lan", "port 80"),
    ("host", "https://hecate.lan:443", "does not support TLS"),
    ("host", "127.0.0.1:0", "1 to 65535"),
    ("host", "127.0.0.1:70000", "1 to 65535"),
    ("host", "127.0.0.1:x", "1 to 65535"),
    ("host", "127.0.0.1:", "1 to 65535"),
    ("host", "127.0.0.1/api", "expected HOST or HOST:PORT"),
    ("host", "999.1.1.1", "expected HOST or HOST:PORT"),
    ("host", "[127.0.0.1]:80", "expected HOST or HOST:PORT"),
    ("host", "[::1]x", "expected HOST or HOST:PORT"),
    ("host", "a b", "expected HOST or HOST:PORT"),
    ("host", "", "expected HOST or HOST:PORT"),
    ("host", 11434, "expected HOST or HOST:PORT"),
    ("host", None, "expected HOST or HOST:PORT"),
    ("no_cloud", "off", "other words as true"),
    ("no_cloud", "no", "other words as true"),
    ("no_cloud", "disabled", "other words as true"),
    ("no_cloud", "yes", "other words as true"),
    ("no_cloud", "", "other words as true"),
    ("no_cloud", 2, "other words as true"),
    ("no_cloud", None, "other words as true"),
    ("no_cloud", [], "other words as true"),
    ("debug", 3, "2 (trace)"),
    ("keep_alive", "30 minutes", "30m"),
    ("keep_alive", "1d", "30m"),
    ("keep_alive", "forever", "30m"),
    ("keep_alive", 0.5, "30m"),
    ("keep_alive", True, "30m"),
    ("keep_alive", "", "30m"),
    ("num_parallel", 0, "at least 1"),
    ("num_parallel", -1, "at least 1"),
    ("num_parallel", "four", "at least 1"),
    ("num_parallel", 1.5, "at least 1"),
    ("num_parallel", True, "at least 1"),
    ("max_queue", 0, "at least 1"),
    ("context_length", "8k", "at least 0"),
    ("gpu_overhead", "2 apples", "powers of 1024"),
    ("gpu_overhead", -1, "powers of 1024"),
    ("kv_cache_type", "q8", "f16 or q8_0 or q4_0"),
    ("origins", "app.lan", "https://app.lan"),
    ("origins", ["https://a.lan, https://b.lan"], "without spaces"),
    ("origins", "https://*.*.lan", "at most one *"),
    ("origins", [], "list of origins"),
    ("origins", "", "without spaces"),
    ("origins", {"a": 1}, "list of origins"),
    ("cloud_base_url", "https://ollama.com/x", "without a path"),
    ("cloud_base_url", "ollama.com", "scheme://"),
    ("llm_library", "../x", "directory in lib/ollama"),
    ("cuda_visible_devices", "0 1", "device numbers"),
    ("cuda_visible_devices", True, "device numbers"),
    ("hsa_override_gfx_version", "10.3", "10.3.0"),
    ("https_proxy", "proxy.lan:3128", "http://proxy.lan"),
    ("https_proxy", "http://proxy.lan:99999", "http://proxy.lan"),
    ("https_proxy", "http://proxy.lan:x", "http://proxy.lan"),
    ("https_proxy", "http://[fd00::1", "http://proxy.lan"),
    ("https_proxy", "http://fd00::1:3128", "http://proxy.lan"),
    ("https_proxy", "http://proxy.lan/path", "http://proxy.lan"),
    ("cloud_base_url", "https://[fd00::1", "scheme://"),
    ("host", "http://127.0.0.1:11434/v1", "no path"),
    ("ssl_cert_file", "own.pem", "absolute path"),
    ("jetson_jetpack", 7, "5 to 6"),
    ("llama_arg_fit", True, "in quotes"),
]


@pytest.mark.parametrize(("key", "value", "expected"), ACCEPTED)
def test_accepted(key: str, value: Any, expected: str) -> None:
    assert settings_module.render({key: value})[settings_module.variable(key)] == expected


@pytest.mark.parametrize("value", ["http://user:secret@proxy.lan", "http://user:sec/ret@proxy.lan"])
def test_credentials_of_a_proxy_are_not_shown(value: str) -> None:
    with pytest.raises(OllamaError, match=r"\(hidden\); expected no credentials; put such a URL into ollama_env"):
        settings_module.render({"https_proxy": value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "http://me:secret@proxy.lan:x", "is not the URL of a proxy"),
        ("https_proxy", "http://[fd00::1", "is not the URL of a proxy"),
        ("HTTP_PROXY", "ftp://me:secret@proxy.lan", "is not the URL of a proxy"),
        ("HTTPS_PROXY", "http://me:se/cret@proxy.lan", "is not the URL of a proxy"),
        ("HOME", "/root", "is the home directory of ollama_user"),
    ],
)
def test_a_variable_with_which_the_server_could_not_work_is_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(OllamaError) as caught:
        settings_module.merge({}, {name: value}, "/m")
    assert caught.value.code == "environment_invalid"
    assert f"ollama_environment.{name} {words}" in caught.value.message
    assert "cret" not in caught.value.message


@pytest.mark.parametrize(
    "value", ["http://me:p%40ss@proxy.lan:3128", "proxy.lan:3128", "socks5://proxy.lan", "http://[fd00::1]:3128", ""]
)
def test_proxies_of_the_environment(value: str) -> None:
    assert settings_module.merge({}, {"HTTPS_PROXY": value}, "/m")[1] == {"HTTPS_PROXY": value}


@pytest.mark.parametrize(("key", "value", "hint"), REFUSED)
def test_refused(key: str, value: Any, hint: str) -> None:
    with pytest.raises(OllamaError) as caught:
        settings_module.render({key: value})
    message = caught.value.message
    assert caught.value.code == "setting_invalid"
    assert message.startswith(f"ollama_settings.{key}: invalid value {value!r}; ")
    assert hint in message
    assert "\n" not in message


def test_the_defaults_are_closed() -> None:
    assert settings_module.render({}) == {"OLLAMA_HOST": "127.0.0.1:11434", "OLLAMA_NO_CLOUD": "1"}


@pytest.mark.parametrize(
    ("key", "expected"),
    [("keep_alive", "OLLAMA_KEEP_ALIVE"), ("cuda_visible_devices", "CUDA_VISIBLE_DEVICES"), ("no_proxy", "NO_PROXY")],
)
def test_variable_names(key: str, expected: str) -> None:
    assert settings_module.variable(key) == expected


def test_an_unquoted_yaml_off_is_a_boolean_and_therefore_fine() -> None:
    assert settings_module.render(yaml.safe_load("vulkan: off"))["OLLAMA_VULKAN"] == "0"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("keepalive", "expected keep_alive"),
        ("OLLAMA_NUM_PARALLEL", "expected num_parallel"),
        ("num-parallel", "expected num_parallel"),
        ("flash_atention", "expected flash_attention"),
        ("models", "ollama_models_dir"),
        ("xyzzy", "expected one of auth, cloud_base_url"),
        (5, "expected one of auth"),
    ],
)
def test_unknown_keys_get_a_suggestion(key: Any, hint: str) -> None:
    with pytest.raises(OllamaError) as caught:
        settings_module.render({key: 1})
    assert caught.value.code == "setting_unknown"
    assert caught.value.message.startswith(f"ollama_settings.{key}: unknown setting; ")
    assert hint in caught.value.message


def test_a_proxy_with_credentials_is_refused_without_showing_them() -> None:
    with pytest.raises(OllamaError) as caught:
        settings_module.render({"https_proxy": "http://me:hunter2@proxy.lan:3128"})
    assert "ollama_environment" in caught.value.message
    assert "hunter2" not in str(caught.value.to_fail_json())


def test_raw_variables_join_the_settings() -> None:
    settings, raw = settings_module.merge(
        {"num_parallel": 2}, {"HTTPS_PROXY": "http://me:pw@p:1", "NUMBER": 5}, "/models"
    )
    assert settings == {
        "OLLAMA_HOST": "127.0.0.1:11434",
        "OLLAMA_MODELS": "/models",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NUM_PARALLEL": "2",
    }
    assert raw == {"HTTPS_PROXY": "http://me:pw@p:1", "NUMBER": "5"}


def test_a_raw_variable_takes_the_place_of_a_default() -> None:
    settings, raw = settings_module.merge({}, {"OLLAMA_NO_CLOUD": "0"}, "/models")
    assert "OLLAMA_NO_CLOUD" not in settings
    assert raw == {"OLLAMA_NO_CLOUD": "0"}


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("OLLAMA_HOST", "0.0.0.0", "ollama_settings.host"),
        ("OLLAMA_MODELS", "/x", "ollama_models_dir"),
        ("OLLAMA_KEEP_ALIVE", "1m", "one of the two"),
        ("A B", "x", "not the name"),
        ("1A", "x", "not the name"),
        (1, "x", "not the name"),
        ("A", "s3cret\nB=1", "line break"),
        ("A", True, "in quotes"),
        ("A", None, "text or a number"),
        ("A", ["s3cret"], "text or a number"),
    ],
)
def test_raw_variables_are_refused_without_showing_values(name: Any, value: Any, hint: str) -> None:
    with pytest.raises(OllamaError) as caught:
        settings_module.merge({"keep_alive": "5m"}, {name: value}, "/models")
    assert caught.value.code == "environment_invalid"
    assert hint in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]:11434", "192.168.1.5:11434", "hecate.lan", "::"])
def test_other_addresses_than_loopback_must_be_allowed(host: str) -> None:
    with pytest.raises(OllamaError) as caught:
        settings_module.address({"host": host}, allow_open_network=False)
    assert caught.value.code == "server_exposed"
    assert "ollama_allow_open_network" in caught.value.message
    assert "ollama_gateway_enabled" in caught.value.message
    assert not settings_module.address({"host": host}, allow_open_network=True).is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9:1", "localhost:11555", "::1"])
def test_loopback_is_allowed(host: str) -> None:
    assert settings_module.address({"host": host}, allow_open_network=False).is_loopback


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11555", "http://127.0.0.1:11555"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("::", "http://[::1]:11434"),
        ("192.168.1.5", "http://192.168.1.5:11434"),
    ],
)
def test_the_address_for_clients_on_the_host(host: str, url: str) -> None:
    assert settings_module.parse_host(host).local.url() == url


def test_environment_files_are_read_as_systemd_reads_them() -> None:
    text = '# comment\n\nA="plain"\nB="quo\\"te \\\\ \\$HOME \\`x\\`"\nC=""\n'
    assert settings_module.parse_environment_file(text) == {"A": "plain", "B": 'quo"te \\ $HOME `x`', "C": ""}


def test_a_line_that_the_role_did_not_write_counts_as_a_difference() -> None:
    assert settings_module.parse_environment_file("A=unquoted\n") != {}


def test_what_the_role_writes_is_read_back() -> None:
    settings = {"OLLAMA_HOST": "127.0.0.1:11434"}
    raw = {"HTTPS_PROXY": "http://me:p'w$1@p:1", "B": 'a "b" \\ \\" `c`', "C": "", "D": 5, "E": " x "}
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters["combine"] = lambda left, right: {**left, **right}
    template = environment.from_string(TEMPLATE.read_text())
    text = template.render(ollama__managed="m", ollama__preflight={"environment": settings}, ollama_environment=raw)
    assert settings_module.parse_environment_file(text) == {
        **settings,
        **{name: str(value) for name, value in raw.items()},
    }


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ('msg="server config" env="map[HTTPS_PROXY:http://me:hunter2@proxy:1]"', False),
        ("proxyconnect tcp: dial http://me:hunter2@proxy:1", False),
        ("[GIN] GET /api/tags 1.2ms", False),
        ("panic: bad origin: origins must contain '*' or include http://,https://", True),
        ("Error: listen tcp 127.0.0.1:11434: bind: address already in use", True),
    ],
)
def test_which_lines_of_the_servers_log_a_failure_may_show(line: str, reported: bool) -> None:
    variables = yaml.safe_load((TEMPLATE.parents[1] / "vars/main.yml").read_text())
    assert (re.search(variables["ollama__untold"], line) is None) == reported
