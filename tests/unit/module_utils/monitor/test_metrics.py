# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics that the monitoring program writes for Prometheus."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import request
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import program as program_module
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import prometheus
from ansible_collections.kaido.ollama.plugins.module_utils._monitor.program import Config

from tests import standin
from tests.unit.module_utils.monitor.hosts import STORES, change, config_of, gateway, promtool, smi, values
from tests.unit.modules.test_gpu_info import FIXTURES as GPUS
from tests.unit.modules.test_gpu_info import unpack


def test_every_metric_of_the_catalogue_is_written_and_follows_the_rules_of_prometheus(full: str) -> None:
    found = {name.removeprefix(prometheus.PREFIX) for name in prometheus.parse(full)}
    assert found == set(prometheus.CATALOGUE)
    assert promtool("check", "metrics", stdin=full) == ""


def test_promtool_would_notice(full: str) -> None:
    assert promtool("check", "metrics", stdin=full.replace("kaido_ollama_up ", "kaido_ollama_upMs "))


def test_values_are_those_of_the_host(full: str) -> None:
    value = values(full)
    assert value("up") == 1
    assert value("version_info", version="0.35.1") == 1
    assert value("loaded_models") == 1
    assert value("loaded_model_vram_ratio", model="tiny:latest") == 1
    assert value("loaded_model_expiry_timestamp_seconds", model="tiny:latest") > value("metrics_timestamp_seconds")
    assert value("blobs", state="verified") == value("blobs", state="damaged") + value("blobs", state="verified") > 0
    assert value("blobs", state="unverified") == 0
    assert value("verification_success") == 1
    assert value("release_info", version="0.35.1", state="current") == 1
    assert value("gpu_usable", gpu="0000:01:00.0", vendor="nvidia") == 1
    assert value("gpu_utilization_ratio") == 0.37
    assert value("gpu_memory_used_bytes") == 20000 << 20
    assert value("gpu_ecc_errors", type="uncorrected") == 2
    assert value("cpu_fallback") == value("reboot_pending") == value("gpu_driver_mismatch") == 0
    assert value("converge_changes", part="models") == 3
    assert value("gateway_up") == 1
    assert value("gateway_queued_requests", backend="inference-rest") == 12
    assert value("gateway_connections", state="waiting") == 2
    assert value("gateway_requests_total") == 31
    assert 0 < value("certificate_expiry_timestamp_seconds") - value("metrics_timestamp_seconds") <= 86400
    for part in ("server", "store", "release", "gpu", "host", "converge", "gateway"):
        assert value("collector_success", collector=part) == 1


def test_a_host_without_working_parts_still_has_metrics(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    unpack(GPUS["nvidia_mismatch"]["tree"], Path(config.root))
    Path(config.record).write_text("[1")
    Path(config.findings).write_text("{}")
    broken = change(
        config,
        models_dir="/nonexistent/models",
        gateway={"address": "127.0.0.1:1", "nginx_status": "http://127.0.0.1:1/", "haproxy": "http://127.0.0.1:1/"},
    )
    text = program_module.collect(broken, smi("Failed to initialize NVML: Driver/library version mismatch", 18))
    value = values(text)
    assert value("up") == value("store_readable") == value("gateway_up") == 0
    assert value("store_free_bytes") > 0
    assert value("gpu_driver_mismatch") == 1
    assert value("collector_success", collector="release") == 1
    for part in ("store", "gpu", "converge", "gateway"):
        assert value("collector_success", collector=part) == 0, part
    # One line for each part.
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "server", "store", "gpu", "converge", "gateway",
    ]  # fmt: skip
    assert promtool("check", "metrics", stdin=text) == ""


@pytest.mark.parametrize(
    ("gpu", "tree", "server_gpu", "fallback"),
    [
        ("preferred", "no_gpu", "", 0),
        ("required", "no_gpu", "", 1),
        ("preferred", "nvidia_single_healthy", "", 1),
        ("preferred", "nvidia_single_healthy", "cuda:24564", 0),
        ("required", "nvidia_single_healthy", "cuda:24564", 0),
        ("required", "nvidia_mismatch", "cuda:24564", 1),
        ("off", "nvidia_single_healthy", "", 0),
    ],
)
def test_a_cpu_is_a_fallback_where_a_gpu_is_expected(
    tmp_path: Path, gpu: str, tree: str, server_gpu: str, fallback: int
) -> None:
    models_dir = Path(shutil.copytree(STORES / "store-v1", tmp_path / "models", symlinks=True))
    config = config_of(tmp_path, models_dir)
    unpack(GPUS[tree]["tree"], Path(config.root))
    with standin.running("0.35.1", models_dir, {"STANDIN_GPU": server_gpu}) as server:
        request("POST", f"{server.url}/api/generate", json={"model": "tiny", "stream": False})
        value = values(program_module.collect(change(config, api_url=server.url, gpu=gpu), lambda _argv: None))
    assert value("cpu_fallback") == fallback


def test_an_amd_gpu_is_read_from_the_files_of_its_driver(config: Config) -> None:
    root = unpack(GPUS["amd_discrete"]["tree"], Path(config.root))
    folder = next(path.parent for path in root.glob("sys/bus/pci/devices/*/mem_info_vram_total"))
    (folder / "hwmon/hwmon3").mkdir(parents=True)
    (folder / "ras").mkdir()
    for name, text in {
        "gpu_busy_percent": "42", "mem_info_vram_used": "1048576", "hwmon/hwmon3/temp1_input": "55000",
        "hwmon/hwmon3/power1_average": "30000000", "ras/umc_err_count": "ue: 1\nce: 7",
    }.items():  # fmt: skip
        (folder / name).write_text(f"{text}\n")
    value = values(program_module.collect(config, lambda _argv: None))
    assert (value("gpu_utilization_ratio"), value("gpu_temperature_celsius")) == (0.42, 55)
    assert (value("gpu_power_watts"), value("gpu_memory_used_bytes")) == (30, 1048576)
    assert (value("gpu_ecc_errors", type="corrected"), value("gpu_ecc_errors", type="uncorrected")) == (7, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.123456789+01:00", 1767319445.0),
        ("2026-01-02T03:04:05-00:30", 1767324845.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("soon", None),
        ("", None),
    ],
)
def test_times_are_read_as_go_writes_them(text: str, seconds: float | None) -> None:
    assert program_module.timestamp(text) == seconds


def test_names_cannot_break_the_format_nor_fill_the_disk() -> None:
    metrics = prometheus.Metrics()
    name = 'a"b\\c\nkaido_ollama_up 1\udcff\x1b[2J\u202e\r'
    metrics.add("model_bytes", 1, model=name)
    assert promtool("check", "metrics", stdin=metrics.render()) == ""
    assert len(metrics.render().splitlines()) == 3
    assert metrics.render().replace("\n", "").isprintable()
    for number in range(2 * prometheus.MAX_SERIES):
        metrics.add("model_bytes", 1, model=f"{number}" * 1000)
    lines = metrics.render().splitlines()
    assert len(lines) == 2 + prometheus.MAX_SERIES
    assert max(map(len, lines)) < 400


def test_metrics_with_the_longest_names_of_all_models_can_be_published() -> None:
    """The account of the server chooses the names, and metrics that are too large are not published."""
    metrics = prometheus.Metrics()
    with_models = [name for name in prometheus.CATALOGUE if "model_" in name]
    for number in range(prometheus.MAX_SERIES):
        for name in with_models:
            metrics.add(name, 1.5e18, model=f"{number:04}" + '"' * 1000)
    assert len(with_models) > 4
    assert len(metrics.render()) < program_module._MAX_METRICS


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (0.25, "0.25"), (float("nan"), "NaN"), (1e400, "+Inf")])
def test_numbers_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    metrics = prometheus.Metrics()
    metrics.add("up", value)
    assert metrics.render().splitlines()[-1] == f"kaido_ollama_up {text}"


def test_a_gateway_without_a_server_has_no_metrics_of_a_server(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway(Path(config.output).parent) as address:
        text = program_module.collect(change(config, server=False, gpu="required", gateway={"address": address}))
    names = {name.removeprefix(prometheus.PREFIX) for name in prometheus.parse(text)}
    assert names == {
        "collector_success", "reboot_pending", "gateway_up", "certificate_expiry_timestamp_seconds",
        "metrics_timestamp_seconds",
    }  # fmt: skip
    assert capsys.readouterr().err == ""
