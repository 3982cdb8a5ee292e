# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring program: what it writes for Prometheus, and how it verifies a store."""

from __future__ import annotations

import contextlib
import errno
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import request
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import tree
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import install, prometheus
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import program as program_module
from ansible_collections.kaido.ollama.plugins.module_utils._monitor.program import Config
from ansible_collections.kaido.ollama.plugins.module_utils._store import findings as findings_module
from ansible_collections.kaido.ollama.plugins.module_utils._store.audit import audit
from ansible_collections.kaido.ollama.plugins.module_utils._store.findings import Findings
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model_verify

from tests import standin
from tests.conftest import ROOT
from tests.unit.modules.test_gpu_info import FIXTURES as GPUS
from tests.unit.modules.test_gpu_info import unpack

PROMTOOL = ROOT / ".cache/promtool/usr/bin/promtool"
STORES = ROOT / "tests/fixtures"
WEIGHTS = "sha256:a909f554de2d9f495deb26ab065ecc27aa053c2ba9b004cad87101aaf0bfc917"
SMI = "00000000:01:00.0, 37, 20000, 24564, 61, 213.50, [N/A], 2\n"
HAPROXY = 'haproxy_backend_current_queue{proxy="inference-rest"} 12\nhaproxy_backend_active_servers{proxy="own"} 1\n'
NGINX = "Active connections: 3 \nserver accepts handled requests\n 16 16 31 \nReading: 0 Writing: 1 Waiting: 2 \n"

Values = t.Callable[..., float]


@pytest.fixture(params=["store-v1", "store-v2"])
def models_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORES / request.param, tmp_path / "models", symlinks=True))


@pytest.fixture
def config(models_dir: Path, tmp_path: Path) -> Config:
    return config_of(tmp_path, models_dir)


def config_of(tmp_path: Path, models_dir: Path) -> Config:
    (tmp_path / "root").mkdir()
    return Config(
        api_url="http://127.0.0.1:1",
        models_dir=str(models_dir),
        install_dir=str(tmp_path / "opt"),
        user="nobody",
        findings=str(tmp_path / "findings.json"),
        record=str(tmp_path / "converge.json"),
        collected=str(tmp_path / "collected.prom"),
        output=str(tmp_path / "out.prom"),
        root=str(tmp_path / "root"),
    )


def change(config: Config, **changes: t.Any) -> Config:
    return Config(**{**vars(config), **changes})


def values(text: str) -> Values:
    """Return a function that finds the one series of a name with these labels."""
    found = prometheus.parse(text)

    def value(name: str, **labels: str) -> float:
        rows = [number for given, number in found[prometheus.PREFIX + name] if labels.items() <= given.items()]
        assert len(rows) == 1, (name, labels, rows)
        return rows[0]

    return value


def smi(output: str, status: int = 0) -> tree.Run:
    def run(argv: t.Sequence[str]) -> tuple[int, str] | None:
        return (status, output) if argv[0] == "nvidia-smi" and "utilization" in argv[1] else None

    return run


@contextlib.contextmanager
def serving(content: dict[str, str], tls: ssl.SSLContext | None = None) -> t.Iterator[http.server.ThreadingHTTPServer]:
    """Serve some texts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = content.get(self.path)
            self.send_response(200 if text else 404)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@contextlib.contextmanager
def gateway(folder: Path) -> t.Iterator[str]:
    """Answer /healthz over TLS, with a certificate for a day."""
    files = [str(folder / "tls.key"), str(folder / "tls.crt")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=gateway", "-addext", "subjectAltName=DNS:gateway", "-keyout", files[0], "-out", files[1]],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    with serving({"/healthz": "ok\n"}, context) as server:
        yield f"127.0.0.1:{server.server_port}"


def everything(config: Config, models_dir: Path) -> str:
    """The metrics of a host that has everything that can be measured."""
    unpack(GPUS["nvidia_single_healthy"]["tree"], Path(config.root))
    release = Path(config.install_dir) / "releases/0.35.1"
    release.mkdir(parents=True)
    (release / ".kaido-release.json").write_text(json.dumps({"version": "0.35.1", "archives": {}}))
    (release.parent.parent / "current").symlink_to(release)
    Path(config.record).write_text(json.dumps({"installed": 1, "converged": 2, "changes": {"models": 3}}))
    with (
        standin.running("0.35.1", models_dir, {"STANDIN_GPU": "cuda:24564"}) as server,
        serving({"/metrics": HAPROXY, "/status": NGINX}) as page,
        gateway(Path(config.output).parent) as address,
    ):
        at = f"http://127.0.0.1:{page.server_port}"
        request("POST", f"{server.url}/api/generate", json={"model": "tiny", "stream": False})
        gates = {"address": address, "nginx_status": f"{at}/status", "haproxy": f"{at}/metrics"}
        assert program_module.verify(config) == 0
        return program_module.collect(change(config, api_url=server.url, gateway=gates), smi(SMI))


@pytest.fixture
def full(tmp_path: Path) -> str:
    """The text of `everything`."""
    models_dir = Path(shutil.copytree(STORES / "store-v1", tmp_path / "full", symlinks=True))
    return everything(config_of(tmp_path, models_dir), models_dir)


def promtool(*arguments: str, stdin: str = "") -> str:
    """Run promtool and return its errors; make installs it with scripts/promtool.sh."""
    assert PROMTOOL.exists(), "promtool is missing; run sh scripts/promtool.sh"
    done = subprocess.run([PROMTOOL, *arguments], input=stdin, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def damage(config: Config, size_too: bool = False) -> Path:
    """Overwrite the weights of a model with zeros; returns their file."""
    path = Path(Store(config.models_dir).blob_path(WEIGHTS))
    path.write_bytes(bytes(path.stat().st_size - size_too))
    return path


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


# Verification


def test_damage_fails_the_run_and_is_a_metric(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert program_module.verify(config) == 0
    path = damage(config)
    assert program_module.verify(config) == 1
    assert "has wrong content" in capsys.readouterr().err
    value = values(program_module.collect(config))
    assert value("blobs", state="damaged") == 1
    assert value("model_damaged", model="tiny:latest") == 1
    assert value("verification_success") == 0
    # It repairs nothing.
    assert path.read_bytes() == bytes(path.stat().st_size)


def test_implausible_names_are_one_line_each(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    [tag] = Path(config.models_dir).glob("manifests*/*/library/tiny/latest")
    for name in (b"a\nkaido_ollama_up 1", b"\xff\x1b[2J"):
        Path(os.fsdecode(os.path.join(os.fsencode(tag.parent), name))).write_bytes(b"{")
    assert program_module.verify(config) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() and "its name is invalid" in line for line in lines)
    text = program_module.collect(config)
    assert values(text)("up") == 0
    assert promtool("check", "metrics", stdin=text) == ""


def test_a_changed_blob_is_no_longer_verified(config: Config) -> None:
    assert program_module.verify(config) == 0
    path = Path(Store(config.models_dir).blob_path(WEIGHTS))
    path.write_bytes(path.read_bytes())
    value = values(program_module.collect(config))
    assert (value("blobs", state="unverified"), value("blobs", state="damaged")) == (1, 0)


def test_a_blob_of_another_size_is_damaged_before_any_verification(config: Config) -> None:
    damage(config, size_too=True)
    assert values(program_module.collect(config))("blobs", state="damaged") == 1


@pytest.mark.parametrize("share", [1, 30])
def test_a_share_of_the_store_is_verified_and_the_next_run_continues(config: Config, share: int) -> None:
    damage(config)
    total = len({blob.digest for entry in Store(config.models_dir).entries() for blob in entry.blobs})
    statuses, left = [], []
    for _run in range(total):
        statuses.append(program_module.verify(change(config, share=share)))
        left.append(values(program_module.collect(config))("blobs", state="unverified"))
        if not left[-1]:
            break
    assert left[0] > 0
    assert left[-1] == 0
    assert sorted(left, reverse=True) == left
    assert statuses[-1] == 1


def test_an_interrupted_run_keeps_its_findings(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    count: list[int] = []

    def killed(*arguments: t.Any, **options: t.Any) -> t.Any:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return audit(*arguments, **options)

    monkeypatch.setattr(findings_module, "audit", killed)
    with pytest.raises(KeyboardInterrupt):
        program_module.verify(config)
    assert len(Findings.load(config.findings).blobs) == 2


def test_the_least_recently_verified_blob_is_read_first(config: Config) -> None:
    assert program_module.verify(config) == 0
    findings = Findings.load(config.findings)
    findings.blobs[WEIGHTS].verified_at = 1.0
    findings.save()
    assert values(program_module.collect(config))("verification_oldest_timestamp_seconds") == 1
    program_module.verify(change(config, share=0.001))
    assert Findings.load(config.findings).blobs[WEIGHTS].verified_at > 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 1, "blobs": {}, "models": {}, "finished": 1' + "0" * 400 + "}",
        '{"schema": 1, "blobs": {}, "models": {}, "finished": 1e999}',
        '{"schema": 1, "blobs": {}, "models": {}, "finished": NaN}',
        '{"schema": 1, "blobs": {}, "models": {}, "finished": -1}',
        '{"schema": 1, "blobs": {}, "models": {"a": 1}, "finished": 1}',
        '{"schema": 1, "blobs": {"x": {"seen": [1e999], "verified_at": 1, "problem": null}}}',
        '{"schema": 2}',
        '{"schema": 1, "blobs": {"x": 1}}',
        "[" * 100000,
    ],
)
def test_findings_that_cannot_be_read_count_as_none(config: Config, text: str) -> None:
    Path(config.findings).write_text(text)
    assert Findings.load(config.findings) == Findings(config.findings)
    assert program_module.verify(config) == 0


def test_findings_behind_a_link_or_a_pipe_are_not_read(config: Config, tmp_path: Path) -> None:
    assert program_module.verify(config) == 0
    (tmp_path / "link").symlink_to(config.findings)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        assert Findings.load(str(tmp_path / name)).blobs == {}


def test_model_verify_only_reads_reported_blobs_again(
    config: Config, run_module: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The findings make it read a blob again; they never make a blob count as verified."""
    monkeypatch.setattr(findings_module.doubt, "__defaults__", (config.findings,))
    params = {"models_dir": config.models_dir, "state_dir": str(tmp_path / "state"), "api_url": "http://127.0.0.1:1"}
    assert program_module.verify(config) == 0
    first = run_module(model_verify, params)
    assert first["hashed_blobs"] == first["blobs"]
    assert run_module(model_verify, params)["hashed_blobs"] == 0
    findings = Findings.load(config.findings)
    findings.blobs[WEIGHTS].problem = "has wrong content"
    findings.save()
    again = run_module(model_verify, params)
    assert (again["hashed_blobs"], again["damaged"]) == (1, [])


# The program


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "monitoring.pyz"
    path.write_bytes(install.archive(sys.executable))
    path.chmod(0o755)
    return path


def run_program(program: Path, config: Config, command: str) -> subprocess.CompletedProcess[str]:
    """Run the program as its unit does, with a Python that has no Ansible."""
    path = program.with_name("config.json")
    path.write_text(json.dumps(vars(config)))
    argv = ["/usr/bin/python3", "-I", "-S", str(program), command, "--config", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})


def test_the_program_needs_only_python(program: Path, config: Config) -> None:
    # A server removes old blobs that no manifest of its own generation names.
    version = "0.35.1" if os.path.isdir(os.path.join(config.models_dir, "manifests")) else "0.40.2"
    with standin.running(version, config.models_dir) as server:
        config = change(config, api_url=server.url)
        verified = run_program(program, config, "verify")
        assert (verified.returncode, verified.stderr) == (0, "")
        done = run_program(program, config, "metrics")
    assert (done.returncode, done.stderr) == (0, "")
    published = run_program(program, config, "publish")
    assert (published.returncode, published.stderr) == (0, "")
    value = values(Path(config.output).read_text())
    assert value("up") == 1
    assert value("blobs", state="unverified") == 0
    assert Path(config.output).stat().st_mode & 0o777 == 0o644


def test_the_program_is_reproducible_and_contains_no_code_of_ansible(program: Path) -> None:
    assert program.read_bytes() == install.archive(sys.executable)
    names = set(install.sources("_monitor.program"))
    assert {"_monitor/program.py", "_store/store.py", "_gpu/usage.py", "_core/errors.py", "_core/__init__.py"} <= names
    assert not {"_server/argspec.py", "_models/models.py", "_monitor/install.py"} & names


@pytest.mark.parametrize("planted", ["fifo", "link", "directory", "device link", "huge", "socket"])
def test_publishing_reads_only_a_regular_file_of_bounded_size(config: Config, planted: str) -> None:
    """The account of the program can plant anything in its directory; nothing of it blocks or reaches node_exporter."""
    path = Path(config.collected)
    Path(config.output).write_text("old")
    (path.parent / "secret").write_text("kaido_ollama_up 1\n")
    if planted == "fifo":
        os.mkfifo(path)
    elif planted == "link":
        path.symlink_to(path.parent / "secret")
    elif planted == "device link":
        path.symlink_to("/dev/zero")
    elif planted == "directory":
        path.mkdir()
    elif planted == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(OllamaError) as caught:
        program_module.publish(config)
    assert caught.value.code == "metrics_unreadable"
    assert Path(config.output).read_text() == "old"


def test_publishing_keeps_only_metrics_of_the_collection(config: Config) -> None:
    own = '# HELP kaido_ollama_up x\n# TYPE kaido_ollama_up gauge\nkaido_ollama_up 1\nkaido_ollama_gpus{a="b"} 2\n'
    Path(config.collected).write_bytes(
        b"node_load1 7\n# TYPE node_load1 counter\n\xff\nkaido_ollamaup 1\n" + own.encode() + b" kaido_ollama_up 3\n"
    )
    assert program_module.publish(config) == 0
    assert Path(config.output).read_text() == own


def test_publishing_keeps_all_that_is_collected(full: str) -> None:
    assert prometheus.own_lines(full) == full


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


@pytest.mark.parametrize(
    ("changes", "command", "status", "message"),
    [
        ({"collected": "/nonexistent/out.prom"}, "metrics", 2, "/nonexistent/out.prom: No such file or directory"),
        ({"collected": "/nonexistent/out.prom"}, "publish", 2, "/nonexistent/out.prom: No such file or directory"),
        ({"findings": "/nonexistent/f.json"}, "verify", 2, "/nonexistent/f.json: No such file or directory"),
        ({"models_dir": "/nonexistent"}, "verify", 2, "/nonexistent: not found or not readable"),
        ({"user": ["x"], "colour": 1}, "metrics", 2, "unknown key colour"),
    ],
)
def test_invalid_input_is_one_line(
    config: Config, capsys: pytest.CaptureFixture[str], changes: dict[str, t.Any], command: str, status: int,
    message: str,
) -> None:  # fmt: skip
    path = Path(config.output).with_name("config.json")
    path.write_text(json.dumps({**vars(config), **changes}))
    assert program_module.main([command, "--config", str(path)]) == status
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert len(lines) == 1 or command == "metrics"


def test_a_full_disk_leaves_the_last_metrics_and_no_other_file(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (config.collected, config.output):
        Path(path).write_text("old")
    before = sorted(Path(config.output).parent.iterdir())
    monkeypatch.setattr(os, "replace", full_disk)
    for command in (program_module.write_metrics, program_module.publish):
        with pytest.raises(OllamaError, match="No space left on device"):
            command(config)
    assert sorted(Path(config.output).parent.iterdir()) == before
    assert Path(config.output).read_text() == "old"


def full_disk(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
