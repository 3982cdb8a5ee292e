# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that the monitoring program reads: configuration, services and GPUs."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import subprocess
import threading
import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._core.http import request
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import tree
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import program as program_module
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import prometheus
from ansible_collections.kaido.ollama.plugins.module_utils._monitor.program import Config
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

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
