# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one service on a host: programs, account, files, unit, listeners and health. It changes nothing.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import ssl
import typing as t
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from .._core import sockets as sockets_module
from .._core import systemd
from .._core.errors import OllamaError
from .._core.fs import readable_text
from .pending import Listener, ManagedFile, ServiceSpec, ServiceState
from .units import processes, replaced, sockets_of

_PROPERTIES = ("ActiveState", "UnitFileState", "ExecMainStartTimestampMonotonic", "StateChangeTimestampMonotonic")


def survey(spec: ServiceSpec) -> ServiceState:
    """Return the state of the service on this host."""
    missing = tuple(path for path in spec.programs if not os.access(path, os.X_OK))
    properties = systemd.show(spec.unit, _PROPERTIES) if spec.unit else {}
    active = properties.get("ActiveState") == "active"
    differing = tuple(path for path, file in spec.files.items() if _differs(path, file))
    started = systemd.since_boot(properties.get("ExecMainStartTimestampMonotonic"))
    pids = processes().get(spec.unit or "", []) if active else []
    return ServiceState(
        missing=missing,
        has_user=spec.user is None or _uid(spec.user) is not None,
        differing=differing,
        changed={path: os.stat(path).st_mtime for path in (*spec.files, *spec.reads) if os.path.exists(path)},
        active=active,
        enabled=properties.get("UnitFileState") == "enabled",
        started=started,
        # The state of the unit changes at the end of a reload.
        reloaded=systemd.since_boot(properties.get("StateChangeTimestampMonotonic")),
        listeners=tuple(_others(spec)),
        replaced=replaced(pids, spec.programs, started) if active else None,
        sockets=tuple(sockets_of(pids)),
        unhealthy=_unhealthy(spec.health) if spec.health and active else None,
    )


def check_addresses(spec: ServiceSpec, variable: str) -> None:
    """Refuse a listen address that this host does not have.

    :param variable: the role variable with the port; its name ends with ``_port``.
    :raises OllamaError: ``address_unavailable``.
    """
    for address in spec.listen:
        if address.ip is None or address.is_wildcard:
            continue
        family = socket.AF_INET if address.ip.version == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((address.host, 0))
        except OSError as exc:
            if exc.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise OllamaError(
                    "address_unavailable",
                    f"{variable.replace('_port', '_address')}: invalid value {address.host!r}; "
                    "expected an address of this host",
                ) from None


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _differs(path: str, file: ManagedFile) -> bool:
    if file.content is None:
        return os.path.lexists(path)
    try:
        gid = grp.getgrnam(file.group).gr_gid
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read()
    except (KeyError, FileNotFoundError, NotADirectoryError):
        return True
    there = (content, status.st_uid, status.st_gid, status.st_mode & 0o7777)
    return there != (file.content, 0, gid, int(file.mode, 8))


def _others(spec: ServiceSpec) -> t.Iterator[Listener]:
    """Yield the listeners of other programs on the addresses of the service."""
    for found in sockets_module.listening():
        for address in spec.listen:
            if found.port != address.port or not sockets_module.overlap(found.address, address):
                continue
            pid = sockets_module.owner(found.inode)
            if pid is None:
                # In some containers root cannot see the files of other processes, so the account is compared.
                if spec.user and found.uid in (0, _uid(spec.user)):
                    continue
            elif spec.unit and systemd.unit_of(pid) == spec.unit:
                continue
            yield Listener(address, readable_text(f"/proc/{pid}/comm").strip() or None if pid else None, pid)


def _unhealthy(url: str) -> str | None:
    """Return why the service is not healthy, or None.

    Its certificate is for the names that clients use, so it is not verified.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: HTTPConnection = HTTPSConnection(parts.netloc, timeout=10, context=context)
    else:
        connection = HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", parts.path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as exc:
        return f"{url} does not answer with status 200: {exc}"
    finally:
        connection.close()
    return None if status == 200 else f"{url} does not answer with status 200: {status}"
