"""The table at the end of a converge, and what it takes from the server's journal."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.action.report import devices, table, warnings
from ansible_collections.kaido.ollama.plugins.module_utils._journal import parse_compute

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
GPU = (
    'level=INFO source=types.go:50 msg="inference compute" id=GPU-1 filter_id="" library=CUDA compute=8.9 name=CUDA0 '
    'description="NVIDIA GeForce RTX 4090" driver=13.0 pci_id=0000:01:00.0 type=discrete total="24.0 GiB"'
)


def test_a_real_log_says_cpu() -> None:
    [device] = parse_compute((FIXTURES / "v0.33" / "serve_log_head.txt").read_text().splitlines())
    assert (device["library"], device["total"]) == ("cpu", "23.5 GiB")


def test_only_the_last_start_counts() -> None:
    start = 'level=INFO source=routes.go:1953 msg="Ollama cloud disabled: true"'
    cpu = 'msg="inference compute" id=cpu library=cpu compute="" name=cpu'
    assert [device["library"] for device in parse_compute([start, cpu, start, GPU])] == ["CUDA"]
    assert parse_compute([start, GPU, start]) == []


def test_values_with_spaces_are_whole() -> None:
    [device] = parse_compute([GPU])
    assert device["description"] == "NVIDIA GeForce RTX 4090"


def test_devices_are_named() -> None:
    assert devices(parse_compute([GPU])) == "CUDA NVIDIA GeForce RTX 4090"
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
