# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems with RPM: each plan is well formed, also on those that no test has run."""

from __future__ import annotations

import configparser
import re
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import (
    driver_files,
    driver_state,
    driver_systems,
    support,
)
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_plan import plan
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_request import (
    BRANCHES,
    Card,
    DriverPlan,
    Request,
    Target,
)
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.tree import Tree, no_program
from ansible_collections.kaido.ollama.plugins.modules import gpu_info

from tests.conftest import ROOT
from tests.unit.modules.test_gpu_info import FIXTURES, unpack

V100, RTX4090, MI300 = (
    Card(vendor, pci_id)
    for vendor, pci_id in (
        ("nvidia", "10de:1db4"),
        ("nvidia", "10de:2684"),
        ("amd", "1002:74a1"),
    )
)
KIN = ("rhel", "centos", "fedora")
FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
# One host of each system of the table, with its directory in NVIDIA's repository.
HOSTS = {
    "el8": (Target("almalinux", "8.10", "4.18.0-553.el8_10.x86_64", KIN), "rhel8"),
    "el9": (Target("rocky", "9.8", "5.14.0-687.51.1.el9_8.x86_64", KIN), "rhel9"),
    "el10": (Target("almalinux", "10.1", "6.12.0-124.8.1.el10_1.x86_64", KIN), "rhel10"),
    "fedora42": (Target("fedora", "42", "6.17.4-200.fc42.x86_64"), "fedora42"),
    "fedora43": (Target("fedora", "43", "6.17.8-300.fc43.x86_64"), "fedora43"),
    "fedora44": (Target("fedora", "44", "6.19.3-300.fc44.x86_64"), "fedora44"),
}
SYSTEMS = {name: system for name, system in driver_systems._SYSTEMS.items() if system.family == "rpm"}
STREAMS = ("el8", "el9")
CASES = [
    (name, branch, modules)
    for name, system in SYSTEMS.items()
    for offer in system.offers
    for branch in offer.branches
    for modules in offer.modules
    if modules == "open" or branch <= 610
]


def planned(name: str, cards: tuple[Card, ...] = (RTX4090,), **asked: t.Any) -> DriverPlan:
    target, _folder = HOSTS[name]
    return plan(Request(key_fingerprint=FINGERPRINT, **asked), replace(target, cards=cards))


def ini(result: DriverPlan, path: str) -> configparser.SectionProxy:
    """Return the one section of a file, as dnf reads it."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string({file.path: file.content for file in result.files}[path])
    [section] = parser.sections()
    return parser[section]


def test_the_table_of_hosts_is_complete() -> None:
    assert list(HOSTS) == list(SYSTEMS)
    assert {branch for _name, branch, _modules in CASES} < set(BRANCHES)


@pytest.mark.parametrize(("name", "branch", "modules"), CASES)
def test_each_branch_and_kind_of_modules_has_a_well_formed_plan(name: str, branch: int, modules: str) -> None:
    result = planned(name, branch=str(branch), modules=modules)
    folder = HOSTS[name][1]
    assert (result.family, result.source, result.branch, result.modules) == ("rpm", "nvidia", branch, modules)
    assert all(re.fullmatch(r"[a-z0-9][A-Za-z0-9._+-]*", package) for package in result.packages)
    assert len(set(result.packages)) == len(result.packages)
    repository = ini(result, driver_files.YUM_REPOSITORY)
    assert repository["baseurl"] == (f"https://developer.download.nvidia.com/compute/cuda/repos/{folder}/x86_64/")
    assert (repository["gpgcheck"], repository["enabled"]) == ("1", "1")
    assert result.key
    assert repository["gpgkey"] == f"file://{result.key.path}"
    assert re.fullmatch(rf"{re.escape(repository['baseurl'])}[0-9A-F]{{8}}\.pub", result.key.url)
    assert result.key.fingerprint == FINGERPRINT
    module = "/etc/dnf/modules.d/nvidia-driver.module"
    assert ("includepkgs" in repository) == (name not in STREAMS)
    assert any(file.path == module for file in result.files) == (name in STREAMS)
    if name in STREAMS:
        section = ini(result, module)
        assert section.name == section["name"] == "nvidia-driver"
        assert section["stream"] == f"{branch}-{'open' if modules == 'open' else 'dkms'}"
        assert section["state"] == "enabled"
    assert ("kmod-nvidia-open-dkms" in result.packages) == (modules == "open")
    assert result.experimental
    assert result.services == ["nvidia-persistenced.service"]


@pytest.mark.parametrize("name", HOSTS)
def test_the_headers_are_those_of_the_kernel(name: str) -> None:
    """The newest kernel-devel-matched does not build a module for an older kernel that runs."""
    target, _folder = HOSTS[name]
    assert planned(name).headers[0] == f"kernel-devel-{target.kernel}"


@pytest.mark.parametrize("name", HOSTS)
def test_dkms_comes_from_epel_where_the_distribution_lacks_it(name: str) -> None:
    result = planned(name)
    fedora = name.startswith("fedora")
    assert result.repository_packages == ([] if fedora else ["epel-release"])
    assert result.enablerepo[:1] == ([] if fedora else ["epel"])
    assert planned(name, hold=False).held == []
    target, _folder = HOSTS[name]
    assert (
        plan(Request(key_fingerprint=FINGERPRINT), replace(target, cards=(RTX4090,), epel=True)).repository_packages
        == []
    )


@pytest.mark.parametrize("name", ["el9", "el10"])
def test_amds_driver_has_a_repository_and_a_key(name: str) -> None:
    result = planned(name, (MI300,), amdgpu_dkms="31.50")
    assert re.fullmatch(
        r"https://repo\.radeon\.com/amdgpu/31\.50/el/[0-9.]+/main/x86_64/",
        ini(result, driver_files.YUM_REPOSITORY)["baseurl"],
    )
    assert result.packages[-1] == "amdgpu-dkms"
    assert result.repository_packages == ["epel-release"]
    assert result.experimental


def test_the_fingerprint_of_amds_key_can_be_set() -> None:
    """The message about another key names the variable for it."""
    target = replace(HOSTS["el9"][0], cards=(MI300,))
    request = Request(amdgpu_dkms="31.50")
    known = plan(request, target).key
    changed = plan(replace(request, key_fingerprint=FINGERPRINT), target).key
    assert known
    assert changed
    assert known.fingerprint != changed.fingerprint == FINGERPRINT


def test_volta_has_proprietary_modules_only() -> None:
    assert "kmod-nvidia-latest-dkms" in planned("el9", (V100,)).packages


def test_no_driver_for_rpm_systems_was_installed_by_a_test() -> None:
    assert all(offer.experimental for system in SYSTEMS.values() for offer in system.offers)
    rows = [
        line for line in (ROOT / "roles/gpu_driver/README.md").read_text().splitlines() if line.startswith("| RHEL 8")
    ]
    assert [row.split("|")[3].strip() for row in rows] == ["experimental"]


@pytest.fixture
def rocky(tmp_path: Path) -> Path:
    """A host with an RTX 4090 and without EPEL."""
    tree = dict(FIXTURES["nvidia_nouveau"]["tree"])
    tree["/etc/os-release"] = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.8"\n'
    tree["/etc/yum.repos.d/rocky.repo"] = "[baseos]\nenabled=1\n"
    return unpack(tree, tmp_path)


ASKED = {"accept_mok": True, "kernel": "5.14.0-687.51.1.el9_8.x86_64"}


def test_removal_undoes_epel_and_the_keys_of_all_runs(run_module: t.Any, rocky: Path) -> None:
    first = run_module(gpu_info, {"root": str(rocky), "plan": ASKED})["plan"]
    assert first["next_record"]["packages"][0] == "epel-release"
    assert first["next_record"]["keys"] == [first["key"]["fingerprint"]]
    done = {**first["next_record"], "keys": ["F" * 40]}
    result = driver_state.next_record(planned("el9"), done, [])
    assert result["keys"] == [FINGERPRINT, "F" * 40]
    assert result["packages"] == first["next_record"]["packages"]


@pytest.mark.parametrize("name", ["epel.repo", "mirrors.repo"])
def test_epel_is_found_in_any_file(run_module: t.Any, rocky: Path, name: str) -> None:
    (rocky / "etc/yum.repos.d" / name).write_text("[mirror]\nenabled=1\n\n[epel]\nname=EPEL\nenabled=0\n")
    result = run_module(gpu_info, {"root": str(rocky), "plan": ASKED})["plan"]
    assert result["repository_packages"] == []
    assert "epel-release" not in result["new_packages"]


def test_another_file_of_epel_is_not_epel(rocky: Path) -> None:
    (rocky / "etc/yum.repos.d/epel-testing.repo").write_text("[epel-testing]\nenabled=0\n")
    host = support.examine("0.35.1", None, str(rocky), no_program)
    assert not driver_state.target(Tree(str(rocky)), *host).epel
