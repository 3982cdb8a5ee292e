# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight: what is refused and with which words, what is found on a host, and which steps follow."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.host import platform_of
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import verification
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    adoption,
    host_facts,
    host_request,
    pending,
    suitability,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    AccountFacts,
    HostFacts,
    PortListener,
    ServerFacts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_request import HostRequest
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.store_facts import StoreFacts
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.survey import Survey
from ansible_collections.kaido.ollama.plugins.module_utils._release import release
from ansible_collections.kaido.ollama.plugins.modules import preflight

from tests.conftest import ROOT
from tests.unit.conftest import RunModule

SUM = "sha256:" + "ab" * 32
UNIT = "# Managed by kaido.ollama\n[ServerFacts]\nExecStart=/opt/ollama/current/bin/ollama serve\n"
MODELS = "/usr/share/ollama/.ollama/models"
WANTED = HostRequest(version="0.35.1", unit=UNIT, models_dir=MODELS, checksums={"ollama-linux-amd64.tar.zst": SUM})
ENVIRONMENT = {"OLLAMA_HOST": "127.0.0.1:11434", "OLLAMA_MODELS": MODELS, "OLLAMA_NO_CLOUD": "1"}
BARE = HostFacts(
    machine="x86_64",
    has_systemd=True,
    has_zstd=False,
    package_manager="apt-get",
    releases=release.State(current=None, releases={}, link=None),
    account=None,
    device_groups=("render", "video"),
    directories=Survey(wrong=("/usr/share/ollama", MODELS)),
    unit=None,
    drop_ins={},
    environment=None,
    environment_is_private=False,
    configured=0.0,
    service=ServerFacts(),
    listeners=(),
    store=StoreFacts(),
    move=None,
    other_program=None,
    platform="debian12",
)
CONVERGED = replace(
    BARE,
    releases=release.State(
        current="0.35.1",
        releases={"0.35.1": {"ollama-linux-amd64.tar.zst": SUM}, "0.35.0": {"ollama-linux-amd64.tar.zst": SUM}},
        link="/opt/ollama/current/bin/ollama",
    ),
    account=AccountFacts(997, frozenset({"ollama", "render", "video"})),
    directories=Survey(),
    unit=UNIT,
    environment=ENVIRONMENT,
    environment_is_private=True,
    configured=1000.0,
    service=ServerFacts(active=True, enabled=True, started=2000.0),
    listeners=(PortListener("127.0.0.1", 997, 42, "ollama", True),),
    store=StoreFacts("v1"),
)


def examine(wanted: HostRequest, host: HostFacts) -> dict[str, str]:
    checked = host_request.validate(wanted)
    return pending.pending_steps(wanted, checked, host, suitability.check_host(wanted, checked, host))


def refusal(wanted: HostRequest, host: HostFacts = BARE) -> OllamaError:
    with pytest.raises(OllamaError) as caught:
        examine(wanted, host)
    assert "\n" not in caught.value.message
    return caught.value


# The requested configuration


# What a version without a known checksum needs, one of the three.
CHECKSUM_OPTIONS = ("ollama_release_checksums", "ollama_release_fetch_checksum: true", "scripts/add_release.py")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (
            {"version": "0.34.4"},
            "version_vulnerable",
            ["ollama_version", "'0.34.4'", "0.35.0", "CVE-2026-103663", "ollama_allow_vulnerable"],
        ),
        ({"version": "v0.35.1"}, "version_invalid", ["ollama_version", "'v0.35.1'"]),
        ({"version": "latest"}, "version_invalid", ["ollama_version", "'latest'"]),
        ({"version": "0.36.0", "checksums": {}}, "checksum_unknown", ["'0.36.0'", *CHECKSUM_OPTIONS]),
        ({"checksum": "abc"}, "digest_invalid", ["ollama_release_checksum", "'abc'", "64"]),
        ({"settings": {"keepalive": "5m"}}, "setting_unknown", ["ollama_settings.keepalive", "keep_alive"]),
        ({"settings": {"no_cloud": "off"}}, "setting_invalid", ["ollama_settings.no_cloud", "'off'", "true or false"]),
        (
            {"settings": {"host": "0.0.0.0"}},
            "server_exposed",
            ["ollama_settings.host", "'0.0.0.0'", "ollama_allow_open"],
        ),
        ({"environment": {"A B": "x"}}, "environment_invalid", ["ollama_environment.A B"]),
        ({"models": ["llama3.2:3b", "a/b/c/d"]}, "name_invalid", ["ollama_models[1]", "'a/b/c/d'"]),
        ({"models": [{"state": "present"}]}, "model_invalid", ["ollama_models[0]", "present"]),
        ({"models": ["a", "A:latest"]}, "model_duplicate", ["ollama_models[1]", "A:latest"]),
        (
            {"models": [{"name": "a", "digest": "sha256:12"}]},
            "digest_invalid",
            ["ollama_models[0].digest", "sha256:12"],
        ),
        ({"models": ["x:cloud"]}, "model_in_cloud", ["ollama_models[0]", "ollama_settings.no_cloud: false"]),
        ({"mirrors": ["hecate:11480"]}, "url_invalid", ["ollama_mirrors", "'hecate:11480'"]),
        ({"lock": {"a": "latest"}}, "digest_invalid", ["lock: a", "'latest'"]),
        ({"keep": 0}, "value_invalid", ["ollama_release_keep", "0", "at least 1"]),
        ({"models_dir": "models"}, "value_invalid", ["ollama_models_dir", "'models'", "absolute"]),
        ({"models_dir": "/my models"}, "value_invalid", ["ollama_models_dir", "'/my models'"]),
        ({"install_dir": "/opt/100%"}, "value_invalid", ["ollama_install_dir", "'/opt/100%'"]),
    ],
)
def test_a_request_that_no_host_can_meet(changes: dict[str, Any], code: str, words: list[str]) -> None:
    error = refusal(replace(WANTED, **changes))
    assert error.code == code
    for word in words:
        assert word in error.message


def test_what_was_refused_can_be_allowed() -> None:
    old = replace(WANTED, version="0.30.0", allow_vulnerable_version=True, checksum="AB" * 32, checksums={})
    assert "install 0.30.0" in examine(old, BARE)["release"]
    assert examine(replace(WANTED, settings={"host": "0.0.0.0"}, allow_open_network=True), BARE)
    assert examine(replace(WANTED, settings={"no_cloud": False}, models=["x:cloud"]), BARE)


# The host


@pytest.mark.parametrize(
    ("host", "code", "words"),
    [
        (replace(BARE, machine="riscv64"), "architecture_unsupported", ["'riscv64'", "aarch64"]),
        (replace(BARE, machine="armv7l"), "architecture_unsupported", ["'armv7l'"]),
        (replace(BARE, has_systemd=False), "init_unsupported", ["systemd"]),
        (replace(BARE, package_manager=None), "program_missing", ["zstd", "neither apt nor dnf", "first"]),
        (replace(BARE, releases=replace(BARE.releases, link="")), "installation_foreign", ["/usr/local/bin/ollama"]),
        (replace(BARE, releases=replace(BARE.releases, link="/usr/lib/x")), "installation_foreign", ["/usr/lib/x"]),
        (replace(BARE, unit="[Unit]\nDescription=Ollama Service\n"), "installation_foreign", ["ollama.service"]),
        (
            replace(BARE, listeners=(PortListener("127.0.0.1", 0, 77, "nginx"),)),
            "port_taken",
            ["ollama_settings.host", "'127.0.0.1:11434'", "nginx (pid 77)", "11434"],
        ),
        (replace(BARE, listeners=(PortListener("0.0.0.0", 0, 77, "nginx"),)), "port_taken", ["nginx"]),
        (replace(BARE, listeners=(PortListener("::", 0),)), "port_taken", ["cannot be seen"]),
        # A manually started server is not the unit, although the account is the same.
        (replace(CONVERGED, listeners=(PortListener("127.0.0.1", 997, 78, "ollama"),)), "port_taken", ["pid 78"]),
        (
            replace(CONVERGED, service=ServerFacts(), listeners=(PortListener("127.0.0.1", 997),)),
            "port_taken",
            ["cannot be seen"],
        ),
    ],
)
def test_an_unsuitable_host_is_refused(host: HostFacts, code: str, words: list[str]) -> None:
    error = refusal(WANTED, host)
    assert error.code == code
    for word in words:
        assert word in error.message


@pytest.mark.parametrize(
    "listener",
    [
        PortListener("127.0.0.2", 0, 77, "other"),
        PortListener("::1", 0, 77, "other"),
        PortListener("127.0.0.1", 997, 42, "ollama", True),
        PortListener("127.0.0.1", 997),
    ],
)
def test_a_port_that_is_not_in_the_way(listener: PortListener) -> None:
    assert examine(WANTED, replace(CONVERGED, listeners=(listener,))) == {}


def test_localhost_meets_both_loopbacks() -> None:
    wanted = replace(WANTED, settings={"host": "localhost"})
    assert refusal(wanted, replace(BARE, listeners=(PortListener("::1", 0, 77, "other"),))).code == "port_taken"


@pytest.mark.parametrize(
    ("version", "current", "store", "refused"),
    [
        ("0.40.2", "0.35.1", "v1", True),
        ("0.40.2", None, "v1", True),
        ("0.40.2", None, None, False),
        ("0.40.2", "0.40.1", "v1", False),
        ("0.40.2", None, "v2", False),
        ("0.35.1", "0.40.2", "v2", True),
        ("0.35.1", None, "v2", True),
        ("0.35.1", "0.40.2", "v1", False),
        ("0.35.1", "0.34.4", "v1", False),
    ],
)
def test_crossing_0_40_is_a_choice(version: str, current: str | None, store: str | None, refused: bool) -> None:
    wanted = replace(WANTED, version=version, checksum=SUM)
    releases = {current: {"ollama-linux-amd64.tar.zst": SUM}} if current else {}
    host = replace(
        CONVERGED, releases=replace(CONVERGED.releases, current=current, releases=releases), store=StoreFacts(store)
    )
    if refused:
        error = refusal(wanted, host)
        assert error.code == "store_migration_not_accepted"
        assert "ollama_accept_store_migration" in error.message
    assert "release" in examine(replace(wanted, accept_store_migration=True), host)


# The steps


def test_a_fresh_host_needs_every_step() -> None:
    steps = examine(WANTED, BARE)
    assert list(steps) == ["packages", "release", "account", "directories", "unit", "environment", "service"]
    assert "OLLAMA_HOST, OLLAMA_MODELS, OLLAMA_NO_CLOUD" in steps["environment"]


def test_a_converged_host_needs_nothing() -> None:
    assert examine(WANTED, CONVERGED) == {}


@pytest.mark.parametrize(
    ("wanted", "host", "steps"),
    [
        ({"version": "0.35.0"}, {}, ["release", "service"]),
        ({"version": "0.35.2"}, {"has_zstd": False}, ["packages", "release", "service"]),
        ({"version": "0.35.0"}, {"has_zstd": False}, ["release", "service"]),
        ({"keep": 1}, {}, ["release"]),
        ({"checksum": "cd" * 32}, {"has_zstd": True}, ["release", "service"]),
        ({}, {"releases": replace(CONVERGED.releases, link=None)}, ["release"]),
        ({}, {"account": AccountFacts(997, frozenset({"ollama", "video"}))}, ["account", "service"]),
        ({}, {"directories": Survey(wrong=(MODELS,))}, ["directories"]),
        ({}, {"unit": UNIT + "x"}, ["unit", "service"]),
        ({}, {"unit": None}, ["unit", "service"]),
        ({"settings": {"num_parallel": 2}}, {}, ["environment", "service"]),
        ({}, {"environment": {**ENVIRONMENT, "OLLAMA_DEBUG": "1"}}, ["environment", "service"]),
        ({}, {"environment_is_private": False}, ["environment", "service"]),
        ({}, {"service": ServerFacts(active=False, enabled=True)}, ["service"]),
        ({}, {"service": ServerFacts(active=True, enabled=False, started=2000.0)}, ["service"]),
        # A run that was cut short between writing and restarting.
        ({}, {"service": ServerFacts(active=True, enabled=True, started=500.0)}, ["service"]),
        ({}, {"service": ServerFacts(active=True, enabled=True, started=2000.0, replaced="libc was")}, ["service"]),
        # A clock that was wrong then must not restart the server in every run.
        ({}, {"configured": time.time() + 9999}, []),
        ({}, {"package_manager": None, "has_zstd": False}, []),
    ],
)
def test_only_what_differs(wanted: dict[str, Any], host: dict[str, Any], steps: list[str]) -> None:
    assert list(examine(replace(WANTED, **wanted), replace(CONVERGED, **host))) == steps


def test_secrets_are_compared_but_not_returned() -> None:
    wanted = replace(WANTED, environment={"HTTPS_PROXY": "http://me:hunter2@p:1"})
    steps = examine(wanted, CONVERGED)
    assert steps["environment"].endswith("differs in HTTPS_PROXY")
    assert "hunter2" not in json.dumps(steps)
    there = replace(CONVERGED, environment={**ENVIRONMENT, "HTTPS_PROXY": "http://me:hunter2@p:1"})
    assert examine(wanted, there) == {}


# Looking, at a root of our own


def socket_line(address: str, port: int, inode: int, state: str = "0A", uid: int = 997) -> str:
    queues = "00000000:00000000 00:00000000 00000000"
    return f"   0: {address}:{port:04X} 00000000:0000 {state} {queues} {uid} 0 {inode} 1 0 0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "etc/systemd/system/ollama.service": UNIT,
        "etc/systemd/system/ollama.service.d/limits.conf": "[ServerFacts]\nMemoryMax=8G\n",
        "etc/ollama/ollama.env": 'OLLAMA_HOST="127.0.0.1:11434"\n',
        "opt/ollama/releases/0.35.1/.kaido-release.json": json.dumps({"version": "0.35.1", "archives": {"a": SUM}}),
        "opt/ollama/releases/0.34.4/bin/ollama": "no marker",
        "proc/net/tcp": "header\n" + socket_line("0100007F", 11434, 555) + socket_line("00000000", 22, 556),
        "proc/net/tcp6": "header\n"
        + socket_line("00000000000000000000000001000000", 11434, 557)
        + socket_line("0000000000000000FFFF00000100007F", 11434, 558)
        + socket_line("0" * 32, 11434, 559, state="01"),
        "proc/42/comm": "ollama\n",
        "proc/42/cgroup": "0::/system.slice/ollama.service\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "etc/ollama/ollama.env").chmod(0o600)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/ollama").symlink_to("/opt/ollama/current/bin/ollama")
    (tmp_path / "opt/ollama/current").symlink_to("releases/0.35.1")
    (tmp_path / "proc/42/fd").mkdir()
    (tmp_path / "proc/42/fd/7").symlink_to("socket:[555]")
    (tmp_path / (MODELS.lstrip("/") + "/manifests/registry.ollama.ai/library/tiny")).mkdir(parents=True)
    return tmp_path


def test_a_replaced_library_of_the_server_is_detected(root: Path) -> None:
    def seen() -> str | None:
        return host_facts.gather(WANTED, 11434, str(root), show()).service.replaced

    assert seen() is None
    line = "7f0000000000-7f0000001000 r-xp 00000000 08:01 1234   /usr/lib/libc.so.6 (deleted)\n"
    (root / "proc/42/maps").write_text(line)
    assert seen() == "/usr/lib/libc.so.6 was replaced after process 42 had loaded it"


NOW = 1_800_000_000.0


def show(**properties: str) -> dict[str, str]:
    values = {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "ExecMainStartTimestampMonotonic": str(int(time.monotonic() * 1e6)),
    }
    return {**values, **properties}


def test_survey(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    host = host_facts.gather(WANTED, 11434, str(root), show(ExecMainStartTimestampMonotonic="997000000"))
    assert host.has_systemd
    assert host.releases.current == "0.35.1"
    assert list(host.releases.releases) == ["0.35.1"]
    assert host.releases.link == "/opt/ollama/current/bin/ollama"
    assert host.unit == UNIT
    assert host.environment == {"OLLAMA_HOST": "127.0.0.1:11434"}
    assert host.environment_is_private == (os.getuid() == 0)
    assert host.directories.problems == ()
    assert {"/usr/share/ollama", MODELS, f"{MODELS}/manifests"} <= set(host.directories.wrong)
    assert host.drop_ins == {"limits.conf": "[ServerFacts]\nMemoryMax=8G\n"}
    assert host.service.active
    assert host.service.enabled
    assert host.service.started == NOW - 3
    assert host.configured > 0
    assert host.store.generation is None
    assert host.listeners == (
        PortListener("127.0.0.1", 997, 42, "ollama", True),
        PortListener("::1", 997),
        PortListener("127.0.0.1", 997),
    )


def test_survey_of_a_fresh_host(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    host = host_facts.gather(replace(WANTED, user="nobody-here", group="nobody-here"), 11434, str(tmp_path), {})
    assert not host.has_systemd
    assert (host.unit, host.environment, host.account) == (None, None, None)
    assert (host.store.generation, host.other_program, host.platform) == (None, None, "")
    assert host.releases == release.State(current=None, releases={}, link=None)
    assert host.directories == Survey(wrong=("/usr/share/ollama", MODELS))
    assert host.service.active is False
    assert host.listeners == ()


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("etc/ollama/ollama.env", True),
        ("etc/systemd/system/ollama.service", True),
        ("opt/ollama/current", True),
        ("etc/systemd/system/ollama.service.d/limits.conf", True),
        ("", False),
    ],
)
def test_a_server_older_than_its_configuration_is_noticed(root: Path, changed: str, stale: bool) -> None:
    for path in root.rglob("*"):
        os.utime(path, (1000, 1000), follow_symlinks=False)
    if changed:
        os.utime(root / changed, (time.time() - 10, time.time() - 10), follow_symlinks=False)
    minute_ago = show(ExecMainStartTimestampMonotonic=str(int((time.monotonic() - 60) * 1e6)))
    host = host_facts.gather(WANTED, 11434, str(root), minute_ago)
    assert (host.service.started < host.configured) == stale


@pytest.mark.parametrize(
    ("tree", "generation"),
    [
        ("manifests/registry.ollama.ai/library/tiny/latest", "v1"),
        ("manifests-v2/ollama.com/library/tiny/latest", "v2"),
        ("blobs/sha256-0", None),
    ],
)
def test_the_generation_of_the_store(root: Path, tree: str, generation: str | None) -> None:
    path = root / MODELS.lstrip("/") / tree
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    assert host_facts.gather(WANTED, 11434, str(root), show()).store.generation == generation


def test_groups_come_from_the_devices(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_facts, "_group_name", lambda group: f"owner-{group}")
    gid = os.getgid() or 12345
    for name in ("dev/dri/renderD128", "dev/nvidia0"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.chown(path, -1, gid if "dri" in name else os.getgid())
    groups = host_facts.gather(WANTED, 11434, str(root), show()).device_groups
    assert groups == tuple(sorted([f"owner-{gid}", "owner-render", "owner-video"]))


# The module


def arguments(**params: Any) -> dict[str, Any]:
    return {"version": "0.35.1", "unit": UNIT, "models_dir": MODELS, "checksum": SUM, **params}


def test_the_module_requires_root(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = run_module(preflight, arguments())
    assert result["failure"]["code"] == "root_required"
    assert "become: true" in result["msg"]


def test_the_modules_result(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: BARE)
    environment = json.dumps({"HTTPS_PROXY": "http://me:hunter2@p:1", "A": "1"})
    result = run_module(preflight, arguments(settings={"host": "127.0.0.1:11555"}, environment=environment))
    assert result["changed"] is False
    assert result["todo"] == list(result["reasons"])
    assert result["api_url"] == "http://127.0.0.1:11555"
    assert result["environment"]["OLLAMA_HOST"] == result["address"] == "127.0.0.1:11555"
    archive = "ollama-linux-amd64.tar.zst"
    assert result["release"] == {
        "version": "0.35.1",
        "variants": [],
        "before": None,
        "checksums": {archive: SUM},
        "missing": [archive],
    }
    assert result["adopts"] is None
    assert result["running"] is False
    assert "hunter2" not in json.dumps(result)


@pytest.mark.parametrize(
    ("gpu", "sums", "variants", "says"),
    [
        ("preferred", {"ollama-linux-amd64-rocm.tar.zst": SUM}, ["rocm"], ""),
        ("required", {"ollama-linux-amd64-rocm.tar.zst": SUM}, ["rocm"], ""),
        ("off", {"ollama-linux-amd64-rocm.tar.zst": SUM}, [], ""),
        ("preferred", {}, [], "this host's GPU needs the archive rocm of 0.35.1, and without it the CPU is used"),
        ("required", {}, None, "this host's GPU needs the archive rocm of 0.35.1"),
    ],
)
def test_the_archive_for_an_amd_gpu_is_chosen(
    run_module: RunModule,
    monkeypatch: pytest.MonkeyPatch,
    gpu: str,
    sums: dict[str, str],
    variants: list[str] | None,
    says: str,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: BARE)
    monkeypatch.setattr(verification, "overview", lambda *_: {"count": 1, "usable": True, "variant": "rocm"})
    result = run_module(preflight, arguments(gpu=gpu, checksums=sums))
    if variants is None:
        assert result["failure"]["code"] == "checksum_unknown"
        assert says in result["msg"]
        return
    assert result["release"]["variants"] == variants
    assert len(result["release"]["checksums"]) == 1 + len(variants)
    assert says in "".join(result.get("warnings", []))
    assert bool(result.get("warnings")) == bool(says)
    assert bool(result["gpu"]) == (gpu != "off")


def test_the_module_returns_releases_for_a_rollback(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: CONVERGED)
    result = run_module(preflight, arguments(version="0.35.0"))
    assert (result["release"]["before"], result["release"]["missing"]) == ("0.35.1", [])
    assert "release" in result["todo"]


# What is particular to a host


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        ({"MemoryMaxx": "1G"}, "limit_unknown", ["ollama_unit_limits.MemoryMaxx", "expected MemoryMax"]),
        ({"ExecStart": "/bin/sh"}, "limit_unknown", ["expected one of", "CPUQuota"]),
        ({"MemoryMax": "lots"}, "limit_invalid", ["ollama_unit_limits.MemoryMax", "'lots'", "32G"]),
        ({"MemoryMax": "1G\nExecStartPre=/bin/sh"}, "limit_invalid", ["MemoryMax"]),
        ({"CPUQuota": 400}, "limit_invalid", ["400%"]),
        ({"CPUWeight": 0}, "limit_invalid", ["0"]),
        ({"Nice": 20}, "limit_invalid", ["20"]),
        ({"MemoryMax": True}, "limit_invalid", ["True"]),
    ],
)
def test_limits_that_systemd_interprets_differently(limits: dict[str, Any], code: str, words: list[str]) -> None:
    error = refusal(replace(WANTED, limits=limits))
    assert error.code == code
    for word in words:
        assert word in error.message


def test_each_limits_example_is_allowed() -> None:
    host_request.check_limits({name: example for name, (_pattern, example) in host_request.LIMITS.items()})
    host_request.check_limits({"MemoryMax": "80%", "CPUWeight": 100, "AllowedCPUs": "0-3,8", "Nice": -5})


def test_a_disk_that_is_not_mounted() -> None:
    there = replace(CONVERGED, store=StoreFacts("v1", mounted=False))
    error = refusal(replace(WANTED, models_mount_required=True), there)
    assert error.code == "directory_not_mounted"
    assert MODELS in error.message
    assert examine(WANTED, there) == {}
    assert examine(replace(WANTED, models_mount_required=True), CONVERGED) == {}


def test_the_disk_is_that_of_the_nearest_directory(root: Path) -> None:
    wanted = replace(WANTED, models_dir="/data/models", models_mount_required=True)
    store = host_facts.gather(wanted, 11434, str(root), show()).store
    assert not store.mounted
    assert store.free > 0


@pytest.mark.parametrize(("free", "refused"), [((10 << 30) * 1.24, True), ((10 << 30) * 1.26, False)])
def test_room_for_what_0_40_writes(free: float, refused: bool) -> None:
    wanted = replace(WANTED, version="0.40.2", checksum=SUM, accept_store_migration=True)
    host = replace(CONVERGED, store=StoreFacts("v1", largest=10 << 30, free=int(free)))
    if refused:
        error = refusal(wanted, host)
        assert error.code == "disk_full"
        assert "13.4 GB have to be free" in error.message
    else:
        assert list(examine(wanted, host)) == ["packages", "release", "backup", "service"]


def test_the_largest_model_is_determined_only_for_the_migration_to_0_40(root: Path) -> None:
    manifests = root / MODELS.lstrip("/") / "manifests/registry.ollama.ai/library/tiny"
    for tag, sizes in (("latest", [5, 6]), ("big", [100, 1])):
        (manifests / tag).write_text(json.dumps({"layers": [{"size": size} for size in sizes]}))
    (manifests / "broken").write_text("")
    assert host_facts.gather(replace(WANTED, version="0.40.2"), 11434, str(root), show()).store.largest == 101
    assert host_facts.gather(WANTED, 11434, str(root), show()).store.largest == 0


@pytest.mark.parametrize(
    ("os_release", "key"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "ubuntu"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n', "rhel"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="10.0"\n', "rhel"),
        ("ID=fedora\nVERSION_ID=43\n", "fedora"),
        ("ID=arch\n", "arch"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "ubuntu"),
        ("ID=plan9\n", ""),
        ("", ""),
    ],
)
def test_platforms(os_release: str, key: str) -> None:
    table = ROOT / "roles/ollama/vars/platforms.yml"
    platforms = yaml.safe_load(table.read_text())["ollama__platforms"]
    assert platform_of(os_release, platforms) == key
    assert not key or set(platforms[key]) - {"experimental"} == {"packages", "nologin", "nginx", "haproxy", "ca_bundle"}


@pytest.mark.parametrize(("program", "found"), [("apt-get", "apt-get"), ("dnf", "dnf"), ("pacman", None)])
def test_package_managers_that_ansible_itself_drives(
    root: Path, monkeypatch: pytest.MonkeyPatch, program: str, found: str | None
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path="": name if name == program else None)
    assert host_facts.gather(WANTED, 11434, str(root), {}).package_manager == found


def test_a_version_of_a_platform_comes_first() -> None:
    assert platform_of("ID=debian\nVERSION_ID=12\n", {"debian", "debian12"}) == "debian12"
    assert platform_of("ID=rocky\nVERSION_ID=9.4\n", {"rocky9", "rhel"}) == "rocky9"


# Checksums


BASE, ROCM = "ollama-linux-amd64.tar.zst", "ollama-linux-amd64-rocm.tar.zst"


def test_variants_need_their_own_checksums() -> None:
    wanted = replace(WANTED, variants=["rocm"])
    assert ROCM in refusal(wanted).message
    known = replace(wanted, checksums={BASE: SUM, ROCM: "cd" * 32})
    assert suitability.checksums_of(known, BARE) == {BASE: SUM, ROCM: "sha256:" + "cd" * 32}
    assert refusal(replace(wanted, variants=["jetpack6"])).code == "variant_unsupported"


def test_what_was_fetched_once_counts() -> None:
    wanted = replace(WANTED, checksums={}, fetch_checksum=True)
    assert suitability.checksums_of(wanted, BARE, {BASE: "cd" * 32}) == {BASE: "sha256:" + "cd" * 32}
    assert suitability.checksums_of(wanted, CONVERGED, {BASE: "cd" * 32}) == {BASE: SUM}
    assert refusal(replace(wanted, fetch_checksum=False), CONVERGED).code == "checksum_unknown"


def test_fetching_needs_permission_and_is_reported(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: BARE)
    asked = []

    def fetch(*arguments: Any) -> dict[str, str]:
        asked.append(arguments)
        return {BASE: SUM}

    monkeypatch.setattr(preflight, "fetch_checksums", fetch)
    assert run_module(preflight, arguments(checksum=""))["failure"]["code"] == "checksum_unknown"
    assert asked == []
    result = run_module(preflight, arguments(checksum="", fetch_checksum=True, base_url="https://m"))
    assert [arguments[:3] for arguments in asked] == [("https://m", "0.35.1", None)]
    assert result["release"]["checksums"] == {BASE: SUM}
    assert any("ollama_release_checksums" in str(warning) for warning in result["warnings"])
    run_module(preflight, arguments(fetch_checksum=True))
    assert len(asked) == 1


# Taking over


VENDORS = """[ServerFacts]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Environment="PATH=/usr/bin" "OLLAMA_MAX_QUEUE=9"
Environment=OLLAMA_HOST=0.0.0.0
"""
VENDOR = release.Vendor("/usr/local", "0.34.4")
FOREIGN = replace(
    BARE,
    releases=release.State(current=None, releases={}, link="", vendor=VENDOR),
    unit=VENDORS,
    drop_ins={"override.conf": "[ServerFacts]\nEnvironment=OLLAMA_HOST=0.0.0.0 OLLAMA_KEEP_ALIVE=1h\n"},
    service=ServerFacts(active=True, enabled=True, user="ollama", environment={"OLLAMA_MODELS": MODELS}),
    account=AccountFacts(997, frozenset({"ollama", "render", "video"})),
    directories=Survey(),
    listeners=(PortListener("127.0.0.1", 997, 42, "ollama", True),),
    store=StoreFacts("v1"),
)


def test_the_installation_of_the_vendor_is_adopted() -> None:
    steps = examine(WANTED, FOREIGN)
    assert list(steps) == ["packages", "release", "unit", "environment", "service"]
    assert "take over Ollama 0.34.4" in steps["release"]
    assert "switch from 0.34.4" in steps["release"]
    assert adoption.adoption(host_request.validate(WANTED), FOREIGN) == {
        "version": "0.34.4",
        "unit": True,
        "drop_ins": ["override.conf"],
        "dropped": ["OLLAMA_HOST", "OLLAMA_MAX_QUEUE"],
    }
    assert adoption.adoption(host_request.validate(WANTED), CONVERGED) is None


def test_a_repeated_run_of_the_install_script_is_adopted_again() -> None:
    again = replace(CONVERGED, unit=VENDORS, releases=replace(CONVERGED.releases, link="", vendor=VENDOR))
    again = replace(again, service=replace(again.service, environment={"OLLAMA_MODELS": MODELS}))
    assert list(examine(WANTED, replace(again, has_zstd=True))) == ["release", "unit", "service"]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"unit": VENDORS.replace("/usr/local/bin", "/usr/bin")}, "installation_foreign", ["/usr/local/bin/ollama"]),
        (
            {"unit": "[ServerFacts]\nExecStart=/usr/local/bin/ollama serve --x\n"},
            "installation_foreign",
            ["ollama.service"],
        ),
        (
            {"other_program": "/usr/bin/ollama"},
            "installation_foreign",
            [
                "/usr/bin/ollama",
                "package",
                "Ollama's own script",
                "rm -r /usr/bin/ollama /usr/lib/ollama",
                "models stay",
            ],
        ),
        (
            {"other_program": "/usr/bin/ollama", "service": ServerFacts(environment={"OLLAMA_MODELS": "/data/m"})},
            "installation_foreign",
            ["then set ollama_models_dir: /data/m"],
        ),
        (
            {"service": ServerFacts(environment={"OLLAMA_MODELS": "/data/m"})},
            "store_foreign",
            ["ollama_models_dir", "/data/m"],
        ),
        ({"service": ServerFacts(environment={"HOME": "/srv/o"})}, "store_foreign", ["/srv/o/.ollama/models"]),
    ],
)
def test_installations_that_are_not_adopted(changes: dict[str, Any], code: str, words: list[str]) -> None:
    error = refusal(WANTED, replace(FOREIGN, **changes))
    assert error.code == code
    for word in words:
        assert word in error.message


def test_another_directory_for_releases_is_refused() -> None:
    error = refusal(replace(WANTED, install_dir="/srv/ollama"), CONVERGED)
    assert error.code == "install_dir_changed"
    assert "expected '/opt/ollama'" in error.message


def test_the_settings_that_change_are_shown_without_secrets() -> None:
    wanted = replace(
        WANTED, settings={"keep_alive": "1h"}, environment={"OLLAMA_API_KEY": "hunter2", "OLLAMA_DEBUG": "1"}
    )
    there = replace(CONVERGED, environment={**ENVIRONMENT, "OLLAMA_KEEP_ALIVE": "5m", "HTTPS_PROXY": "http://a:b@c"})
    assert pending.settings_changes(host_request.validate(wanted), there) == [
        "HTTPS_PROXY: (hidden) -> (not set)",
        "OLLAMA_API_KEY: (not set) -> (hidden)",
        "OLLAMA_DEBUG: (not set) -> (hidden)",
        "OLLAMA_KEEP_ALIVE: 5m -> 1h",
    ]
    assert pending.settings_changes(host_request.validate(WANTED), CONVERGED) == []


@pytest.mark.parametrize(
    ("found", "driver_pending", "refused"),
    [
        ({"count": 0, "usable": False}, False, True),
        ({"count": 0, "usable": False}, True, True),
        ({"count": 1, "usable": False}, False, True),
        ({"count": 1, "usable": False}, True, False),
        ({"count": 1, "usable": True}, False, False),
    ],
)
@pytest.mark.parametrize("gpu", ["required", "preferred"])
def test_a_required_gpu_that_is_absent_is_refused_before_anything_is_downloaded(
    run_module: RunModule,
    monkeypatch: pytest.MonkeyPatch,
    gpu: str,
    found: dict[str, Any],
    driver_pending: bool,
    refused: bool,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: BARE)
    monkeypatch.setattr(verification, "overview", lambda *_: {**found, "summary": "no GPU", "variant": ""})
    result = run_module(preflight, arguments(gpu=gpu, driver_pending=driver_pending), check=True)
    assert result["failed"] == (refused and gpu == "required")
    if result["failed"]:
        assert result["failure"]["code"] == "gpu_unusable"
        assert "ollama_gpu: required" in result["msg"]


def test_the_former_server_in_systemd(root: Path, tmp_path: Path) -> None:
    (tmp_path / "vendor.env").write_text("# theirs\nOLLAMA_MODELS='/data/m'\nexport=no\n")
    expected_text = show(User="ollama", Environment='PATH=/usr/bin "OLLAMA_ORIGINS=a b"')
    expected_text["EnvironmentFiles"] = "/vendor.env (ignore_errors=no)"
    service = host_facts.gather(WANTED, 11434, str(root), expected_text).service
    assert service.user == "ollama"
    assert service.environment["OLLAMA_ORIGINS"] == "a b"
    assert service.environment["OLLAMA_MODELS"] == "/data/m"


def test_another_program_is_found(root: Path) -> None:
    program = root / "usr/bin/ollama"
    program.parent.mkdir(parents=True)
    program.write_text("")
    assert host_facts.gather(WANTED, 11434, str(root), show()).other_program == "/usr/bin/ollama"
    (root / "usr/local/bin/ollama").unlink()
    (root / "usr/local/bin/ollama").symlink_to(program)
    assert host_facts.gather(WANTED, 11434, str(root), show()).other_program is None
