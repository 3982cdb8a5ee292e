# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin socket of HAProxy 2.6 and newer: the state of one server in all backends that contain it.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import csv
import errno
import socket
import time
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError

_TIMEOUT = 10.0
# Bytes. The table of a fleet with a hundred servers has about 100 kB.
_LIMIT = 16 << 20
# Bits of srv_admin_state: forced, inherited, configured and unresolved maintenance; forced and inherited drain.
_MAINTENANCE = 0x01 | 0x02 | 0x04 | 0x20
_DRAINED = 0x08 | 0x10
_RUNNING = 2


@dataclass(frozen=True)
class Row:
    """A server in one backend."""

    name: str
    state: str
    up: bool
    sessions: int
    follows: bool
    """Whether HAProxy takes its state from the server of another backend."""

    def is_as(self, wanted: str) -> bool:
        return (self.state == "ready") == (wanted == "ready")


class Socket:
    """HAProxy's admin socket: one connection for each command."""

    def __init__(self, path: str) -> None:
        self._path = path

    def ask(self, command: str) -> str:
        """Send a command and return the answer.

        :raises OllamaError: ``haproxy_unreachable``.
        """
        answer = b""
        end = time.monotonic() + _TIMEOUT
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_TIMEOUT)
                connection.connect(self._path)
                connection.sendall(command.encode() + b"\n")
                while True:
                    # Any program with the account of HAProxy could answer, so size and time are limited.
                    if len(answer) > _LIMIT or time.monotonic() > end:
                        raise OSError(errno.EMSGSIZE, "its answer is too long, or takes too long")
                    data = connection.recv(65536)
                    if not data:
                        return answer.decode("utf-8", "replace")
                    answer += data
        except OSError as exc:
            raise OllamaError(
                "haproxy_unreachable",
                f"socket: no HAProxy answers at {self._path}: {exc.strerror or exc}",
                socket=self._path,
            ) from exc

    def table(self, command: str, separator: str) -> list[dict[str, str]]:
        """Return the rows of a table by column name.

        :raises OllamaError: ``response_invalid``, and the error of `ask`.
        """
        answer = self.ask(command)
        lines = [line for line in answer.splitlines() if line]
        heads = [number for number, line in enumerate(lines) if line.startswith("# ")]
        if not heads:
            raise OllamaError("response_invalid", f"socket: HAProxy answered {command!r} with {answer.strip()[:200]!r}")
        names = lines[heads[0]][2:].split(separator)
        # Lines of the statistics end with a separator and may contain quoted values.
        rows = csv.reader(lines[heads[0] + 1 :], delimiter=separator)
        return [dict(zip(names, row)) for row in rows]

    def rows(self, server: str) -> list[Row]:
        """Return the server in each of its backends.

        :raises OllamaError: ``server_unknown``, ``response_invalid``, and the error of `ask`.
        """
        try:
            rows = self._rows(server)
        except (KeyError, ValueError, csv.Error) as exc:
            raise OllamaError("response_invalid", f"socket: HAProxy returned an invalid table: {exc}") from None
        if not rows:
            raise OllamaError("server_unknown", f"server: {server!r} is not a server of this balancer", server=server)
        return rows

    def _rows(self, server: str) -> list[Row]:
        statistics = {row["pxname"]: row for row in self.table("show stat -1 4 -1", ",") if row["svname"] == server}
        return [
            Row(
                name=row["be_name"],
                state=_state(int(row["srv_admin_state"])),
                up=int(row["srv_op_state"]) == _RUNNING,
                sessions=int(statistics[row["be_name"]]["scur"]),
                follows=bool(statistics[row["be_name"]]["tracked"]),
            )
            for row in self.table("show servers state", " ")
            if row["srv_name"] == server and row["be_name"] in statistics
        ]

    def set(self, row: Row, server: str, state: str) -> None:
        """Set the state of the server in one backend.

        :raises OllamaError: ``haproxy_refused``, and the error of `ask`.
        """
        answer = self.ask(f"set server {row.name}/{server} state {state}").strip()
        if answer:
            raise OllamaError("haproxy_refused", f"server: HAProxy refused {state} for {row.name}/{server}: {answer}")


def _state(flags: int) -> str:
    if flags & _MAINTENANCE:
        return "maintenance"
    return "drained" if flags & _DRAINED else "ready"


def change(balancer: Socket, server: str, wanted: str, rows: list[Row]) -> list[Row]:
    """Set the server to a state in all backends, and return the new rows.

    A row that follows another one is set only if the change of the other one has no effect on it.

    :raises OllamaError: the errors of `Socket`.
    """
    for _attempt in range(len(rows)):
        wrong = sorted((row for row in rows if not row.is_as(wanted)), key=lambda row: row.follows)
        if not wrong:
            break
        balancer.set(wrong[0], server, "ready" if wanted == "ready" else "drain")
        rows = balancer.rows(server)
    return rows


def is_done(rows: t.Sequence[Row], wanted: str) -> bool:
    """Return whether the change is complete: the server is up, or has no more sessions."""
    if wanted == "ready":
        return all(row.up for row in rows)
    return not any(row.sessions for row in rows)
