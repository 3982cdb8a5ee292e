# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry over a model store, as the recorded nginx served it, with configurable faults, and tiny models for it.

python -m tests.standin.registry --store DIR --port N [--faults FILE] [--log FILE]

FILE of faults holds a JSON list of objects with the fields of Fault, and may change at any time; the log gets one JSON
object a request, once it is over.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import http.server
import io
import json
import os
import pathlib
import random
import re
import socketserver
import ssl
import threading
import time
import typing as t

from . import gguf, names, store

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
# By architecture: what real servers load. Random weights, and every token a plain word.
_REAL = {
    "llama": FIXTURES / "models/words.gguf",
    "embedding": FIXTURES / "models/words-embed.gguf",
    "recorded": FIXTURES
    / "store-v1/blobs/sha256-a909f554de2d9f495deb26ab065ecc27aa053c2ba9b004cad87101aaf0bfc917",  # of the recordings
}
_PATH = re.compile(r"/v2/(?P<ns>[^/]+)/(?P<model>[^/]+)/(?P<kind>manifests|blobs)/(?P<ref>[^/]+)")


@dataclasses.dataclass
class Fault:
    """A fault of requests whose path contains `match`; it ends after `times` of them."""

    match: str
    method: str = ""  # of one method only
    ranges: bool | str | None = None  # of requests with (True) or without (False) a Range header, or with this in it
    times: int = -1
    status: int = 0  # answer this status with `body`
    body: bytes = b"<html><body>no</body></html>"
    location: str | None = None  # with `status`: where to go; for blobs: "" takes the header away
    corrupt: bool = False  # every byte served is wrong
    cut_after: int = -1  # close the connection after so many bytes
    stall_after: int = -1  # send so many bytes, then nothing for `stall_seconds`
    stall_seconds: float = 60.0
    rate: float = 0.0  # bytes a second
    size: int = -1  # what HEAD claims
    ignore_range: bool = False


def _page(title: str) -> bytes:
    """An error page of nginx."""
    text = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return f"{text}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n".encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in {"Server": "nginx", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _handle(self) -> None:
        registry = self.server.registry
        fault = registry.fault_for(self.command, self.path, self.headers.get("Range", ""))
        request = Request(self.command, self.path, self.headers.get("Range", ""), dict(self.headers))
        registry.requests.append(request)
        try:
            self._serve(registry, fault, request)
        finally:
            registry.note(request)

    def _serve(self, registry: Registry, fault: Fault, request: Request) -> None:
        if fault.status:
            request.status = fault.status
            extra = {"Location": fault.location} if fault.location else {}
            return self._answer(fault.status, {"Content-Type": "text/html", **extra}, fault.body)
        match = _PATH.fullmatch(self.path.split("?")[0])
        found = registry.locate(match) if match else None
        if found is None:
            request.status = 404
            return self._answer(404, {"Content-Type": "text/html"}, _page("404 Not Found"))
        if match and match["kind"] == "manifests":
            body = found.read_bytes()
            media_type = json.loads(body).get("mediaType", store.MANIFEST)
            request.status, request.sent = 200, len(body)
            return self._answer(200, {"Content-Type": media_type}, body)
        return self._blob(found, fault, request)

    def _blob(self, path: pathlib.Path, fault: Fault, request: Request) -> None:
        total = path.stat().st_size
        first, last, status = 0, total - 1, 200
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and not fault.ignore_range:
            first, last = int(match[1]), min(int(match[2] or last), last)
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        if fault.location is None and status == 200:
            headers["Location"] = self.path
        elif fault.location:
            headers["Location"] = fault.location
        length = last - first + 1
        if self.command == "HEAD" and fault.size >= 0:
            length = fault.size
        request.status = status
        self.send_response_only(status)
        for name, value in {"Server": "nginx", **headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with path.open("rb") as stream:
            stream.seek(first)
            self._copy(stream, length, fault, request)

    def _copy(self, stream: t.BinaryIO, left: int, fault: Fault, request: Request) -> None:
        """Send the requested bytes, up to the limit of the fault."""
        ends = [end for end in (fault.cut_after, fault.stall_after) if end >= 0]
        while left > 0:
            if request.sent in ends:
                if request.sent == fault.stall_after:
                    self.server.registry.closing.wait(fault.stall_seconds)
                self.close_connection = True
                return
            block = max(1, min(1 << 16, int(fault.rate / 50))) if fault.rate else 1 << 16
            data = stream.read(min(block, left, *(end - request.sent for end in ends)))
            if fault.corrupt:
                data = bytes(byte ^ 0x55 for byte in data)
            self.wfile.write(data)
            request.sent += len(data)
            left -= len(data)
            if fault.rate:
                time.sleep(len(data) / fault.rate)

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            if (
                t.cast(io.BufferedReader, self.rfile).peek(1)[:1] == b"\x16"
            ):  # TLS, on a port that speaks none: no line would ever end
                return self._bad_request()
            return super().handle_one_request()
        self.close_connection = True

    def _bad_request(self) -> None:
        """Respond like nginx, always in HTTP; Python's server would omit the status line."""
        self.close_connection = True
        if not self.server.registry.answers_tls_with_http:
            self.wfile.write(_page("400 Bad Request"))
            return
        self.request_version, self.command, self.requestline = "HTTP/1.1", "GET", ""
        self._answer(400, {"Content-Type": "text/html", "Connection": "close"}, _page("400 Bad Request"))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._bad_request()

    do_GET = do_HEAD = _handle

    def log_message(self, format: str, *args: t.Any) -> None:
        pass


@dataclasses.dataclass
class Request:
    method: str
    path: str
    range: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    began: float = dataclasses.field(default_factory=time.time)
    over: bool = False


class _HTTPServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    registry: Registry

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        pass


class Registry:
    """Serve `store_dir` (either generation) on `host`; `with Registry(dir) as registry: registry.host ...`."""

    def __init__(
        self,
        store_dir: str | os.PathLike[str],
        host: str = "127.0.0.1",
        port: int = 0,
        public: str = "",
        tls: ssl.SSLContext | None = None,
        faults_file: str | os.PathLike[str] = "",
        log_file: str | os.PathLike[str] = "",
    ) -> None:
        """Listen on `host`; clients use the address `public`."""
        self._faults_file = faults_file
        self._faults_read: tuple[int, int] | None = None
        self._log_file = log_file
        self._public = public or host
        self.store_dir = pathlib.Path(store_dir)
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()
        self.answers_tls_with_http = True  # as nginx does, for TLS at a port without TLS
        self._lock = threading.Lock()
        self._http = _HTTPServer((host, port), _Handler)
        self._http.registry = self
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_port

    @property
    def host(self) -> str:
        """Return host:port as model names contain it."""
        return f"{self._public}:{self.port}"

    def misbehave(self, match: str, **what: t.Any) -> Fault:
        fault = Fault(match, **what)
        self.faults.insert(0, fault)
        return fault

    def behave(self) -> None:
        self.faults.clear()

    def fault_for(self, method: str, path: str, range_: str) -> Fault:
        with self._lock:
            if self._faults_file:
                self._read_faults()
            for fault in self.faults:
                wanted = fault.match in path and fault.times and fault.method in ("", method)
                named = isinstance(fault.ranges, str) and fault.ranges in range_
                if wanted and (named or fault.ranges in (None, bool(range_))):
                    fault.times -= 1
                    return fault
        return Fault("")

    def _read_faults(self) -> None:
        """Read the faults again if the file has changed. An unreadable file makes every request fail."""
        try:
            stat = os.stat(self._faults_file)
            if (stat.st_ino, stat.st_mtime_ns) == self._faults_read:
                return
            self._faults_read = stat.st_ino, stat.st_mtime_ns
            rows = json.loads(pathlib.Path(self._faults_file).read_bytes())
            pages = ({**row, "body": row["body"].encode()} if "body" in row else row for row in rows)
            self.faults = [Fault(**row) for row in pages]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.faults = [Fault("", status=500, body=f"{self._faults_file}: {error}\n".encode())]

    def note(self, request: Request) -> None:
        """Log a request when it ends."""
        request.over = True
        if self._log_file:
            row = {key: value for key, value in dataclasses.asdict(request).items() if key not in ("headers", "over")}
            with self._lock, open(self._log_file, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")

    def sent(self, part: str) -> int:
        """Return the bytes of the bodies sent for paths that contain `part`."""
        return sum(request.sent for request in self.requests if part in request.path)

    def locate(self, match: re.Match[str]) -> pathlib.Path | None:
        if match["kind"] == "blobs":
            path = self.store_dir / "blobs" / match["ref"].replace(":", "-")
            return path if path.is_file() else None
        if match["ref"].startswith("sha256-") and (self.store_dir / "blobs" / match["ref"]).is_file():
            return self.store_dir / "blobs" / match["ref"]  # as the role's mirrors do; the public registry does not
        rest = (match["ns"], match["model"], match["ref"])
        for tree in ("manifests-v2/ollama.com", "manifests/registry.ollama.ai"):
            path = self.store_dir.joinpath(tree, *rest)
            if path.is_file():
                return path
        return None

    def __enter__(self) -> Registry:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def serve_forever(self) -> None:
        self._http.serve_forever()


def weights(seed: int, size: int | None = None, architecture: str = "llama", at_least: int = 0) -> bytes:
    """GGUF bytes that depend only on the arguments. Without a size: a model that a real server loads and runs.

    :param at_least: bytes that a model without a size has; what is missing follows the tensors, where nobody reads.
    :param architecture: of a model without a size: `llama`, which generates, `embedding`, or `recorded`.
    """
    if size is not None:
        return gguf.tiny(size, seed, architecture)
    data = bytearray(_REAL[architecture].read_bytes())
    start = gguf.read_header(str(_REAL[architecture])).data_start
    norm = random.Random(seed)
    for offset in range(start + 64, start + 64 + 4 * 64, 4):  # the low bytes of a few weights
        data[offset] = norm.randrange(256)
    return bytes(data) + norm.randbytes(max(0, at_least - len(data)))


def make_model(
    store_dir: str | os.PathLike[str],
    name: str,
    size: int | None = None,
    seed: int = 0,
    generation: int = 1,
    architecture: str = "llama",
    layers: t.Mapping[str, bytes] | None = None,
    config: t.Mapping[str, t.Any] | None = None,
    runner: str = "",
    at_least: int = 0,
) -> str:
    """Write a model to a store, with additional `layers` by kind (system, license ...); return its manifest digest."""
    target = store.Store(os.fspath(store_dir), generation)
    found = []
    everything = {
        "model": weights(seed, size, architecture, at_least),
        "params": b'{"num_ctx":128}\n',
        **(layers or {}),
    }
    for kind, data in everything.items():
        digest, _new = target.add_blob(data)
        found.append(store.Layer(store.LAYER + kind, digest, len(data)).to_json())
    family = "llama" if architecture == "embedding" else architecture
    settled = {
        "model_format": "gguf", "model_family": family, "model_families": [family], "model_type": "117K",
        "file_type": "unknown", **(config or {}), "architecture": "amd64", "os": "linux",
    }  # fmt: skip
    body = json.dumps(settled, separators=(",", ":")).encode()
    digest, _new = target.add_blob(body)
    manifest: dict[str, t.Any] = {
        "schemaVersion": 2, "mediaType": store.MANIFEST,
        "config": store.Layer(store.CONFIG, digest, len(body)).to_json(), "layers": found,
    }  # fmt: skip
    if runner:
        manifest |= {"runner": runner, "format": "gguf"}
    raw = json.dumps(manifest, separators=(",", ":")).encode()
    target.write_manifest(names.parse(name), raw)
    return hashlib.sha256(raw).hexdigest()


def make_list(store_dir: str | os.PathLike[str], name: str, children: t.Mapping[str, str]) -> str:
    """Write a manifest list (0.40) of {runner: name of a model in the store}; return the digest of the list."""
    target = store.Store(os.fspath(store_dir), 2)
    rows = []
    for runner, child in children.items():
        raw = target.manifest(names.parse(child)).raw
        digest, _new = target.add_blob(raw)
        row = {"mediaType": store.MANIFEST, "digest": digest, "size": len(raw), "runner": runner, "format": "gguf"}
        rows.append(row)
    data = {"schemaVersion": 2, "mediaType": store.MANIFEST_LIST, "manifests": rows}
    raw = json.dumps(data, separators=(",", ":")).encode()
    target.write_manifest(names.parse(name), raw)
    return hashlib.sha256(raw).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--faults", default="", metavar="FILE")
    parser.add_argument("--log", default="", metavar="FILE")
    given = parser.parse_args()
    served = Registry(given.store, given.host, given.port, faults_file=given.faults, log_file=given.log)
    print(f"http://{served.host}", flush=True)
    served.serve_forever()
