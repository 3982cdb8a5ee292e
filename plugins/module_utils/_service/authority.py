# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private certificate authority in the directory of a gateway: create, renew and adopt it.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time

from .._core.errors import OllamaError
from . import certificates

# The key of a new authority until its certificate is written.
PENDING = "ca.key.pending"


class Directory:
    """The directory with the files of a gateway. In check mode, `changed` is set but nothing is written."""

    def __init__(self, path: str, check_mode: bool) -> None:
        self.path = path
        self.check_mode = check_mode
        self.changed = False

    def read(self, name: str) -> str:
        """Return the content of a file, or '' if it does not exist.

        :raises OllamaError: ``certificate_unreadable``.
        """
        path = os.path.join(self.path, name)
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as exc:
            raise OllamaError("certificate_unreadable", f"{path}: {exc.strerror}") from None

    def write(self, name: str, content: str, mode: int) -> None:
        """Replace a file atomically if its content or mode differs.

        :raises OllamaError: ``file_unwritable``.
        """
        path = os.path.join(self.path, name)
        if self.read(name) == content and os.stat(path).st_mode & 0o7777 == mode:
            return
        self.changed = True
        if self.check_mode:
            return
        try:
            os.makedirs(self.path, 0o755, exist_ok=True)
            descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.rename(path + ".new", path)
        except OSError as exc:
            raise OllamaError("file_unwritable", f"{path}: cannot be written: {exc.strerror}") from None

    def remove(self, name: str) -> None:
        """Remove a file if it exists.

        :raises OllamaError: ``file_unwritable``.
        """
        path = os.path.join(self.path, name)
        if self.check_mode or not os.path.lexists(path):
            return
        try:
            os.unlink(path)
        except OSError as exc:
            raise OllamaError("file_unwritable", f"{path}: cannot be removed: {exc.strerror}") from None


def complete(directory: Directory) -> tuple[str, str]:
    """Complete an interrupted change, and return the certificate and the key of this host's authority.

    Either is '' if it is missing. The key is written last: if only the certificate is new, an earlier run was
    interrupted between the two.
    """
    authority, key, pending = (directory.read(name) for name in ("ca.crt", "ca.key", PENDING))
    if authority and pending:
        with contextlib.suppress(OllamaError):
            public = certificates.read(authority, "ca.crt").public_key
            if certificates.public_key_of(pending, "ca.key") == public:
                directory.write("ca.key", pending, 0o600)
                directory.remove(PENDING)
                key = pending
    return authority, key


def ensure(directory: Directory, create: bool, renew: bool) -> tuple[str, str, list[str]]:
    """Return the certificate, the key and the warnings of this host's authority; the key is '' if another host has it.

    :param create: whether this host creates an authority if none has existed.
    :param renew: whether an authority is replaced that is damaged, has expired or expires soon.
    :raises OllamaError: ``authority_damaged`` or ``authority_expired``, before anything is written.
    """
    authority, key = complete(directory)
    if not authority and not key:
        if not create:
            return "", "", []
        certificate = directory.read("tls.crt")
        if certificate and not renew and _is_private(certificate):
            # The authority that signed the certificate no longer exists, but clients trust it.
            raise certificates.lost(f"{directory.path}/ca.key is missing")
        return (*_new(directory), [])
    try:
        if key or create:
            warnings = certificates.judge_authority(authority, key, directory.path, time.time())
        else:
            found = certificates.read(authority, f"{directory.path}/ca.crt")
            warnings = certificates.judge_end(found, directory.path, time.time())
    except OllamaError as exc:
        if not renew or exc.code not in ("authority_damaged", "authority_expired"):
            raise
        return (*_new(directory), []) if key or create else (authority, "", [])
    if warnings and renew and key:
        return (*_new(directory), [])
    return authority, key, warnings


def _is_private(certificate: str) -> bool:
    try:
        return certificates.read(certificate, "tls.crt").is_private
    except OllamaError:
        return False


def _new(directory: Directory) -> tuple[str, str]:
    """Create an authority, and keep the files of an earlier one under other names."""
    _keep(directory)
    key = certificates.new_key()
    authority = certificates.new_authority(key, f"{certificates.AUTHORITY}{platform.node()}")
    directory.write(PENDING, key, 0o600)
    directory.write("ca.crt", authority, 0o644)
    directory.write("ca.key", key, 0o600)
    directory.remove(PENDING)
    return authority, key


def _keep(directory: Directory) -> None:
    for name, mode in (("ca.crt", 0o644), ("ca.key", 0o600)):
        content = directory.read(name)
        if content:
            directory.write(f"{name}.old", content, mode)


def adopt(directory: Directory, authority: str, renew: bool) -> tuple[str, str, list[str]]:
    """Adopt the authority of another host. A different authority on this host is replaced only with `renew`.

    :raises OllamaError: ``authority_changed`` or ``authority_expired``.
    """
    found = certificates.read(authority, "authority")
    warnings = certificates.judge_end(found, "the authority of this gateway", time.time())
    here, key = complete(directory)
    foreign = bool(key) and not (certificates.is_key(key) and certificates.public_key_of(key, "it") == found.public_key)
    if foreign or (here and here.strip() != authority.strip()):
        if not renew:
            raise OllamaError(
                "authority_changed",
                f"{directory.path}/ca.crt: the private authority of this gateway differs from that of the signing "
                "host, and clients trust it; set ollama_gateway_authority_host to the host whose authority clients "
                "trust, or ollama_gateway_renew_authority: true to use the authority of the signing host",
            )
        _keep(directory)
        directory.remove("ca.key")
        key = ""
    directory.write("ca.crt", authority, 0o644)
    return authority, key, warnings
