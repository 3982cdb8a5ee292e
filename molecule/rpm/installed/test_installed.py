# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles have installed from RPM repositories."""

from __future__ import annotations

import json
import typing as t

import pytest

RECORD = "/var/lib/kaido-ollama/gpu_driver.json"


@pytest.fixture
def record(host: t.Any) -> dict[str, t.Any]:
    return dict(json.loads(host.file(RECORD).content_string))


@pytest.fixture
def packages(host: t.Any) -> dict[str, str]:
    """Package -> version, without packages that are installed several times."""
    lines = host.check_output("rpm --query --all --queryformat '%{NAME} %{VERSION}\\n'").splitlines()
    return dict(line.split() for line in lines)


def test_check_mode_has_predicted_the_packages_and_files(host: t.Any, record: dict[str, t.Any]) -> None:
    """The record also contains what failed runs tried to install."""
    predicted = json.loads(host.file("/srv/predicted.json").content_string)
    assert predicted["files"] == record["files"]
    assert set(predicted["packages"]) <= set(record["packages"])
    assert all(host.file(path).exists for path in predicted["files"])
    host.check_output(f"rpm --query -- {' '.join(predicted['packages'])}")


def test_the_branch_is_the_pinned_one_though_a_newer_one_exists(host: t.Any, packages: dict[str, str]) -> None:
    """A module stream on version 9, and a filter of the repository on version 10."""
    assert {packages[name] for name in packages if "nvidia" in name} == {"580.95.05"}
    assert host.check_output("find /srv/repositories -name 'nvidia-driver-cuda-620*'")


def test_the_module_is_built_for_the_running_kernel_and_not_only_for_the_newest(host: t.Any) -> None:
    running = host.file("/srv/arguments").content_string.split()[1]
    kernels = host.check_output("rpm --query kernel-devel").split()
    assert f"kernel-devel-{running}" in kernels
    assert len(kernels) == 2
    assert host.file(f"/lib/modules/{running}/extra/nvidia.ko.xz").exists
    assert f"{running}, x86_64: installed" in host.check_output("dkms status -k %s", running)


def test_the_key_is_the_verified_one(host: t.Any, record: dict[str, t.Any]) -> None:
    fingerprint = host.file("/srv/fingerprint").content_string
    assert fingerprint in record["keys"]
    keys = host.check_output("rpm --query gpg-pubkey --queryformat '%{VERSION} %{SUMMARY}\\n'").splitlines()
    assert [line.split()[0] for line in keys if "NVIDIA" in line] == [fingerprint[-8:].lower()]


def test_the_initramfs_is_rebuilt_once_and_files_are_relabelled(host: t.Any) -> None:
    calls = host.file("/srv/recorded").content_string.splitlines()
    assert calls.count("dracut --regenerate-all --force") == 1
    assert calls.count("restorecon -RF /opt/ollama/releases/0.35.1") == 1


def test_the_services_run_the_programs_of_the_packages(host: t.Any) -> None:
    for unit, package in (("ollama-gateway", "nginx"), ("ollama-balancer", "haproxy")):
        assert host.service(unit).is_running
        assert host.check_output("rpm --query --file /usr/sbin/%s --queryformat '%%{NAME}'", package) == package
        assert not host.service(package).is_enabled
    assert host.user("ollama").shell == "/sbin/nologin"


def test_the_monitoring_runs_with_the_packaged_exporter(host: t.Any) -> None:
    if host.check_output("hostname") != "rocky9":
        pytest.skip("no monitoring on this host")
    assert host.service("prometheus-node-exporter").is_running
    assert host.service("prometheus-node-exporter").is_enabled
    assert host.file("/var/lib/prometheus/node-exporter/kaido_ollama.prom").exists
    assert host.service("ollama-mirror").is_running
