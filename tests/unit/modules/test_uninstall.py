# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uninstalling: what goes, what stays and why, and that nothing goes that others made."""

from __future__ import annotations

import grp
import json
import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import uninstall as uninstall_module
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.uninstall import UninstallRequest
from ansible_collections.kaido.ollama.plugins.modules import uninstall

from tests.unit.conftest import RunModule

HOME = "/usr/share/ollama"
MODELS = f"{HOME}/.ollama/models"
BLOB = "sha256-" + "ab" * 32
ACCOUNT = pwd.struct_passwd(("ollama", "x", 997, 997, "", HOME, "/usr/sbin/nologin"))
GROUP = grp.struct_group(("ollama", "x", 997, []))
STORE = {
    f"{MODELS}/manifests/registry.ollama.ai/library/tiny/latest": "{}",
    f"{MODELS}/blobs/{BLOB}": "weights",
    f"{MODELS}/blobs/{BLOB}-partial": "half",
    f"{MODELS}/blobs/{BLOB}-partial-0": "{}",
    f"{HOME}/.ollama/id_ed25519": "key",
    f"{HOME}/.ollama/id_ed25519.pub": "key",
    f"{HOME}/.ollama/cache/x/y": "cached",
}
SERVER = {
    "/etc/systemd/system/ollama.service": "# Managed by kaido.ollama.ollama\n",
    "/etc/ollama/ollama.env": "",
    "/opt/ollama/releases/0.35.1/.kaido-release.json": json.dumps({"version": "0.35.1", "archives": {}}),
    "/opt/ollama/releases/0.35.1/bin/ollama": "",
    "/opt/ollama/releases/.unpack-0.40.2/bin/ollama": "",
    "/opt/ollama/download/sha256-00.part": "",
    "/opt/ollama/.lock": "",
    "/var/lib/kaido-ollama/store-1.json": "{}",
}


@dataclass
class Host:
    """A host's file system below a directory, with an account and a systemd that only record their calls."""

    root: Path
    user: pwd.struct_passwd | None = ACCOUNT
    group: grp.struct_group | None = GROUP
    active: bool = True
    others: dict[str, pwd.struct_passwd] = field(default_factory=dict)
    commands: list[tuple[str, ...]] = field(default_factory=list)

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            path = self.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def link(self, name: str, target: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    @property
    def properties(self) -> dict[str, str]:
        return {"ActiveState": "active" if self.active else "inactive", "UnitFileState": ""}

    def run(self, *command: str, check: bool = True) -> None:
        self.commands.append(command)
        if command[0] == "userdel":
            self.user = None
        elif command[0] == "groupdel":
            self.group = None
        elif command[:2] == ("systemctl", "disable"):
            self.active = False

    def uninstall(self, **wanted: Any) -> tuple[uninstall_module.UninstallPlan, dict[str, str]]:
        asked = UninstallRequest(**wanted)
        seen = uninstall_module.gather(asked, str(self.root), self.properties)
        plan = uninstall_module.plan(seen, asked)
        late = uninstall_module.Removal(seen, asked, str(self.root), self.run).apply(plan.steps)
        return plan, {**plan.kept, **late}

    def files(self) -> list[str]:
        return sorted("/" + str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    it = Host(tmp_path)
    it.write({**SERVER, **STORE})
    it.link("/opt/ollama/current", "releases/0.35.1")
    it.link("/usr/local/bin/ollama", "/opt/ollama/current/bin/ollama")

    monkeypatch.setattr(
        uninstall_module, "find_user", lambda name: it.user if name == "ollama" else it.others.get(name)
    )
    monkeypatch.setattr(uninstall_module, "find_group", lambda name: it.group if name == "ollama" else None)
    return it


def as_owner(host: Host) -> None:
    """Let the files of the store and its home belong to the account."""
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for name in (HOME, *(str(path.relative_to(host.root)) for path in (host.root / HOME.lstrip("/")).rglob("*"))):
        os.chown(host.root / name.lstrip("/"), 997, 997, follow_symlinks=False)


def owners(host: Host) -> set[int]:
    return {path.lstat().st_uid for path in (host.root / HOME.lstrip("/")).rglob("*")}


def test_models_stay_and_belong_to_root(host: Host) -> None:
    as_owner(host)
    plan, kept = host.uninstall()
    assert list(plan.steps) == [
        "service",
        "unit",
        "link",
        "releases",
        "environment",
        "state",
        "owner",
        "user",
        "group",
    ]
    assert host.files() == sorted(STORE)
    assert list(kept) == [MODELS]
    assert "ollama_remove_models" in kept[MODELS]
    assert owners(host) == {0}
    assert (host.root / HOME.lstrip("/")).stat().st_uid == 0
    assert host.commands == [
        ("systemctl", "disable", "--now", "ollama.service"),
        ("systemctl", "daemon-reload"),
        ("systemctl", "reset-failed", "ollama.service"),
        ("userdel", "ollama"),
        ("groupdel", "ollama"),
    ]
    again, kept = host.uninstall()
    assert (again.steps, list(kept)) == ({}, [MODELS])


def test_everything_is_removed_on_request(host: Host) -> None:
    plan, kept = host.uninstall(remove_models=True)
    assert "models" in plan.steps
    assert (host.files(), kept) == ([], {})
    left = {str(path.relative_to(host.root)) for path in host.root.rglob("*")}
    assert left == {
        "etc",
        "etc/systemd",
        "etc/systemd/system",
        "opt",
        "usr",
        "usr/local",
        "usr/local/bin",
        "usr/share",
    } | {
        "var",
        "var/lib",
    }
    assert host.uninstall(remove_models=True)[0].steps == {}


def test_models_can_go_later(host: Host) -> None:
    host.uninstall()
    plan, _kept = host.uninstall(remove_models=True)
    assert list(plan.steps) == ["models"]
    assert host.files() == []


def test_files_of_others_are_kept(host: Host) -> None:
    theirs = {
        "/etc/ollama/notes": "",
        "/opt/ollama/tools/x": "",
        "/opt/ollama/releases/mine/bin/ollama": "",
        f"{MODELS}/blobs/random.txt": "",
        f"{MODELS}/lost+found/x": "",
        f"{HOME}/.ollama/notes": "",
        "/etc/systemd/system/ollama.service.d/limits.conf": "",
    }
    host.write(theirs)
    _plan, kept = host.uninstall(remove_models=True)
    assert host.files() == sorted(theirs)
    assert list(kept) == [
        "/etc/systemd/system/ollama.service.d",
        "/opt/ollama/releases",
        "/opt/ollama",
        "/etc/ollama",
        MODELS,
        f"{HOME}/.ollama",
        HOME,
    ]
    assert "random" not in kept[MODELS]
    assert "lost+found" in kept[MODELS]
    assert host.uninstall(remove_models=True)[0].steps == {}


def test_a_link_in_the_store_is_removed_and_not_followed(host: Host) -> None:
    host.write({"/data/precious": "", "/data/tree/precious": ""})
    host.link(f"{MODELS}/manifests-v2/ollama.com/library/tiny/latest", f"../../../../blobs/{BLOB}")
    host.link(f"{MODELS}/manifests/elsewhere", "../../../../../../data/tree")
    host.link(f"{MODELS}/blobs/sha256-{'cd' * 32}", "../../../../../../data/precious")
    host.uninstall(remove_models=True)
    assert host.files() == ["/data/precious", "/data/tree/precious"]


@pytest.mark.parametrize(
    "account",
    [
        ("deploy", "x", 1000, 1000, "", HOME, "/usr/sbin/nologin"),
        ("ollama", "x", 997, 997, "", "/home/ollama", "/usr/sbin/nologin"),
        ("ollama", "x", 997, 997, "", HOME, "/bin/bash"),
        ("root", "x", 0, 0, "", HOME, "/bin/false"),
    ],
)
def test_a_login_account_is_kept(host: Host, account: tuple[Any, ...]) -> None:
    as_owner(host)
    host.user = pwd.struct_passwd(account)
    plan, kept = host.uninstall()
    assert not {"user", "group", "owner"} & set(plan.steps)
    assert "user ollama" in kept
    assert owners(host) == {997}


def test_the_account_of_the_vendor_is_removed(host: Host) -> None:
    host.user = pwd.struct_passwd(("ollama", "x", 997, 997, "", HOME, "/bin/false"))
    assert "user" in host.uninstall()[0].steps


def test_a_group_that_is_needed_stays(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "run", lambda *_command, check=True: None)
    _plan, kept = host.uninstall()
    assert kept["group ollama"] == "it is the primary group of another account"


def test_a_foreign_installation_is_not_changed(host: Host) -> None:
    host.write({"/etc/systemd/system/ollama.service": "[Unit]\nDescription=Ollama Service\n"})
    with pytest.raises(OllamaError) as caught:
        host.uninstall()
    assert caught.value.code == "installation_foreign"
    assert host.commands == []


def test_a_foreign_program_is_not_changed(host: Host) -> None:
    (host.root / "usr/local/bin/ollama").unlink()
    host.write({"/usr/local/bin/ollama": "theirs"})
    plan, kept = host.uninstall()
    assert "link" not in plan.steps
    assert "/usr/local/bin/ollama" in kept


def test_a_fresh_host_has_nothing_to_remove(host: Host, tmp_path: Path) -> None:
    host.root, host.user, host.group, host.active = tmp_path / "fresh", None, None, False
    host.root.mkdir()
    plan, kept = host.uninstall(remove_models=True)
    assert (plan.steps, kept, host.commands) == ({}, {}, [])


def test_the_module(host: Host, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run_module(uninstall, {})["failure"]["code"] == "root_required"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    seen = uninstall_module.gather(UninstallRequest(), str(host.root), host.properties)
    monkeypatch.setattr(uninstall_module, "gather", lambda _wanted: seen)
    before = host.files()
    predicted = run_module(uninstall, {}, check=True)
    assert host.files() == before
    assert predicted["changed"]
    assert predicted["actions"][0] == "stop and disable ollama.service"
    assert list(predicted["kept"]) == [MODELS]


def test_programs_outside_of_the_search_path_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `become_method: su`, whose PATH has no directory of system administration."""
    monkeypatch.setenv("PATH", "/nonexistent")
    uninstall_module._execute("userdel", "--help")


# The rest of what this collection runs

FORWARDER = pwd.struct_passwd(("ollama-forwarder", "x", 990, 990, "", "/nonexistent", "/usr/sbin/nologin"))
OTHERS = {
    "/etc/systemd/system/ollama-mirror.service": "# Managed by the Ansible role kaido.ollama.ollama_mirror\n",
    "/etc/ollama-mirror/tls.key": "key",
    "/etc/systemd/system/ollama-gateway.service": "# Managed by the Ansible role kaido.ollama.ollama_gateway\n",
    "/etc/ollama-gateway/tokens.conf": "token",
    "/etc/ollama-gateway/ca.key": "key",
    "/var/cache/ollama-gateway/body/x": "",
    "/etc/systemd/system/ollama-balancer.service": "# Managed by the Ansible role kaido.ollama.ollama_gateway\n",
    "/etc/systemd/system/ollama-forwarder.service": "# Managed by the Ansible role kaido.ollama.ollama_client\n",
    "/etc/ollama-forwarder/token.conf": "token",
}


def test_every_service_of_this_collection_is_removed_with_its_secrets(host: Host) -> None:
    host.write(OTHERS)
    host.others = {"ollama-forwarder": FORWARDER}
    plan, kept = host.uninstall(remove_models=True)
    assert (host.files(), kept) == ([], {})
    for name in ("mirror", "gateway", "balancer", "forwarder"):
        assert ("systemctl", "disable", "--now", f"ollama-{name}.service") in host.commands
        assert f"/etc/systemd/system/ollama-{name}.service" in plan.steps[f"other:ollama-{name}"]
    assert ("userdel", "ollama-forwarder") in host.commands
    assert host.uninstall(remove_models=True)[0].steps == {}


def test_the_authority_of_a_disabled_gateway_is_removed(host: Host) -> None:
    host.write({"/etc/ollama-gateway/ca.key": "key", "/etc/ollama-gateway/ca.crt": ""})
    host.uninstall(remove_models=True)
    assert host.files() == []


def test_services_of_others_and_what_clients_use_is_listed(host: Host) -> None:
    theirs = {
        "/etc/systemd/system/ollama-gateway.service": "[Service]\nExecStart=/theirs\n",
        "/etc/ollama-gateway/tokens.conf": "theirs",
        "/etc/systemd/system/ollama-mirror.service.d/x.conf": "",
        "/etc/kaido-ollama/endpoint.json": "{}",
    }
    host.write(theirs)
    _plan, kept = host.uninstall(remove_models=True)
    assert host.files() == sorted(theirs)
    assert {
        "/etc/systemd/system/ollama-gateway.service",
        "/etc/systemd/system/ollama-mirror.service.d",
        "/etc/kaido-ollama",
    } == set(kept)


def test_on_a_host_without_a_server_only_the_others_go(host: Host) -> None:
    host.write({**OTHERS, "/etc/systemd/system/ollama.service": "[Service]\nExecStart=/theirs\n"})
    before = set(host.files()) - set(OTHERS)
    plan, _kept = host.uninstall(server=False)
    assert set(plan.steps) == {f"other:ollama-{name}" for name in ("mirror", "gateway", "balancer", "forwarder")}
    assert set(host.files()) == before


@pytest.mark.parametrize("models_dir", ["/etc", "/", "models", "/usr/share"])
def test_what_is_no_store_is_refused(run_module: RunModule, models_dir: str) -> None:
    assert run_module(uninstall, {"models_dir": models_dir}, check=True)["failure"]["code"] == "value_invalid"
