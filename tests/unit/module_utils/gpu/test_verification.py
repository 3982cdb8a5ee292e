# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification that a model runs on a GPU by the reports of the server, its journal and nvidia-smi."""

from __future__ import annotations

import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import facts, support, verification
from ansible_collections.kaido.ollama.plugins.modules import model_probe

from tests import standin
from tests.conftest import ROOT
from tests.unit.modules.test_gpu_info import FIXTURES, unpack

CUDA, CPU = [{"library": "CUDA", "description": "RTX 4090"}], [{"library": "cpu"}]
ROCM, VULKAN = [{"library": "ROCm"}], [{"library": "Vulkan"}]
GB = 10**9


@pytest.mark.parametrize(
    ("vram", "compute", "seen", "says"),
    [
        (5 * GB, CUDA, True, None),
        (5 * GB, CUDA, None, None),
        (5 * GB, [], None, None),
        (0, CPU, False, "it runs on the CPU: none of it is in GPU memory"),
        (0, CUDA, True, "it runs on the CPU"),
        (5 * GB, CPU, None, "reports 5.0 GB of it in GPU memory, but its journal reports no GPU"),
        (5 * GB, CUDA, False, "but nvidia-smi lists no process of it"),
        # nvidia-smi lists only processes that use CUDA
        (5 * GB, ROCM, False, None),
        (5 * GB, VULKAN, False, None),
        (5 * GB, [*CUDA, *ROCM], False, None),
        (5 * GB, [*CUDA, *CPU], False, "but nvidia-smi lists no process of it"),
        (4 * GB, CUDA, True, "only 4.0 GB of 5.0 GB (80 %) are in GPU memory"),
    ],
)
def test_server_journal_and_nvidia_smi_must_agree(
    vram: int, compute: t.Any, seen: bool | None, says: str | None
) -> None:
    found = verification.problem({"size": 5 * GB, "size_vram": vram}, compute, seen)
    assert (says in found) if says and found else found == says


@pytest.mark.parametrize(
    ("scenario", "uses_cpu", "says"),
    [
        ("nvidia_single_healthy", True, "the server may have started before its driver: restart it"),
        ("nvidia_single_healthy", False, "there is not enough free GPU memory"),
        ("nvidia_mismatch", True, "the kernel has driver 580.119.02 loaded, but 580.126.18 is installed"),
        ("nvidia_installed_reboot_pending", True, "nouveau is in use: reboot"),
        ("nvidia_bookworm_535_too_old", True, "driver 535.309.01 is too old"),
        ("no_gpu", True, "this host has no GPU"),
    ],
)
def test_the_reason_is_that_of_gpu_info(tmp_path: Path, scenario: str, uses_cpu: bool, says: str) -> None:
    host = facts.gather(str(unpack(FIXTURES[scenario]["tree"], tmp_path)))
    assert says in verification.why(support.assess(host, "0.35.1", lambda _path: False), uses_cpu)


def process(root: Path, pid: int, cgroup: str) -> None:
    folder = root / "proc" / str(pid)
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(cgroup)
    (folder / "status").write_text(
        "Name:\tollama\nUid:\t998\t998\t998\t998\nGid:\t997\t997\t997\t997\nGroups:\t44 992 \n"
    )


def test_the_processes_of_a_server_are_those_of_its_control_group(tmp_path: Path) -> None:
    process(tmp_path, 10, "0::/system.slice/ollama.service\n")
    process(tmp_path, 11, "12:cpu:/x\n1:name=systemd:/system.slice/ollama.service/sub\n")
    process(tmp_path, 12, "0::/system.slice/ollama.service.d\n")
    process(tmp_path, 13, "0::/system.slice/xollama.service\n")
    process(tmp_path, 9, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service\n")
    process(tmp_path, 7, "0::/system.slice/docker-ab.scope/system.slice/ollama.service\n")
    process(tmp_path, 14, "0::/system.slice/ollama.service\n")
    (tmp_path / "proc/14/status").write_bytes(b"Name:\t\xff\nUid:\tx\n")
    process(tmp_path, 8, "0::/system.slice/ollama.service\n")
    (tmp_path / "proc/8/status").write_text("Name:\tollama\nUid:\nGid:\t\nGroups:\n")
    (tmp_path / "proc/self").mkdir()
    server = verification.find_server("ollama.service", str(tmp_path))
    assert server.pids == {8, 10, 11, 14}
    assert server.account
    assert (server.account.uid, server.account.gids) == (998, frozenset({997, 44, 992}))
    assert verification.find_server("other.service", str(tmp_path)) == verification.Server(frozenset(), None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((0, "7, 100\n10, 512\n"), (True, 512 << 20)),
        ((0, "9, 100\n10, 512\n11, 3\n"), (True, 515 << 20)),
        ((0, "10, 512\n11, [N/A]\n"), (True, None)),
        ((0, "10, N/A\n"), (True, None)),
        ((0, "7, 100\n"), (False, None)),
        ((0, "[N/A], [N/A]\n"), (None, None)),
        ((0, "\u00b2, 5\n"), (None, None)),
        ((9, "NVIDIA-SMI has failed\n"), (None, None)),
        (None, (None, None)),
    ],
)
def test_nvidia_smi_reports_processes_and_their_memory(
    answer: tuple[int, str] | None, expected: tuple[bool | None, int | None]
) -> None:
    server = verification.Server(frozenset([10, 11]), None)
    assert verification.evidence(server, lambda _argv: answer) == expected


def test_an_empty_list_is_evidence_except_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    server = verification.Server(frozenset([10]), None)
    for inside in (True, False):
        monkeypatch.setattr(os.path, "exists", lambda _path, inside=inside: inside)
        assert verification.evidence(server, lambda _argv: (0, "\n")).listed is (None if inside else False)


@pytest.mark.parametrize(("gpu", "on_gpu"), [("cuda:24564", True), ("", False)])
def test_a_probe_returns_the_problem_and_its_reason(
    run_module: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str, on_gpu: bool
) -> None:
    """With a unit, the reason is that of the host, which in this test uses nouveau."""
    host = facts.gather(str(unpack(FIXTURES["nvidia_installed_reboot_pending"]["tree"], tmp_path / "host")))
    monkeypatch.setattr(facts, "gather", lambda _root, _run: host)
    monkeypatch.setattr(verification, "evidence", lambda _server, _run: verification.Evidence(None, 512 << 20))
    shutil.copytree(ROOT / "tests/fixtures/store-v1", tmp_path / "models")
    with standin.running("0.35.1", tmp_path / "models", {"STANDIN_GPU": gpu}) as server:
        asked = {"api_url": server.url, "name": "tiny", "unit": "no-such.service"}
        result = run_module(model_probe, asked)
        strict = run_module(model_probe, {**asked, "require_gpu": True})
        silent = run_module(model_probe, {"api_url": server.url, "name": "tiny"})
    assert (result["failed"], strict["failed"]) == (False, not on_gpu)
    assert silent["gpu_problem"] is None
    assert "gpu_memory" not in silent
    assert ("gpu_memory" in result) is on_gpu
    if on_gpu:
        assert result["gpu_problem"] is None
        found = result["gpu_memory"]
        assert found["estimated"] == found["weights"] + found["kv_cache"] + found["overhead"] > found["weights"] > 0
        assert (found["reported"], found["used"]) == (result["size_vram"], 512 << 20)
    else:
        assert result["gpu_problem"] in strict["msg"]
        assert "it runs on the CPU" in result["gpu_problem"]
        assert "nouveau is in use: reboot" in result["gpu_problem"]
        assert strict["failure"]["code"] == "model_on_cpu"


def test_the_report_of_the_server_is_not_sufficient(
    run_module: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "evidence", lambda _server, _run: verification.Evidence(False))
    shutil.copytree(ROOT / "tests/fixtures/store-v1", tmp_path / "models")
    with standin.running("0.35.1", tmp_path / "models", {"STANDIN_GPU": "cuda:24564"}) as server:
        asked = {"api_url": server.url, "name": "tiny", "unit": "no-such.service", "require_gpu": True}
        result = run_module(model_probe, asked)
    assert result["failure"]["code"] == "gpu_use_unconfirmed"
    assert "nvidia-smi lists no process of it" in result["msg"]


def test_without_a_journal_a_radeon_can_be_the_gpu_that_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with GPUs of two vendors: the process list of nvidia-smi is no evidence about the other one."""
    result, server = {"size": 5 * GB, "size_vram": 5 * GB}, verification.Server(frozenset([10]), None)
    gather = facts.gather
    for scenario, problem in (("amd_discrete", None), ("nvidia_single_healthy", "nvidia-smi lists no process of it")):
        host = gather(str(unpack(FIXTURES[scenario]["tree"], tmp_path / scenario)))
        monkeypatch.setattr(facts, "gather", lambda _root, _run, host=host: host)
        found = verification.explain(result, [], False, server, "0.35.1")
        assert found is None if problem is None else problem in str(found)


@pytest.mark.parametrize(
    ("scenario", "usable", "problem"),
    [
        ("no_gpu", False, ""),
        ("nvidia_single_healthy", True, ""),
        ("nvidia_mismatch", False, "the kernel has driver 580.119.02 loaded"),
        ("nvidia_bookworm_535_too_old", False, "driver 535.309.01 is too old"),
        ("nvidia_vfio_passthrough_host", False, ""),
        ("intel_igpu", False, ""),
        ("intel_igpu_without_driver", False, ""),
        ("amd_igpu_without_compute_node", False, ""),
        ("amd_with_driver_radeon", False, ""),
        ("lxc_without_nodes", False, ""),
    ],
)
def test_only_a_gpu_that_can_be_repaired_is_a_problem_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, usable: bool, problem: str
) -> None:
    device = "/sys/bus/pci/devices/0000:00:02.0"
    igpus = {
        "intel_igpu": ("DRIVER=i915\n", "8086:3E92"),
        "intel_igpu_without_driver": ("", "8086:3E92"),
        "amd_igpu_without_compute_node": ("DRIVER=amdgpu\n", "1002:164E"),
        "amd_with_driver_radeon": ("DRIVER=radeon\n", "1002:68F9"),
    }
    if scenario == "lxc_without_nodes":
        tree = FIXTURES["nvidia_lxc_guest_no_userspace"]["tree"]
        tree = {path: content for path, content in tree.items() if not path.startswith("/dev/nvidia")}
    elif scenario in igpus:
        driver, pci_id = igpus[scenario]
        tree = dict(FIXTURES["no_gpu"]["tree"])
        tree[f"{device}/uevent"] = f"{driver}PCI_CLASS=30000\nPCI_ID={pci_id}\n"
        tree.update({f"{device}/mem_info_vram_total": str(1 << 29), f"{device}/mem_info_gtt_total": str(16 << 30)})
    else:
        tree = FIXTURES[scenario]["tree"]
    host = facts.gather(str(unpack(tree, tmp_path)))
    monkeypatch.setattr(facts, "gather", lambda _root, _run: host)
    found = verification.overview("0.35.1", "root")
    assert found["usable"] is usable
    assert bool(found["problem"]) == bool(problem)
    assert problem in found["problem"]
