# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of systems: checks of each row without its image, and the platform that the roles detect."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core import host
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import driver_systems

from tests.lab import PROJECT, images
from tests.lab.__main__ import main
from tests.lab.systems import NEW_SYSTEMD, SYSTEMS

TABLE = PROJECT / "roles/ollama/vars/platforms.yml"
PLATFORMS = yaml.safe_load(TABLE.read_text())["ollama__platforms"]
KIN = 'ID_LIKE="rhel centos fedora"'
# System -> its /etc/os-release, the key of platforms.yml, what gpu_driver takes it for.
KNOWN = {
    "debian12": ('ID=debian\nVERSION_ID="12"', "debian", "debian12"),
    "debian13": ('ID=debian\nVERSION_ID="13"', "debian", "debian13"),
    "ubuntu2204": ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"', "ubuntu", "ubuntu2204"),
    "ubuntu2404": ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"', "ubuntu", "ubuntu2404"),
    "ubuntu2604": ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="26.04"', "ubuntu", "ubuntu2604"),
    "rocky9": (f'ID="rocky"\n{KIN}\nVERSION_ID="9.8"', "rhel", "el9"),
    "rocky10": (f'ID="rocky"\n{KIN}\nVERSION_ID="10.1"', "rhel", "el10"),
    "alma9": (f'ID="almalinux"\n{KIN}\nVERSION_ID="9.8"', "rhel", "el9"),
    "alma10": (f'ID="almalinux"\n{KIN}\nVERSION_ID="10.1"', "rhel", "el10"),
    "rhel9": ('ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.8"', "rhel", "el9"),
    "rhel10": ('ID="rhel"\nID_LIKE="centos fedora"\nVERSION_ID="10.1"', "rhel", "el10"),
    "fedora44": ("ID=fedora\nVERSION_ID=44", "fedora", "fedora44"),
    "arch": ("ID=arch\nBUILD_ID=rolling", "arch", None),
    "rocky9-stub": (f'ID="rocky"\n{KIN}\nVERSION_ID="9.8"', "rhel", "el9"),
}


def test_the_roles_know_every_system() -> None:
    assert list(KNOWN) == list(SYSTEMS)
    for text, platform, gpu in KNOWN.values():
        assert host.platform_of(text, PLATFORMS) == platform
        values = {key: value.strip('"') for key, value in (line.split("=", 1) for line in text.splitlines())}
        found = driver_systems.find(values["ID"], values.get("ID_LIKE", "").split(), values.get("VERSION_ID", ""))
        assert (found.name if found else None) == gpu


def test_systems_that_no_test_has_run_are_experimental() -> None:
    """The lab builds the images of the others; the stub resembles a system, and does not count as one."""
    run = {platform for name, (_text, platform, _gpu) in KNOWN.items() if SYSTEMS[name].bootstrap}
    assert {name for name, values in PLATFORMS.items() if "experimental" not in values} == run
    assert all(values.get("experimental", True) is True for values in PLATFORMS.values())
    [row] = [line for line in (PROJECT / "README.md").read_text().splitlines() if line.startswith("| Rocky,")]
    assert "experimental" in row
    names = {"rhel": "RHEL", "fedora": "Fedora", "arch": "Arch"}
    assert all(names[name] in row for name in PLATFORMS.keys() - run)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_row_is_well_formed(name: str) -> None:
    system = SYSTEMS[name]
    assert re.fullmatch(r"([a-z0-9.]+/)*[a-z0-9]+:[a-z0-9.]+", system.image)
    assert subprocess.run(["sh", "-n"], input=system.install, text=True, check=False).returncode == 0
    # What the lab and Ansible cannot do without, under whatever name.
    for needed in ("systemd", "openssh", "python", "sudo", "iproute", "procps", "curl", "ca-certificates"):
        assert needed in system.install
    # Where an installed server does not start by itself.
    assert ("systemctl enable sshd" in system.install) == ("apt-get" not in system.install)
    assert system.base in ("", *SYSTEMS)


def test_each_system_has_an_image_of_its_own() -> None:
    hashes = {images.source_hash(name, SYSTEMS[name].image, SYSTEMS[name].install) for name in SYSTEMS}
    assert len(hashes) == len(SYSTEMS)


@pytest.mark.parametrize(("version", "ran"), [("v1", ["umount -R", "mount -t cgroup2", "init"]), ("v2", ["init"])])
def test_a_new_systemd_gets_cgroup_v2(tmp_path: Path, version: str, ran: list[str]) -> None:
    """The script itself, with programs that only record that they ran."""
    tree = tmp_path / "cgroup"
    tree.mkdir()
    if version == "v2":
        (tree / "cgroup.procs").touch()
    for program in ("umount", "mount", "init"):
        path = tmp_path / program
        path.write_text(f'#!/bin/sh\necho {program} "$@"\n')
        path.chmod(0o755)
    script = NEW_SYSTEMD[-1].replace("/sys/fs/cgroup", str(tree)).replace("/sbin/init", str(tmp_path / "init"))
    command = [*NEW_SYSTEMD[:-1], script]
    out = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True).stdout
    lines = out.splitlines()
    assert len(lines) == len(ran)
    assert all(line.startswith(start) for line, start in zip(lines, ran, strict=True))


def test_systems_can_be_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["lab", "systems"])
    assert main() == 0
    assert capsys.readouterr().out.split() == [name for name in SYSTEMS if name != "rocky9-stub"]
