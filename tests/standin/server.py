# SPDX-License-Identifier: GPL-3.0-or-later
"""The server: HTTP as Ollama speaks it, over the store, the puller and the runner. No state outside the instance."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import os
import posixpath
import re
import select
import socket
import socketserver
import threading
import time
import traceback
import typing as t
import urllib.parse

from . import api, gojson, pull, routes, runner, settings, store, web

_BUFFER = 2048  # a longer body goes out in chunks, as with Go's net/http
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer
    disable_nagle_algorithm = True
    body_is_read: bool
    status: int

    # -- answers -------------------------------------------------------------------------------------------------

    def send_plain(self, status: int, text: str = "", content_type: str | None = "text/plain") -> None:
        self._head(status, content_type, len(text.encode()))
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def send_json(self, status: int, value: t.Any, charset: bool = True) -> None:
        body = gojson.dumps(value).encode()
        content_type = "application/json" + ("; charset=utf-8" if charset else "")
        if len(body) > _BUFFER and self.command != "HEAD":
            self._head(status, content_type, None)
            self._chunk(body)
            self._chunk(b"")
            return
        self._head(status, content_type, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin_stream(self, content_type: str = "application/x-ndjson", status: int = 200) -> None:
        self._head(status, content_type, None)

    def send_line(self, value: t.Any) -> None:
        self.send_text(gojson.dumps(value) + "\n")

    def send_text(self, text: str) -> None:
        try:
            self._chunk(text.encode())
        except OSError:
            raise web.Canceled from None

    def end_stream(self) -> None:
        with contextlib.suppress(OSError):
            self._chunk(b"")

    def _head(self, status: int, content_type: str | None, length: int | None) -> None:
        self.responded = True
        self.status = status
        self.send_response_only(status)
        for name, value in self.extra_headers.items():
            self.send_header(name, value)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Date", self.date_time_string())
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    # -- requests ------------------------------------------------------------------------------------------------

    def gone(self) -> bool:
        """Return whether the client has closed its side."""
        with contextlib.suppress(OSError, ValueError):
            ready, _w, _x = select.select([self.connection], [], [], 0)
            return bool(ready) and self.connection.recv(1, socket.MSG_PEEK) == b""
        return True

    def body(self) -> t.Iterator[bytes]:
        """Yield the body of the request in blocks; only once."""
        if self.body_is_read:
            return
        self.body_is_read = True
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            block = self.rfile.read(min(left, 1 << 20))
            if not block:
                return
            left -= len(block)
            yield block

    def read_json(self) -> dict[str, t.Any]:
        data = b"".join(self.body())
        if not data:
            raise api.Failure(400, "missing request body")
        try:
            value = gojson.loads(data)
        except gojson.GoJSONError as error:
            raise api.Failure(400, str(error)) from None
        if not isinstance(value, dict):
            kind = {list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(value), "number")
            raise api.Failure(400, f"json: cannot unmarshal {kind} into Go value of type api.Request")
        for key, wanted, name in (("model", str, "string"), ("name", str, "string"), ("stream", bool, "bool")):
            if value.get(key) is not None and not isinstance(value[key], wanted):
                kind = {list: "array", dict: "object", str: "string", bool: "bool"}.get(type(value[key]), "number")
                raise api.Failure(400, f"json: cannot unmarshal {kind} into Go struct field .{key} of type {name}")
        return value

    def handle_one_request(self) -> None:
        self.responded = False
        self.status = 0
        self.body_is_read = False
        self.extra_headers: dict[str, str] = {}
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError, web.Canceled):
            self.close_connection = True

    def _handle(self) -> None:
        app = self.server.app
        started = time.monotonic()
        path = urllib.parse.unquote(self.path.split("?")[0])
        if not self._host_allowed() or not self._origin_allowed():
            self.close_connection = self.close_connection or self.command not in ("GET", "HEAD")
            return self.send_plain(403, content_type=None)
        if self.command == "OPTIONS" and self.headers.get("Origin"):
            return self.send_plain(204, content_type=None)
        clean = posixpath.normpath(path)
        if ".." in path.split("/") and clean != path:
            self.extra_headers["Location"] = clean
            self.close_connection = True
            return self.send_plain(307 if self.command != "GET" else 301, content_type=None)
        try:
            self._route(app, path)
        except api.Failure as error:
            if not self.responded:
                self._drain()
                self.send_json(error.status, {"error": error.text})
        except (ConnectionError, web.Canceled):
            self.close_connection = True
        except Exception:  # a defect of the stand-in, not of Ollama
            app.log("ERROR", f'msg="stand-in defect" trace="{traceback.format_exc()}"')
            if not self.responded:
                self.send_json(500, {"error": "stand-in defect: " + traceback.format_exc()})
            self.close_connection = True
        # The rest of an unread body would be parsed as the next request.
        if not self.close_connection:
            for _block in self.body():
                pass
        took = f"{(time.monotonic() - started) * 1000:.3f}ms"
        # With the query string, as the real server writes it.
        when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y/%m/%d - %H:%M:%S")
        client = self.client_address[0]
        app.access(f'[GIN] {when} | {self.status} | {took:>13} | {client:>15} | {self.command:<8} "{self.path}"')

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = do_PATCH = do_OPTIONS = _handle

    def _drain(self) -> None:
        """Close the connection: the rest of the body would be parsed as the next request."""
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True

    def _route(self, app: Server, path: str) -> None:
        for pattern, methods in routes.ROUTES:
            match = pattern.fullmatch(path)
            if not match:
                continue
            action = methods.get(self.command)
            if action is None:
                self._drain()
                return self.send_plain(405, "405 method not allowed")
            return action(app, self, *match.groups())
        self._drain()
        return self.send_plain(404, "404 page not found")

    def _host_allowed(self) -> bool:
        if not self.server.app.settings.loopback:
            return True
        given = self.headers.get("Host", "")
        match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::\d*)?", given)
        host = ((match[1] or match[2] or "") if match else given).lower()
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(host)
            return address.is_loopback or address.is_private or address.is_unspecified
        return host in ("", "localhost", socket.gethostname().lower()) or host.endswith(_LOCAL_SUFFIXES)

    def _origin_allowed(self) -> bool:
        origin = self.headers.get("Origin", "")
        if not origin or origin in (f"http://{self.headers.get('Host')}", f"https://{self.headers.get('Host')}"):
            return True
        allowed = self.server.app.settings.origins
        if "*" in allowed:
            self.extra_headers["Access-Control-Allow-Origin"] = "*"
            return True
        if any(re.fullmatch(re.escape(entry).replace(r"\*", ".*"), origin) for entry in allowed):
            self.extra_headers["Access-Control-Allow-Origin"] = origin
            return True
        return False

    def log_message(self, format: str, *args: t.Any) -> None:
        pass


class _HTTPServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: Server) -> None:
        self.app = app
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)  # no reverse look-up of the address
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        self.app.log("ERROR", f'msg="stand-in defect" trace="{traceback.format_exc()}"')


class Server:
    """One server: settings from `env`, a store, a puller, a runner. Several may run in one process."""

    def __init__(self, version: str, env: t.Mapping[str, str], write: t.Callable[[str], None]) -> None:
        self.version = version
        numbers = tuple(int(part) for part in version.split("-")[0].split("."))
        self._write = write
        self.settings = settings.Settings(env, lambda text: self.log("WARN", text))
        conf = self.settings
        self._http = _HTTPServer((conf.bind_host, conf.port), self)
        os.makedirs(conf.models, exist_ok=True)
        shown = " ".join(f"{name}:{value}" for name, value in self.settings.config_map.items())
        self.log("INFO", f'source=routes.go:1951 msg="server config" env="map[{shown}]"')
        self.log("INFO", f'source=routes.go:1953 msg="Ollama cloud disabled: {str(self.settings.no_cloud).lower()}"')
        self.store = store.Store(self.settings.models, 2 if numbers >= (0, 40) else 1, (0, 40) <= numbers < (0, 40, 2))
        self.rewrites = (0, 30) <= numbers < (0, 34)
        if not self.settings.noprune:
            self.store.prune(self.log)
        client = web.Client(version, env.get("SSL_CERT_FILE", ""), 30 * self.settings.time_scale)
        self.puller = pull.Puller(self.store, client, self.log, self.settings)
        self.runner = runner.Runner(self.settings)
        self.cache: dict[str, t.Any] = {}
        self._thread: threading.Thread | None = None
        self.log("INFO", f'source=routes.go:2008 msg="Listening on {self.address} (version {version})"')
        self._log_compute()

    @property
    def address(self) -> str:
        host, port = self._http.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def models_dir(self) -> str:
        return self.settings.models

    def log(self, level: str, text: str) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        self._write(f"time={now}Z level={level} {text}")

    def access(self, text: str) -> None:
        self._write(text)

    def _log_compute(self) -> None:
        conf = self.settings
        with contextlib.suppress(OSError, ValueError):
            total = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
        where = 'id=cpu library=cpu compute="" name=cpu description=cpu libdirs=ollama driver="" pci_id="" type=""'
        if conf.gpu_library:
            total = f"{conf.gpu_mib / 1024:.1f} GiB"
            library = {"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan"}.get(conf.gpu_library, conf.gpu_library)
            where = (
                f"id=GPU-00000000-0000-0000-0000-000000000000 library={library} compute=8.9 name={library}0 "
                'description="Stand-in GPU" libdirs=ollama driver=13.0 pci_id=0000:01:00.0 type=discrete'
            )
        self.log("INFO", f'source=types.go:50 msg="inference compute" {where} total="{total}" available="{total}"')
        self.log(
            "INFO",
            f'source=routes.go:2058 msg="vram-based default context" total_vram="{conf.gpu_mib / 1024:.1f} GiB" '
            f"default_num_ctx={self.default_context}",
        )

    @property
    def default_context(self) -> int:
        if self.settings.context_length:
            return self.settings.context_length
        gib = self.settings.gpu_mib / 1024
        return 262144 if gib >= 47 else 32768 if gib >= 23 else 4096

    def serve_forever(self) -> None:
        self._http.serve_forever(poll_interval=0.02)

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        if self._thread:
            self._thread.join()
