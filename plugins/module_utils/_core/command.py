# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs of the host. Only this module of the collection starts processes.

`AnsibleModule.run_command` has no timeout, keeps unlimited output in memory and cannot read standard input from a file;
the monitoring program runs without Ansible.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
import typing as t
from dataclasses import dataclass

from .errors import OllamaError

DEFAULT_TIMEOUT = 30.0
DEFAULT_LIMIT = 1 << 20
# Tasks often run with a PATH without the sbin directories; nvidia-smi is in the last directory on WSL 2.
_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/wsl/lib")
_CHUNK = 1 << 16
_STDERR_LIMIT = 1 << 16


@dataclass(frozen=True)
class Result:
    """The exit status and the output of a program. Bytes that are not UTF-8 are replaced."""

    argv: tuple[str, ...]
    status: int
    """The exit status; a negative number is the signal that ended the program."""
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """The last line of the program's messages, or its exit status."""
        lines = [line.strip() for line in (self.stderr.strip() or self.stdout.strip()).splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit status {self.status}"


def search_path() -> str:
    """Return the search path for programs: the directories of this process, then the standard ones."""
    own = [part for part in os.environ.get("PATH", "").split(":") if part.startswith("/")]
    return ":".join([*own, *(part for part in _DIRECTORIES if part not in own)])


def find(program: str) -> str | None:
    """Return the path of a program, or None if it is not installed."""
    return shutil.which(program, path=search_path())


def run(
    argv: t.Sequence[str],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    limit: int = DEFAULT_LIMIT,
    stdin: str = "",
    environment: t.Mapping[str, str] | None = None,
) -> Result:
    """Run a program to its end in the C locale and without a terminal, and return its result for any exit status.

    :param timeout: seconds after which the program and its child processes are killed.
    :param limit: the number of bytes of standard output that are kept; the rest is read and discarded.
    :param stdin: the standard input; empty by default.
    :param environment: the variables of the program, instead of those of this process; ``PATH`` and ``LC_ALL`` are set.
    :raises OllamaError: ``program_missing``, ``command_failed`` if the system cannot start it, ``command_timeout``.
    """
    with contextlib.ExitStack() as stack:
        source: t.Any = subprocess.DEVNULL
        if stdin:
            # The input is kept in memory, as it may be a private key.
            source = stack.enter_context(os.fdopen(os.memfd_create("stdin"), "w+b"))
            source.write(stdin.encode("utf-8", "surrogateescape"))
            source.seek(0)
        process = stack.enter_context(_started(argv, source, subprocess.PIPE, environment))
        outputs = _collect(process, time.monotonic() + timeout, limit)
        if outputs is None:
            raise OllamaError(
                "command_timeout", f"{_name(argv)} did not end within {timeout:g} s", program=argv[0], timeout=timeout
            )
        status = process.wait()
    stdout, stderr = (output.decode("utf-8", "replace") for output in outputs)
    return Result(tuple(argv), status, stdout, stderr)


def check(argv: t.Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, code: str = "command_failed") -> Result:
    """Run a program that must succeed.

    :param code: the code of the error if the exit status is not 0.
    :raises OllamaError: ``code``, and the errors of `run`.
    """
    result = run(argv, timeout=timeout)
    if result.status:
        raise OllamaError(code, f"{_name(argv)} failed: {result.reason}", program=argv[0], status=result.status)
    return result


def attempt(argv: t.Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> Result | None:
    """Run an optional program, and return None if it is missing, cannot be started or does not end."""
    try:
        return run(argv, timeout=timeout)
    except OllamaError:
        return None


class Stream:
    """The output of a running program; `status` is known after the context has ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.stdout = t.cast("t.IO[bytes]", process.stdout)

    @property
    def status(self) -> int:
        """The exit status; negative if the program was killed, also because its output was not read to the end."""
        return t.cast(int, self._process.returncode)


@contextlib.contextmanager
def stream(
    argv: t.Sequence[str], *, stdin: t.IO[bytes] | None = None, timeout: float | None = None
) -> t.Iterator[Stream]:
    """Start a program and yield its output while it runs. At the end of the context, a running program is killed.

    :param stdin: an open file that the program reads from its current position.
    :param timeout: the seconds after which the program is killed, which ends its output; None for no limit.
    :raises OllamaError: ``program_missing``, or ``command_failed`` if the system cannot start it.
    """
    with _started(argv, subprocess.DEVNULL if stdin is None else stdin, subprocess.DEVNULL, None) as process:
        running = Stream(process)
        timer = threading.Timer(timeout, process.kill) if timeout else None
        if timer:
            timer.start()
        try:
            yield running
        finally:
            if timer:
                timer.cancel()
            running.stdout.close()
            # A program that has written all of its output ends by itself.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)


@contextlib.contextmanager
def _started(
    argv: t.Sequence[str], stdin: t.Any, stderr: int, environment: t.Mapping[str, str] | None
) -> t.Iterator[subprocess.Popen[bytes]]:
    program = argv[0] if "/" in argv[0] else find(argv[0])
    if program is None:
        raise _missing(argv)
    variables = dict(os.environ if environment is None else environment)
    variables.update(LC_ALL="C", PATH=search_path())
    try:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            [program, *argv[1:]],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=variables,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise _missing(argv) from None
    except (OSError, ValueError) as exc:
        raise OllamaError("command_failed", f"cannot start {_name(argv)}: {exc}", program=argv[0]) from None
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a running program, without waiting for a process that the kernel does not release (a faulty GPU)."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def _collect(process: subprocess.Popen[bytes], end: float, limit: int) -> tuple[bytes, bytes] | None:
    """Return the output of a program that ends in time, or None.

    Do not wait for a background process that keeps the pipes open.
    """
    outputs = {process.stdout: bytearray(), process.stderr: bytearray()}
    limits = {process.stdout: limit, process.stderr: _STDERR_LIMIT}
    with selectors.DefaultSelector() as selector:
        for pipe in outputs:
            selector.register(t.cast("t.IO[bytes]", pipe), selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(min(0.1, max(0.0, end - time.monotonic())))
            for key, _events in ready:
                pipe = t.cast("t.IO[bytes]", key.fileobj)
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(pipe)
                outputs[pipe] += chunk[: max(0, limits[pipe] - len(outputs[pipe]))]
            if not ready and process.poll() is not None:
                break
            if time.monotonic() >= end and process.poll() is None:
                return None
    try:
        process.wait(timeout=max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    return bytes(outputs[process.stdout]), bytes(outputs[process.stderr])


def _missing(argv: t.Sequence[str]) -> OllamaError:
    return OllamaError("program_missing", f"the program {argv[0]} is not installed on this host", program=argv[0])


def _name(argv: t.Sequence[str]) -> str:
    """Return the program and its first argument, as later ones may be long or confidential."""
    return " ".join([os.path.basename(argv[0]), *argv[1:2]])
