# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that behaves like Ollama, defects included. `running()` starts one in this process."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import typing as t

if t.TYPE_CHECKING:
    from .server import Server


def until(condition: t.Callable[[], t.Any], what: str = "the condition", seconds: float = 60) -> t.Any:
    """Return the first true value of `condition`; raise AssertionError after so many seconds without one."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return value


class Running:
    """A server of `running()`: its address, its store and what it logged."""

    def __init__(self, server: Server, log: list[str]) -> None:
        self._server = server
        self.log = log
        self.url = server.url
        self.address = server.address
        self.version = server.version
        self.models_dir = server.models_dir

    def wait_for(self, text: str, count: int = 1) -> None:
        """Return once `count` lines of the log contain the text."""
        until(lambda: sum(text in line for line in self.log) >= count, f"{text!r} in the log")

    def stop(self) -> None:
        self._server.stop()


@contextlib.contextmanager
def running(
    version: str = "0.35.1", models_dir: str | os.PathLike[str] | None = None, env: t.Mapping[str, str] | None = None
) -> t.Iterator[Running]:
    """Start a server on a free loopback port. `env` is its complete environment."""
    from .server import Server

    with contextlib.ExitStack() as stack:
        if models_dir is None:
            models_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="standin-"))
        log: list[str] = []
        base = {"OLLAMA_HOST": "127.0.0.1:0", "OLLAMA_MODELS": os.fspath(models_dir)}
        server = Server(version, {**base, **(env or {})}, log.append)
        server.start()
        stack.callback(server.stop)
        yield Running(server, log)
