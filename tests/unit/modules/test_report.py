"""The table at the end of a converge, and what it takes from the server's journal."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.action.report import devices, table, warnings
from ansible_collections.kaido.ollama.plugins.module_utils._server.journal import parse_compute, read_compute

from tests import standin
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
START = 'time=2026-11-22T14:54:24.748Z level=INFO source=routes.go:1953 msg="Ollama cloud disabled: true"'
END = 'time=2026-11-22T14:54:24.9Z level=INFO source=routes.go:2058 msg="vram-based default context" total_vram="0 B"'
GPU = (
    'level=INFO source=types.go:50 msg="inference compute" id=GPU-1 filter_id="" library=CUDA compute=8.9 name=CUDA0 '
    'description="NVIDIA GeForce RTX 4090" driver=13.0 pci_id=0000:01:00.0 type=discrete total="24.0 GiB"'
)


def test_a_real_log_says_cpu() -> None:
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


def test_a_whole_forged_line_counts_only_in_the_block_of_devices() -> None:
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


def test_the_table_shows_no_control_characters() -> None:
    row = {"state": "present", "digest_after": "\x9b", "size": 1, "seconds": 1.0, "source": "http://u:p@m\u202e"}
    report: dict[str, t.Any] = {
        "version": "1\x1b[2J",
        "address": "a\nb",
        "compute": [{"description": "\x1b]0;x\x07"}, {}],
        "verify": "changed",
        "models": [{**row, "name": "a\udcff\x1b[31m"}],
    }
    text = "".join(table({"h\x1b": report}))
    assert text.isprintable()
    assert "u:p" not in text


def test_values_with_spaces_are_whole() -> None:
    [device] = parse_compute([START, GPU])
    assert device["description"] == "NVIDIA GeForce RTX 4090"


def test_devices_are_named() -> None:
    assert devices(parse_compute([START, GPU])) == "CUDA NVIDIA GeForce RTX 4090"
    assert devices([{"library": "cpu"}]) == "CPU"
    assert devices([]) == "unknown"


def test_each_host_and_each_model_has_its_line() -> None:
    digest = "sha256:" + "ab" * 32
    row = {"state": "present", "digest_after": digest, "size": 2_019_393_189, "seconds": 12.34, "source": None}
    mirror, bundle = "http://hecate:11480", "/media/usb/models.tar"
    report = {"version": "0.35.1", "compute": [{"library": "cpu"}], "verify": "changed"}
    report["listening"] = [{"service": "server", "address": "127.0.0.1:11434"}]
    lines = table(
        {
            "hecate": {
                **report,
                "models": [
                    {**row, "name": "llama3.2:3b"},
                    {**row, "name": "tiny:latest", "source": mirror},
                    {**row, "name": "big:1b", "source": bundle},
                ],
            },
            "dev1": {**report, "models": [{**row, "name": "gone:1b", "state": "absent"}]},
        }
    )
    assert [line.split() for line in lines[1:]] == [
        ["dev1", "0.35.1", "127.0.0.1:11434", "CPU", "-"],
        ["hecate", "0.35.1", "127.0.0.1:11434", "CPU", "llama3.2:3b", "ab" * 6, "yes", "2.0", "GB", "12.3", "-"],
        ["tiny:latest", "ab" * 6, "yes", "2.0", "GB", "12.3", mirror],
        ["big:1b", "ab" * 6, "yes", "2.0", "GB", "12.3", bundle],
    ]
    for column in ("ab" * 6, "12.3"):
        assert len({line.index(column) for line in lines[2:]}) == 1


def test_vulnerable_servers_are_named() -> None:
    reports: dict[str, dict[str, str | None]] = {
        "b": {"version": "0.34.3"},
        "a": {"version": "0.35.0"},
        "c": {"version": None},
    }
    [line] = warnings(reports)
    assert line.startswith("b: Ollama 0.34.3 is vulnerable (CVE-2026-103663")


def test_each_port_is_shown_as_it_was_seen() -> None:
    rows = [("server", "127.0.0.1:11434"), ("mirror", "0.0.0.0:11480"), ("balancer", "127.0.0.1:11444")]
    listening = [{"service": service, "address": address} for service, address in rows]
    nothing: dict[str, t.Any] = {"version": None, "compute": None, "models": [], "listening": []}
    lines = table({"hecate": {**nothing, "listening": listening}, "idle": nothing})
    assert "127.0.0.1:11434, 0.0.0.0:11480 (mirror), 127.0.0.1:11444 (balancer)" in lines[1]
    assert lines[2].split() == ["idle", "-", "-", "-", "-"]
