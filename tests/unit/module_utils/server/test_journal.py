# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of a server, read from its journal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._server.journal import parse_compute, read_compute
from ansible_collections.kaido.ollama.plugins.plugin_utils.report import devices

from tests import standin
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
START = 'time=2026-11-22T14:54:24.748Z level=INFO source=routes.go:1953 msg="Ollama cloud disabled: true"'
END = 'time=2026-11-22T14:54:24.9Z level=INFO source=routes.go:2058 msg="vram-based default context" total_vram="0 B"'
GPU = (
    'level=INFO source=types.go:50 msg="inference compute" id=GPU-1 filter_id="" library=CUDA compute=8.9 name=CUDA0 '
    'description="NVIDIA GeForce RTX 4090" driver=13.0 pci_id=0000:01:00.0 type=discrete total="24.0 GiB"'
)


def test_a_real_log_reports_the_cpu() -> None:
    [device] = parse_compute((FIXTURES / "v0.33" / "serve_log_head.txt").read_text().splitlines())
    assert (device["library"], device["total"]) == ("cpu", "23.5 GiB")


def test_the_stand_ins_log_has_its_gpu(tmp_path: Path) -> None:
    with standin.running("0.35.1", tmp_path, {"STANDIN_GPU": "cuda:24564"}) as server:
        lines = list(server.log)
    [device] = parse_compute(lines)
    assert (device["library"], device["description"]) == ("CUDA", "Stand-in GPU")


def test_only_the_last_start_counts() -> None:
    cpu = 'level=INFO source=types.go:50 msg="inference compute" id=cpu library=cpu compute="" name=cpu'
    assert [device["library"] for device in parse_compute([START, cpu, START, GPU])] == ["CUDA"]
    assert parse_compute([START, GPU, START]) == []


def test_several_devices_are_listed_whatever_comes_between() -> None:
    other = (
        'level=WARN source=model_show_cache.go:142 msg="cloud cache hydration failed" error="Get \\"https://x\\": no"'
    )
    assert len(parse_compute([START, GPU, other, GPU.replace("GPU-1", "GPU-2"), END])) == 2


@pytest.mark.parametrize(
    "forged",
    [
        'msg="inference compute" x=1',
        'level=INFO source=types.go:50 msg="inference compute" x=1',
        GPU + ' x="',
        GPU + " and more",
        "llama_model_loader: - kv 1: general.name str = " + GPU,
        'level=INFO source=routes.go:1 msg="request failed: msg=\\"inference compute\\" library=CUDA"',
        '[GIN] 2026/11/22 | 404 | POST "/api/show" msg="inference compute" library=CUDA',
        GPU.replace("INFO", "DEBUG"),
        START + "\n" + GPU,
    ],
)
def test_a_forged_line_names_no_device(forged: str) -> None:
    assert parse_compute([START, forged, END]) == []
    assert [device["library"] for device in parse_compute([START, GPU, END, forged])] == ["CUDA"]


def test_a_complete_forged_line_counts_only_in_the_block_of_devices() -> None:
    cpu = 'level=INFO source=types.go:50 msg="inference compute" id=cpu library=cpu'
    assert parse_compute([GPU]) == []
    assert [device["library"] for device in parse_compute([START, cpu, END, GPU])] == ["cpu"]
    assert [device["library"] for device in parse_compute([START, cpu, "llama_model_loader: x", GPU])] == ["cpu"]


def test_the_journal_of_the_present_start_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only lines whose unit and start the journal itself vouches for; an endless journal ends."""
    programs = {
        "systemctl": f"#!/bin/sh\necho InvocationID={'a1' * 16}\n",
        "journalctl": f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat {tmp_path}/log\nexec yes {"x" * 60}\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "log").write_text(f"{START}\n{GPU}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [device["library"] for device in read_compute("ollama")] == ["CUDA"]
    asked = (tmp_path / "asked").read_text().split()
    assert {"_SYSTEMD_UNIT=ollama.service", f"_SYSTEMD_INVOCATION_ID={'a1' * 16}"} <= {*asked}
    (tmp_path / "log").write_text("")
    assert read_compute("ollama.service") == []
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho\n")
    assert read_compute("ollama.service") == []


def test_values_with_spaces_are_complete() -> None:
    [device] = parse_compute([START, GPU])
    assert device["description"] == "NVIDIA GeForce RTX 4090"


def test_devices_are_named() -> None:
    assert devices(parse_compute([START, GPU])) == "CUDA NVIDIA GeForce RTX 4090"
    assert devices([{"library": "cpu"}]) == "CPU"
    assert devices([]) == "unknown"
