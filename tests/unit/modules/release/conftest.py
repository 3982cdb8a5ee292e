# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the site with releases and of the host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._release import download

from tests.unit.conftest import RunModule
from tests.unit.modules.release.site import (
    ARCHIVES,
    Host,
    Site,
)


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            it.ranges.append(wanted)
            data = it.files.get(self.path)
            if it.misbehave and it.misbehave.pop(0)(self, data or b""):
                self.close_connection = True
                return
            if data is None:
                self.answer(404, b"no such file")
            elif wanted and int(wanted[6:-1]) >= len(data):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            elif wanted:
                start = int(wanted[6:-1])
                self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
            else:
                self.answer(200, data)

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, claim: int = 0) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(claim or len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    it = Site(f"http://127.0.0.1:{server.server_address[1]}")
    for version, data in ARCHIVES.items():
        it.files[f"/v{version}/ollama-linux-amd64.tar.zst"] = data
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield it
    server.shutdown()
    server.server_close()


@pytest.fixture
def host(tmp_path: Path, site: Site, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(download, "sleep", lambda _seconds: None)
    (tmp_path / "bin").mkdir()
    return Host(tmp_path, site, run_module)
