# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's environment, with the quirks of the real parser: bad booleans are true, bad numbers the default."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import typing as t

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
FOREVER = float(2**63 - 1) / 1e9

# Names the real server prints at start, with their defaults.
SHOWN = {
    "CUDA_VISIBLE_DEVICES": "", "GGML_VK_VISIBLE_DEVICES": "", "GPU_DEVICE_ORDINAL": "", "HIP_VISIBLE_DEVICES": "",
    "HSA_OVERRIDE_GFX_VERSION": "", "HTTPS_PROXY": "", "HTTP_PROXY": "", "NO_PROXY": "", "OLLAMA_CONTEXT_LENGTH": "0",
    "OLLAMA_FLASH_ATTENTION": "", "OLLAMA_GPU_OVERHEAD": "0", "OLLAMA_KV_CACHE_TYPE": "", "OLLAMA_LLM_LIBRARY": "",
    "OLLAMA_LOAD_TIMEOUT": "5m0s", "OLLAMA_MAX_LOADED_MODELS": "0", "OLLAMA_MAX_QUEUE": "512",
    "OLLAMA_NUM_PARALLEL": "1", "OLLAMA_REMOTES": "[ollama.com]", "OLLAMA_SCHED_SPREAD": "false",
    "ROCR_VISIBLE_DEVICES": "", "http_proxy": "", "https_proxy": "", "no_proxy": "",
}  # fmt: skip


class Panic(Exception):
    """The server does not start."""


def parse_duration(text: str) -> float | None:
    """Seconds from a Go duration or an integer; None if it is neither."""
    if re.fullmatch(r"[+-]?\d+", text):
        return float(text)
    match = re.fullmatch(r"([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)", text)
    if not match:
        return None
    total = sum(float(n) * _UNITS[u] for n, u in re.findall(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)", match[2]))
    return -total if match[1] == "-" else total


class Settings:
    def __init__(self, env: t.Mapping[str, str], warn: t.Callable[[str], None] = lambda text: None) -> None:
        self._env = env
        self._warn = warn
        # A build that represents a real server: without the variables of the stand-in, with other numbers.
        self.plain = bool(env.get("STANDIN_PLAIN"))
        self.scheme, self.host, self.port = self._parse_host()
        self.models = self._models_dir()
        self.noprune = self.flag("OLLAMA_NOPRUNE")
        self.no_cloud = self.flag("OLLAMA_NO_CLOUD")
        self.keep_alive = self._keep_alive()
        self.max_queue = self.number("OLLAMA_MAX_QUEUE", 512)
        self.max_loaded = self.number("OLLAMA_MAX_LOADED_MODELS", 0)
        self.num_parallel = max(1, self.number("OLLAMA_NUM_PARALLEL", 1))
        self.context_length = self.number("OLLAMA_CONTEXT_LENGTH", 0)
        self.origins = self._origins()
        # Variables of the stand-in only.
        self.time_scale = float(self.var("STANDIN_TIME_SCALE") or 1)
        self.token_seconds = float(self.var("STANDIN_TOKEN_SECONDS") or 0)
        self.load_seconds = float(self.var("STANDIN_LOAD_SECONDS") or 0)
        self.words = 17 if self.plain else 24
        self.gate = self.var("STANDIN_GATE")
        self.runner_fails = self.flag("STANDIN_RUNNER_FAILS")
        self.anchor = self.flag("STANDIN_ANCHOR")
        self.migrate = self.flag("STANDIN_MIGRATE")
        self.upstream = self.var("STANDIN_UPSTREAM")  # instead of the public registry, which no test may reach
        self.gpu_library, self.gpu_mib = self._gpu()

    def var(self, name: str) -> str:
        if self.plain and name.startswith("STANDIN_"):
            return ""
        return self._env.get(name, "").strip().strip("\"'")

    def flag(self, name: str) -> bool:
        value = self.var(name)
        return value not in ("", "0", "f", "F", "false", "False", "FALSE")

    def number(self, name: str, default: int) -> int:
        value = self.var(name)
        if value and not value.isdecimal():
            self._warn(f'msg="invalid environment variable, using default" key={name} value={value} default={default}')
        return int(value) if value.isdecimal() else default

    @property
    def bind_host(self) -> str:
        return "::" if self.host in ("", "0.0.0.0") and socket.has_dualstack_ipv6() else self.host

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.bind_host).is_loopback
        except ValueError:
            return False

    @property
    def config_map(self) -> dict[str, str]:
        """Return the content of the log line "server config", with proxy credentials, like the real server."""
        shown = {name: self.var(name) or default for name, default in SHOWN.items()}
        shown["OLLAMA_HOST"] = f"{self.scheme}://{self.host}:{self.port}"
        shown["OLLAMA_MODELS"] = self.models
        shown["OLLAMA_KEEP_ALIVE"] = self.var("OLLAMA_KEEP_ALIVE") or "5m0s"
        shown["OLLAMA_NOPRUNE"] = str(self.noprune).lower()
        shown["OLLAMA_NO_CLOUD"] = str(self.no_cloud).lower()
        shown["OLLAMA_ORIGINS"] = "[" + " ".join(self.origins) + "]"
        return dict(sorted(shown.items()))

    def _parse_host(self) -> tuple[str, str, int]:
        text = self.var("OLLAMA_HOST")
        scheme, default, rest = "http", 11434, text
        if "://" in text:
            scheme, rest = text.split("://", 1)
            default = {"http": 80, "https": 443}.get(scheme, default)
        elif text == "ollama.com":
            scheme, rest = "https", "ollama.com:443"
        rest = rest.split("/", 1)[0]
        match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*)):([^:]*)", rest)
        if match:
            host, port = match[1] if match[1] is not None else match[2], match[3]
        else:
            host, port = rest.strip("[]") or "127.0.0.1", str(default)
        if not port.isdecimal() or int(port) > 65535:
            self._warn(f'msg="invalid port, using default" port={port} default={default}')
            port = str(default)
        return scheme, host, int(port)

    def _models_dir(self) -> str:
        if self.var("OLLAMA_MODELS"):
            return self.var("OLLAMA_MODELS")
        if not self._env.get("HOME"):
            raise Panic("$HOME is not defined")
        return os.path.join(self._env["HOME"], ".ollama", "models")

    def _keep_alive(self) -> float:
        seconds = parse_duration(self.var("OLLAMA_KEEP_ALIVE"))
        if seconds is None:
            return 300.0
        return FOREVER if seconds < 0 else seconds

    def _origins(self) -> list[str]:
        given = [origin for origin in self.var("OLLAMA_ORIGINS").split(",") if origin]
        for origin in given:
            if origin != "*" and not re.match(r"[a-z][a-z0-9+.-]*://", origin):
                raise Panic(f"bad origin: origins must contain '*' or include {'http://,https://'}")
        for host in ("localhost", "127.0.0.1", "0.0.0.0"):
            for scheme in ("http", "https"):
                given += [f"{scheme}://{host}", f"{scheme}://{host}:*"]
        return [*given, "app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"]

    def _gpu(self) -> tuple[str, int]:
        library, _colon, mib = self.var("STANDIN_GPU").partition(":")
        return library, int(mib or 24564) if library else 0
