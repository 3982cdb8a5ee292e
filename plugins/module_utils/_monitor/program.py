# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring program: writes metrics for Prometheus, and verifies the model store. It needs no Ansible.

Whatever cannot be collected is a metric, too; only metrics that cannot be written are a failure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import glob
import http.client
import json
import os
import re
import ssl
import sys
import time
import typing as t
from dataclasses import dataclass, field, fields

from .._core.errors import OllamaError
from .._core.http import request
from .._core.owner import read_regular
from .._gpu import support, tree
from .._release import release
from .._server.api import DEFAULT_URL, Client
from .._service import certificates
from .._store.findings import DEFAULT_PATH, Findings, write
from .._store.layout import DEFAULT_MODELS_DIR
from .._store.store import Store
from . import prometheus
from .prometheus import Metrics

RECORD = "/var/lib/kaido-ollama-monitoring/converge.json"
OUTPUT = "/run/kaido-ollama-monitoring/kaido_ollama.prom"
_SMI = (
    "pci.bus_id,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,"
    "ecc.errors.corrected.volatile.total,ecc.errors.uncorrected.volatile.total"
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))\Z")
_UNKNOWN_VERSION = "9999.0.0"


@dataclass(frozen=True)
class Config:
    """The configuration file of the program, written by the role.

    :ivar user: the account of the server, which has to open the GPUs.
    :ivar gpu: required, preferred or off, as the variable ollama_gpu.
    :ivar gateway: address (host:port) of this host's gateway, and URLs of nginx_status and haproxy; empty for none.
    :ivar share: percent of the store that one run of the verification reads.
    :ivar root: where the host's file system begins; only tests set it.
    """

    api_url: str = DEFAULT_URL
    models_dir: str = DEFAULT_MODELS_DIR
    install_dir: str = "/opt/ollama"
    user: str = "ollama"
    gpu: str = "preferred"
    gateway: dict[str, str] = field(default_factory=dict)
    share: float = 100.0
    findings: str = DEFAULT_PATH
    record: str = RECORD
    output: str = OUTPUT
    root: str = "/"

    @classmethod
    def load(cls, path: str) -> Config:
        """Read a configuration file; raises ``invalid_config``."""
        try:
            data = json.loads(read_regular(path, 1 << 20))
            known = {item.name for item in fields(cls)}
            unknown = sorted(set(data) - known)
            if unknown:
                raise ValueError(f"unknown key {unknown[0]}; expected {', '.join(sorted(known))}")
            return cls(**data)
        except (OSError, ValueError, TypeError) as exc:
            raise OllamaError("invalid_config", f"{path}: {exc}") from None


@dataclass
class _Seen:
    """What one collector tells the ones after it."""

    version: str | None = None
    on_cpu: bool = False


def collect(config: Config, run: tree.Run = tree.run_program) -> str:
    """Return the metrics of this host as text; failures of parts go to stderr, one line each, and into the text."""
    metrics, seen = Metrics(), _Seen()
    for name, collector in _COLLECTORS.items():
        try:
            collector(config, metrics, seen, run)
            success = 1
        except Exception as exc:  # a dead server, an unreadable store, a strange file: all of them are metrics
            _complain(f"{name}: {' '.join(str(exc).split()) or type(exc).__name__}")
            success = 0
        metrics.add("collector_success", success, collector=name)
    metrics.add("metrics_timestamp_seconds", time.time())
    return metrics.render()


def _complain(line: str) -> None:
    # To the journal. Names come from the store: they are not always UTF-8, nor always one line.
    sys.stderr.write("".join(letter if letter.isprintable() else "?" for letter in line) + "\n")


def _server(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    client = Client(config.api_url, timeout=10.0)
    try:
        seen.version = client.version()
    except (OllamaError, KeyError, TypeError) as exc:
        metrics.add("up", 0)
        _complain(f"server: {exc}")
        return
    metrics.add("up", 1)
    metrics.add("version_info", 1, version=seen.version)
    models = client.running()
    metrics.add("loaded_models", len(models))
    for model in models:
        name, size, vram = str(model["name"]), int(model["size"]), int(model.get("size_vram") or 0)
        metrics.add("loaded_model_bytes", size, model=name)
        metrics.add("loaded_model_vram_bytes", vram, model=name)
        metrics.add("loaded_model_vram_ratio", min(1.0, vram / size) if size else 0.0, model=name)
        expiry = timestamp(str(model.get("expires_at") or ""))
        if expiry is not None:
            metrics.add("loaded_model_expiry_timestamp_seconds", expiry, model=name)
        seen.on_cpu |= size > 0 and vram == 0


def timestamp(text: str) -> float | None:
    """Return the seconds since the epoch of a time as Go writes it, or None. Fractions are left out."""
    found = _TIME.match(text)
    if not found:
        return None
    seconds = float(calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")))
    offset = 3600 * int(found[3]) + 60 * int(found[4]) if found[2] else 0
    return seconds - offset if found[2] == "+" else seconds + offset


def _store(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    store = Store(config.models_dir)
    metrics.add("store_readable", int(store.readable))
    path = config.models_dir
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    space = os.statvfs(path)
    metrics.add("store_free_bytes", space.f_bavail * space.f_frsize)
    metrics.add("store_size_bytes", space.f_blocks * space.f_frsize)
    findings = Findings.load(config.findings)
    metrics.add("verification_timestamp_seconds", findings.finished)
    if findings.finished:
        metrics.add("verification_success", int(not findings.models))
    if not store.readable:
        raise OllamaError("store_unreadable", f"{config.models_dir}: not found or not readable")
    try:
        entries = store.entries()
    except OllamaError:
        metrics.add("store_readable", 0)
        raise
    installed = float(_record(config).get("installed") or 0)
    blobs = {blob.digest: blob for entry in entries for blob in entry.blobs}
    states = {digest: findings.state(store, blob) for digest, blob in blobs.items()}
    for state in ("verified", "damaged", "unverified"):
        sizes = [blob.size for digest, blob in blobs.items() if states[digest][0] == state]
        metrics.add("blobs", len(sizes), state=state)
        metrics.add("blob_bytes", sum(sizes), state=state)
    waits = [when if state == "verified" else max(when, installed) for state, when in states.values()]
    metrics.add("verification_oldest_timestamp_seconds", min(waits, default=time.time()))
    metrics.add("models", len(entries))
    for entry in entries:
        damaged = bool(entry.problem) or any(states[blob.digest][0] == "damaged" for blob in entry.blobs)
        metrics.add("model_bytes", entry.size, model=str(entry.name))
        metrics.add("model_damaged", int(damaged), model=str(entry.name))
    partials, orphans = store.partials(), store.orphans(entries)
    metrics.add("partial_downloads", len(partials))
    metrics.add("partial_bytes", sum(row["disk_bytes"] for row in partials))
    metrics.add("orphan_files", len(orphans))
    metrics.add("orphan_bytes", sum(row["size"] for row in orphans))


def _releases(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    state = release.read_state(config.install_dir, "/usr/local/bin")
    for version in state.known:
        metrics.add("release_info", 1, version=version, state="current" if version == state.used else "kept")
    seen.version = seen.version or state.used


def _gpus(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    account = tree.account(config.user)
    host, verdicts = support.examine(seen.version or _UNKNOWN_VERSION, account, config.root, run)
    metrics.add("gpus", len(host.gpus))
    for index, verdict in enumerate(verdicts):
        gpu = verdict.gpu
        place = gpu.pci_address or str(index)
        metrics.add("gpu_usable", int(verdict.usable), gpu=place, vendor=gpu.vendor, name=gpu.name)
    metrics.add("gpu_driver_mismatch", int(any(verdict.state == "mismatch" for verdict in verdicts)))
    usable = any(verdict.usable for verdict in verdicts)
    expected = config.gpu == "required" or (config.gpu == "preferred" and any(v.expected for v in verdicts))
    metrics.add("cpu_fallback", int(expected and (seen.on_cpu or (config.gpu == "required" and not usable))))
    required = os.path.exists(os.path.join(config.root, "run/reboot-required"))
    metrics.add("reboot_pending", int(required or bool(support.reboot_reasons(verdicts))))
    vendors = {gpu.vendor for gpu in host.gpus}
    if "nvidia" in vendors:
        _nvidia(metrics, run)
    for gpu in host.gpus:
        if gpu.vendor == "amd" and gpu.pci_address:
            _amd(metrics, gpu.pci_address, os.path.join(config.root, "sys/bus/pci/devices", gpu.pci_address))


def _nvidia(metrics: Metrics, run: tree.Run) -> None:
    answer = run(["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader,nounits"])
    if answer is None:
        return
    if answer[0] != 0:
        raise OllamaError("nvidia_smi_failed", f"nvidia-smi: {answer[1].strip()[:200]}")
    for line in answer[1].splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != len(_SMI.split(",")):
            continue
        # 00000000:01:00.0 with a domain of eight digits, in capitals
        gpu = values[0].lower()[-12:]
        # What a card does not have reads [N/A].
        busy, used, size, celsius, watts, corrected, uncorrected = map(_float, values[1:])
        mebibytes = (("gpu_memory_used_bytes", used), ("gpu_memory_size_bytes", size))
        figures = [(name, value * (1 << 20)) for name, value in mebibytes if value is not None]
        figures += [("gpu_utilization_ratio", busy / 100)] if busy is not None else []
        figures += [("gpu_temperature_celsius", celsius)] if celsius is not None else []
        figures += [("gpu_power_watts", watts)] if watts is not None else []
        for name, value in figures:
            metrics.add(name, value, gpu=gpu)
        for kind, count in (("corrected", corrected), ("uncorrected", uncorrected)):
            if count is not None:
                metrics.add("gpu_ecc_errors", count, gpu=gpu, type=kind)


def _amd(metrics: Metrics, gpu: str, folder: str) -> None:
    """Read the files of the kernel's driver, so that no tool is needed."""
    for name, pattern, factor in (
        ("gpu_utilization_ratio", "gpu_busy_percent", 1e-2),
        ("gpu_memory_used_bytes", "mem_info_vram_used", 1),
        ("gpu_memory_size_bytes", "mem_info_vram_total", 1),
        ("gpu_temperature_celsius", "hwmon/hwmon*/temp1_input", 1e-3),
        ("gpu_power_watts", "hwmon/hwmon*/power1_input", 1e-6),
        ("gpu_power_watts", "hwmon/hwmon*/power1_average", 1e-6),
    ):
        for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
            value = _float(_text(path))
            if value is not None:
                metrics.add(name, value * factor, gpu=gpu)
    for kind, label in (("ce", "corrected"), ("ue", "uncorrected")):
        found = re.search(rf"^{kind}: (\d+)", _text(os.path.join(folder, "ras/umc_err_count")), re.MULTILINE)
        if found:
            metrics.add("gpu_ecc_errors", int(found[1]), gpu=gpu, type=label)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""


def _record(config: Config) -> dict[str, t.Any]:
    """Return what the role noted about its last run, {} for nothing."""
    try:
        return dict(json.loads(read_regular(config.record, 1 << 20)))
    except FileNotFoundError:
        return {}


def _converge(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    record = _record(config)
    if record:
        metrics.add("converge_timestamp_seconds", float(record["converged"]))
        for part, count in record["changes"].items():
            metrics.add("converge_changes", int(count), part=part)


def _gateway(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    if not config.gateway:
        return
    failures = []
    for part in (_gateway_health, _nginx, _haproxy):
        try:
            part(config.gateway, metrics)
        except (OSError, ValueError, http.client.HTTPException, OllamaError) as exc:
            failures.append(str(exc))
    if failures:
        raise OllamaError("gateway", "; ".join(failures))


def _gateway_health(gateway: t.Mapping[str, str], metrics: Metrics) -> None:
    address = gateway["address"]
    metrics.add("gateway_up", 0)
    # The certificate is for the names that clients use; here only its end matters.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, timeout=15, context=context)
    with contextlib.closing(connection):
        connection.connect()
        certificate = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(True) or b"")
        connection.request("GET", "/healthz")
        metrics.add("gateway_up", int(connection.getresponse().status == 200))
    ends = certificates.read(certificate, address).ends
    metrics.add("certificate_expiry_timestamp_seconds", ends, address=address)


def _nginx(gateway: t.Mapping[str, str], metrics: Metrics) -> None:
    if not gateway.get("nginx_status"):
        return
    text = request("GET", gateway["nginx_status"], timeout=5).text(4096)
    for state, count in re.findall(r"\b(Reading|Writing|Waiting): (\d+)", text):
        metrics.add("gateway_connections", int(count), state=state.lower())
    served = re.search(r"^\s*\d+ \d+ (\d+)\s*$", text, re.MULTILINE)
    if not served:
        raise ValueError(f"{gateway['nginx_status']}: not a status of nginx")
    metrics.add("gateway_requests_total", int(served[1]))


def _haproxy(gateway: t.Mapping[str, str], metrics: Metrics) -> None:
    if not gateway.get("haproxy"):
        return
    found = prometheus.parse(request("GET", gateway["haproxy"], timeout=5).body.decode("utf-8", "replace"))
    if "haproxy_backend_current_queue" not in found:
        raise ValueError(f"{gateway['haproxy']}: no metrics of HAProxy")
    for labels, value in found["haproxy_backend_current_queue"]:
        metrics.add("gateway_queued_requests", value, backend=labels.get("proxy"))
    for labels, value in found.get("haproxy_backend_active_servers", []):
        metrics.add("gateway_active_servers", value, backend=labels.get("proxy"))


_COLLECTORS: dict[str, t.Callable[[Config, Metrics, _Seen, tree.Run], None]] = {
    "server": _server,
    "store": _store,
    "release": _releases,
    "gpu": _gpus,
    "converge": _converge,
    "gateway": _gateway,
}


def write_metrics(config: Config) -> int:
    """Collect and write the metrics; returns the exit status."""
    text = collect(config)
    try:
        write(config.output, text)
    except OSError as exc:
        raise OllamaError("metrics_unwritable", f"{config.output}: {exc.strerror}") from None
    return 0


def verify(config: Config) -> int:
    """Verify a share of the store and keep the findings; returns the exit status, 1 for damage. Repairs nothing.

    :raises OllamaError: ``store_unreadable``, ``findings_unwritable``.
    """
    store = Store(config.models_dir)
    if not store.readable:
        raise OllamaError("store_unreadable", f"{config.models_dir}: not found or not readable")
    findings = Findings.load(config.findings)
    blobs = {blob.digest: blob for entry in store.entries() for blob in entry.blobs}
    try:
        count = findings.verify(store, blobs.values(), config.share, time.time)
        # Models that were removed or replaced meanwhile are not damaged.
        findings.models = {}
        for entry in store.entries():
            problems = [entry.problem] if entry.problem else []
            for blob in entry.blobs:
                row, damage = findings.blobs.get(blob.digest), store.stat_damage(blob)
                if damage:
                    problems.append(str(damage))
                elif row and row.problem and findings.state(store, blob)[0] == "damaged":
                    problems.append(row.problem)
            if problems:
                findings.models[str(entry.name)] = problems
        findings.finished = time.time()
        findings.save()
    except OSError as exc:
        raise OllamaError("findings_unwritable", f"{config.findings}: {exc.strerror}") from None
    sys.stdout.write(f"verified {count} of {len(blobs)} blobs, {len(findings.models)} damaged models\n")
    for name, problems in findings.models.items():
        _complain(f"{name}: {'; '.join(problems)}")
    return 1 if findings.models else 0


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status: 0, 1 for damage, 2 for anything else."""
    parser = argparse.ArgumentParser(prog="kaido-ollama-monitoring", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["metrics", "verify"])
    parser.add_argument("--config", required=True, help="a JSON file")
    given = parser.parse_args(arguments)
    try:
        config = Config.load(given.config)
        return write_metrics(config) if given.command == "metrics" else verify(config)
    except OllamaError as exc:
        _complain(exc.message)
        return 2
