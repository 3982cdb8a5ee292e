# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the `ollama` binary: serve, and the client commands that provisioning uses."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import signal
import sys
import threading
import typing as t

from . import settings

_USAGE = "usage: ollama serve|list|ps|pull|rm|cp|show|run|--version (the stand-in knows no other commands)"


class CommandError(Exception):
    pass


class _Client:
    def __init__(self) -> None:
        conf = settings.Settings({"HOME": "/", **os.environ})
        self._address = (conf.host if conf.host not in ("", "0.0.0.0", "::") else "127.0.0.1", conf.port)

    def lines(self, method: str, path: str, body: t.Any = None) -> t.Iterator[dict[str, t.Any]]:
        connection = http.client.HTTPConnection(*self._address, timeout=None)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except OSError:
            raise CommandError("could not connect to ollama server, run 'ollama serve' to start it") from None
        for line in response:
            value = json.loads(line)
            if "error" in value:
                raise CommandError(value["error"])
            yield value
        connection.close()

    def one(self, method: str, path: str, body: t.Any = None) -> dict[str, t.Any]:
        return next(self.lines(method, path, body), {})


def _human(size: int) -> str:
    from .download import human_size

    return human_size(size)


def _ago(stamp: str, now: datetime.datetime) -> str:
    then = datetime.datetime.fromisoformat(stamp[:19] + "+00:00")
    seconds = (now - then).total_seconds()
    word = "ago" if seconds >= 0 else "from now"
    if seconds < -100 * 365 * 86400:
        return "Forever"
    for unit, name in ((86400 * 7, "week"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count = int(abs(seconds) // unit)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''} {word}"
    return f"Less than a second {word}"


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("    ".join(cell.ljust(width) for cell, width in zip(row, widths)) + "    ")


def _version(own: str) -> None:
    server = ""
    try:
        server = _Client().one("GET", "/api/version").get("version", "")
    except CommandError:
        print("Warning: could not connect to a running Ollama instance")
    if server:
        print(f"ollama version is {server}")
    if server != own:
        print(f"Warning: client version is {own}")


def _list(client: _Client) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    rows = []
    for m in client.one("GET", "/api/tags")["models"]:
        size = "-" if m.get("remote_host") else _human(m["size"])
        rows.append([m["name"], m["digest"][:12], size, _ago(m["modified_at"], now)])
    _table(["NAME", "ID", "SIZE", "MODIFIED"], rows)


def _ps(client: _Client) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    rows, runner = [], False
    for m in client.one("GET", "/api/ps")["models"]:
        gpu = round(100 * m["size_vram"] / m["size"]) if m["size"] else 0
        where = "100% CPU" if not gpu else "100% GPU" if gpu == 100 else f"{100 - gpu}%/{gpu}% CPU/GPU"
        until = _ago(m["expires_at"], now)
        row = [m["name"], m["digest"][:12], _human(m["size"]), where, str(m["context_length"]), until]
        runner = runner or "runner" in m
        rows.append([*row, m["runner"]] if "runner" in m else row)
    head = ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    _table([*head, "RUNNER"] if runner else head, rows)


def _pull(client: _Client, args: list[str]) -> None:
    body = {"model": args[-1], "insecure": "--insecure" in args}
    shown = ""
    for line in client.lines("POST", "/api/pull", body):
        if line["status"] != shown:
            shown = line["status"]
            print(shown, file=sys.stderr)


def _run(client: _Client, args: list[str]) -> None:
    for line in client.lines("POST", "/api/generate", {"model": args[0], "prompt": " ".join(args[1:])}):
        print(line["response"], end="", flush=True)
    print()


def _show(client: _Client, args: list[str]) -> None:
    shown = client.one("POST", "/api/show", {"model": args[-1]})
    for flag in ("modelfile", "parameters", "system", "template", "license"):
        if f"--{flag}" in args:
            print(shown.get(flag, ""))
            return
    print("  Model")
    pairs = {
        "architecture": shown["details"]["family"], "parameters": shown["details"]["parameter_size"],
        "quantization": shown["details"]["quantization_level"],
    }  # fmt: skip
    for key, value in pairs.items():
        print(f"    {key:<19} {value}")
    print("\n  Capabilities")
    for capability in shown["capabilities"]:
        print(f"    {capability}")


def _make_key() -> None:
    """Write the key pair; like the real server, do not start where that fails."""
    path = os.path.join(os.environ.get("HOME", "/"), ".ollama", "id_ed25519")
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    for name, mode in ((path, 0o600), (path + ".pub", 0o644)):
        if not os.path.exists(name):
            with open(os.open(name, os.O_WRONLY | os.O_CREAT, mode), "w", encoding="utf-8") as stream:
                stream.write("the stand-in signs nothing\n")


def _serve(version: str) -> int:
    from .server import Server

    def write(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        _make_key()
        server = Server(version, os.environ, write)
    except settings.Panic as panic:
        write(f"panic: {panic}")
        return 2
    except OSError as error:
        if error.filename:
            write(f"Error: {error.filename}: {(error.strerror or '').lower()}: ensure path elements are traversable")
        else:
            conf = settings.Settings(os.environ)
            write(f"Error: listen tcp {conf.bind_host}:{conf.port}: bind: {(error.strerror or str(error)).lower()}")
        return 1
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_args: done.set())
    server.start()
    done.wait()
    server.stop()
    return 0


def main(args: list[str], version: str) -> int:
    if args in (["--version"], ["-v"]):
        _version(version)
        return 0
    command, rest = (args[0], args[1:]) if args else ("help", [])
    if command in ("serve", "start"):
        return _serve(version)
    try:
        client = _Client()
        if command in ("list", "ls"):
            _list(client)
        elif command == "ps":
            _ps(client)
        elif command == "pull" and rest:
            _pull(client, rest)
        elif command == "rm" and rest:
            for name in rest:
                client.one("DELETE", "/api/delete", {"model": name})
                print(f"deleted '{name}'")
        elif command == "cp" and len(rest) == 2:
            client.one("POST", "/api/copy", {"source": rest[0], "destination": rest[1]})
            print(f"copied '{rest[0]}' to '{rest[1]}'")
        elif command == "show" and rest:
            _show(client, rest)
        elif command == "run" and rest:
            _run(client, rest)
        else:
            print(_USAGE, file=sys.stderr)
            return 1
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0
