"""Whether a model really runs on a GPU: what the server, its journal and nvidia-smi say, and what follows."""

from __future__ import annotations

import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import facts, fit, support, verification
from ansible_collections.kaido.ollama.plugins.modules import model_probe

from tests import standin
from tests.conftest import ROOT
from tests.unit.modules.test_gpu_info import FIXTURES, unpack

CUDA, CPU = [{"library": "CUDA", "description": "RTX 4090"}], [{"library": "cpu"}]
GB = 10**9


@pytest.mark.parametrize(
    ("vram", "compute", "seen", "says"),
    [
        (5 * GB, CUDA, True, None),
        (5 * GB, CUDA, None, None),
        (5 * GB, [], None, None),
        (0, CPU, False, "it runs on the CPU: none of it is in GPU memory"),
        (0, CUDA, True, "it runs on the CPU"),
        (5 * GB, CPU, None, "5.0 GB of it are in GPU memory, but its journal says that it found no GPU"),
        (5 * GB, CUDA, False, "but nvidia-smi shows no process of it"),
        (4 * GB, CUDA, True, "only 4.0 GB of 5.0 GB (80 %) are in GPU memory"),
    ],
)
def test_all_have_to_agree(vram: int, compute: t.Any, seen: bool | None, says: str | None) -> None:
    found = verification.problem({"size": 5 * GB, "size_vram": vram}, compute, seen)
    assert (says in found) if says and found else found == says


@pytest.mark.parametrize(
    ("scenario", "uses_cpu", "says"),
    [
        ("nvidia_single_healthy", True, "the server was perhaps started before the driver: restart it"),
        ("nvidia_single_healthy", False, "more is not free"),
        ("nvidia_mismatch", True, "the kernel has driver 580.119.02 loaded, but 580.126.18 is installed"),
        ("nvidia_installed_reboot_pending", True, "nouveau holds the card: reboot"),
        ("nvidia_bookworm_535_too_old", True, "driver 535.309.01 is too old"),
        ("no_gpu", True, "this host has no GPU"),
    ],
)
def test_the_reason_is_that_of_gpu_info(tmp_path: Path, scenario: str, uses_cpu: bool, says: str) -> None:
    host = facts.look(str(unpack(FIXTURES[scenario]["tree"], tmp_path)))
    support.judge(host, "0.35.1", lambda _path: False)
    assert says in verification.why(host, uses_cpu)


def process(root: Path, pid: int, cgroup: str) -> None:
    folder = root / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    (folder / "status").write_text(
        "Name:\tollama\nUid:\t998\t998\t998\t998\nGid:\t997\t997\t997\t997\nGroups:\t44 992 \n"
    )


def test_a_servers_processes_are_those_of_its_control_group(tmp_path: Path) -> None:
    process(tmp_path, 10, "0::/system.slice/ollama.service\n")
    process(tmp_path, 11, "12:cpu:/x\n1:name=systemd:/docker/ab/system.slice/ollama.service/sub\n")
    process(tmp_path, 12, "0::/system.slice/ollama.service.d\n")
    process(tmp_path, 13, "0::/system.slice/xollama.service\n")
    process(tmp_path, 9, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service\n")
    process(tmp_path, 14, "0::/system.slice/ollama.service\n")
    (tmp_path / "14" / "status").write_bytes(b"Name:\t\xff\nUid:\tx\n")
    process(tmp_path, 8, "0::/system.slice/ollama.service\n")
    (tmp_path / "8" / "status").write_text("Name:\tollama\nUid:\nGid:\t\nGroups:\n")
    (tmp_path / "self").mkdir()
    server = verification.find_server("ollama.service", str(tmp_path))
    assert server.pids == {8, 10, 11, 14}
    assert server.account
    assert (server.account.uid, server.account.gids) == (998, frozenset({997, 44, 992}))
    assert verification.find_server("other.service", str(tmp_path)) == verification.Server(frozenset(), None)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ((0, "7\n10\n"), True),
        ((0, "7\n"), False),
        ((0, "[N/A]\n"), None),
        ((0, "\u00b2\n"), None),
        ((9, "NVIDIA-SMI has failed\n"), None),
        (None, None),
    ],
)
def test_nvidia_smi_tells_who_computes(answer: tuple[int, str] | None, seen: bool | None) -> None:
    server = verification.Server(frozenset([10]), None)
    assert verification.computes_there(server, lambda _argv: answer) is seen


def test_without_processes_only_a_container_is_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = verification.Server(frozenset([10]), None)
    for inside in (True, False):
        monkeypatch.setattr(os.path, "exists", lambda _path, inside=inside: inside)
        assert verification.computes_there(server, lambda _argv: (0, "\n")) is (None if inside else False)


@pytest.mark.parametrize(
    ("size", "vram", "says"),
    [
        (19_100_000_000, 16 * GB, "m:1: needs about 21.0 GB, has 16.0 GB: 24 % would run on the CPU"),
        (10 * GB, 16 * GB, None),
        (10 * GB, 0, None),
        (0, 16 * GB, None),
    ],
)
def test_a_model_that_will_not_fit_is_announced(size: int, vram: int, says: str | None) -> None:
    assert fit.too_big("m:1", size, vram) == says


@pytest.mark.parametrize(("gpu", "on_gpu"), [("cuda:24564", True), ("", False)])
def test_probe_says_what_is_the_matter(
    run_module: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str, on_gpu: bool
) -> None:
    """With a unit the sentence is about this host, which as far as this test goes has nouveau on its card."""
    host = facts.look(str(unpack(FIXTURES["nvidia_installed_reboot_pending"]["tree"], tmp_path / "host")))
    monkeypatch.setattr(facts, "look", lambda _root, _run: host)
    monkeypatch.setattr(verification, "computes_there", lambda _server, _run: None)
    shutil.copytree(ROOT / "tests/fixtures/store-v1", tmp_path / "models")
    with standin.running("0.35.1", tmp_path / "models", {"STANDIN_GPU": gpu}) as server:
        asked = {"api_url": server.url, "name": "tiny", "unit": "no-such.service"}
        result = run_module(model_probe, asked)
        strict = run_module(model_probe, {**asked, "require_gpu": True})
        silent = run_module(model_probe, {"api_url": server.url, "name": "tiny"})
    assert (result["failed"], strict["failed"]) == (False, not on_gpu)
    assert silent["gpu_problem"] is None
    if on_gpu:
        assert result["gpu_problem"] is None
    else:
        assert result["gpu_problem"] in strict["msg"]
        assert "it runs on the CPU" in result["gpu_problem"]
        assert "nouveau holds the card: reboot" in result["gpu_problem"]
        assert strict["failure"]["code"] == "on_cpu"


def test_what_the_server_says_alone_is_not_enough(
    run_module: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "computes_there", lambda _server, _run: False)
    shutil.copytree(ROOT / "tests/fixtures/store-v1", tmp_path / "models")
    with standin.running("0.35.1", tmp_path / "models", {"STANDIN_GPU": "cuda:24564"}) as server:
        asked = {"api_url": server.url, "name": "tiny", "unit": "no-such.service", "require_gpu": True}
        result = run_module(model_probe, asked)
    assert result["failure"]["code"] == "gpu_disagrees"
    assert "nvidia-smi shows no process of it" in result["msg"]
