# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring program: it collects metrics for Prometheus, and verifies the model store. It does not use Ansible.

A part that cannot be collected is reported as a metric; only metrics that cannot be written are an error.

The account of the program writes the metrics to its own directory. `publish` copies them to the directory that
node_exporter reads, in which the account cannot create a FIFO, a link, or a file of another size or content.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import http.client
import json
import os
import re
import ssl
import sys
import time
import typing as t
from dataclasses import dataclass, field, fields

from .._core import fs
from .._core.errors import OllamaError
from .._core.http import request
from .._core.owner import read_regular
from .._core.server import DEFAULT_URL, Server
from .._gpu import support, tree, usage
from .._release import release
from .._server.api import Client
from .._service import certificates
from .._store.findings import DEFAULT_PATH, Findings
from .._store.partials import partials_of
from .._store.store import Store
from . import prometheus
from .prometheus import Metrics

RECORD = "/var/lib/kaido-ollama-monitoring/converge.json"
OUTPUT = "/run/kaido-ollama-monitoring/kaido_ollama.prom"
COLLECTED = "/run/kaido-ollama-monitoring/collected/metrics.prom"
# The maximum number of bytes that are published; the metrics of a host with 100 models have about 60 kB.
_MAX_METRICS = 4 << 20
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))\Z")
_UNKNOWN_VERSION = "9999.0.0"


@dataclass(frozen=True)
class Config:
    """The configuration file of the program, written by the role.

    :ivar server: whether the host has a server; a separate gateway has neither a store nor releases.
    :ivar user: the account of the server, which must be able to open the GPUs.
    :ivar gpu: required, preferred or off, as in the variable ollama_gpu.
    :ivar gateway: ``address`` (host:port) of the gateway on this host, and the URLs ``nginx_status`` and ``haproxy``;
        empty without a gateway.
    :ivar share: the percentage of the store that one run of the verification reads.
    :ivar findings: the path of the findings of the verification.
    :ivar record: the path of the record of the last converge.
    :ivar collected: the path to which the account of the program writes the metrics.
    :ivar output: the path at which they are published.
    :ivar root: the root of the host's file system; only tests set it.
    """

    server: bool = True
    api_url: str = DEFAULT_URL
    models_dir: str = Server.models_dir
    install_dir: str = Server.install_dir
    user: str = "ollama"
    gpu: str = "preferred"
    gateway: dict[str, str] = field(default_factory=dict)
    share: float = 100.0
    findings: str = DEFAULT_PATH
    record: str = RECORD
    collected: str = COLLECTED
    output: str = OUTPUT
    root: str = "/"

    @classmethod
    def load(cls, path: str) -> Config:
        """Read a configuration file.

        :raises OllamaError: ``config_invalid``.
        """
        try:
            data = json.loads(read_regular(path, 1 << 20))
            known = {item.name for item in fields(cls)}
            unknown = sorted(set(data) - known)
            if unknown:
                raise ValueError(f"unknown key {unknown[0]}; expected {', '.join(sorted(known))}")
            return cls(**data)
        except (OSError, ValueError, TypeError) as exc:
            raise OllamaError("config_invalid", f"{path}: {exc}") from None


@dataclass
class _Seen:
    """Results of collectors that later ones use."""

    version: str | None = None
    on_cpu: bool = False
    reboot: bool = False


def collect(config: Config, run: tree.Run = tree.run_program) -> str:
    """Return the metrics of this host as text. Errors of parts are metrics as well, and are printed to stderr."""
    metrics, seen = Metrics(), _Seen()
    collectors = dict(_SERVER_COLLECTORS, **_COLLECTORS) if config.server else _COLLECTORS
    for name, collector in collectors.items():
        try:
            collector(config, metrics, seen, run)
            success = 1
        except Exception as exc:  # An unreachable server and an unreadable store are metrics.
            _log(f"{name}: {' '.join(str(exc).split()) or type(exc).__name__}")
            success = 0
        metrics.add("collector_success", success, collector=name)
    metrics.add("metrics_timestamp_seconds", time.time())
    return metrics.render()


def _log(line: str) -> None:
    # The line is for the journal. Names in the store may not be UTF-8 or may contain several lines.
    sys.stderr.write("".join(letter if letter.isprintable() else "?" for letter in line) + "\n")


def _server(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    client = Client(config.api_url, timeout=10.0)
    try:
        seen.version = client.version()
    except (OllamaError, KeyError, TypeError) as exc:
        metrics.add("up", 0)
        _log(f"server: {exc}")
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
    """Return the seconds since the epoch of a time in the format of Go without fractions, or None."""
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
    partials, orphans = partials_of(store), store.orphans(entries)
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
    if support.reboot_reasons(verdicts):
        seen.reboot = True
    for row in usage.read(host.gpus, config.root, run):
        for name, value in row.figures.items():
            metrics.add(f"gpu_{name}", value, gpu=row.gpu)
        for kind, count in row.ecc_errors.items():
            metrics.add("gpu_ecc_errors", count, gpu=row.gpu, type=kind)


def _record(config: Config) -> dict[str, t.Any]:
    """Return the record of the last converge, or {} if there is none."""
    try:
        return dict(json.loads(read_regular(config.record, 1 << 20)))
    except FileNotFoundError:
        return {}


def _host(config: Config, metrics: Metrics, seen: _Seen, run: tree.Run) -> None:
    required = os.path.exists(os.path.join(config.root, "run/reboot-required"))
    metrics.add("reboot_pending", int(required or seen.reboot))


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
        raise OllamaError("gateway_metrics_failed", "; ".join(failures))


def _gateway_health(gateway: t.Mapping[str, str], metrics: Metrics) -> None:
    address = gateway["address"]
    metrics.add("gateway_up", 0)
    # The certificate is for the names that clients use, so only its expiry is read here.
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


_Collector = t.Callable[[Config, Metrics, _Seen, tree.Run], None]
_SERVER_COLLECTORS: dict[str, _Collector] = {
    "server": _server,
    "store": _store,
    "release": _releases,
    "gpu": _gpus,
}
_COLLECTORS: dict[str, _Collector] = {
    "host": _host,
    "converge": _converge,
    "gateway": _gateway,
}


def write_metrics(config: Config) -> int:
    """Collect the metrics, write them for `publish`, and return the exit status."""
    return _write(config.collected, collect(config))


def publish(config: Config) -> int:
    """Copy the collected metrics to the file that node_exporter reads, and return the exit status.

    Only a regular file of limited size is read, and only lines about metrics of this collection are copied. Thus, the
    owner of the collected file can neither block node_exporter nor define foreign metrics.
    """
    try:
        text = read_regular(config.collected, _MAX_METRICS).decode("utf-8", "replace")
    except OSError as exc:
        raise OllamaError("metrics_unreadable", f"{config.collected}: {exc.strerror or exc}") from None
    return _write(config.output, prometheus.own_lines(text))


def _write(path: str, text: str) -> int:
    try:
        fs.write_atomic(path, text.encode("utf-8", "replace"))
    except OSError as exc:
        raise OllamaError("metrics_unwritable", f"{path}: {exc.strerror}") from None
    return 0


def verify(config: Config) -> int:
    """Verify a share of the store, save the findings, and return the exit status: 1 for damage. Nothing is repaired.

    :raises OllamaError: ``store_unreadable``, ``findings_unwritable``.
    """
    store = Store(config.models_dir)
    if not store.readable:
        raise OllamaError("store_unreadable", f"{config.models_dir}: not found or not readable")
    findings = Findings.load(config.findings)
    blobs = {blob.digest: blob for entry in store.entries() for blob in entry.blobs}
    try:
        count = findings.verify(store, blobs.values(), config.share, time.time)
        # Models that have been removed or replaced meanwhile are not reported.
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
        _log(f"{name}: {'; '.join(problems)}")
    return 1 if findings.models else 0


_COMMANDS = {"metrics": write_metrics, "publish": publish, "verify": verify}


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run the program, and return the exit status: 0, 1 for damage, 2 for other errors."""
    parser = argparse.ArgumentParser(prog="kaido-ollama-monitoring", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=list(_COMMANDS))
    parser.add_argument("--config", required=True, help="a JSON file")
    given = parser.parse_args(arguments)
    try:
        config = Config.load(given.config)
        return _COMMANDS[given.command](config)
    except OllamaError as exc:
        _log(exc.message)
        return 2
