# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP keys, without GnuPG: only the pinned key of a repository is trusted. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_ARMOR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
_PUBLIC_KEY = 6


def fingerprints(data: bytes) -> list[str]:
    """Return the fingerprints of all primary keys of a key file, armoured or not; [] where it is none.

    Subkeys are bound to them by signatures and need no pin of their own. Keys of versions other than 4 count as
    unknown: their fingerprint is an empty text.
    """
    blocks = [_dearmor(block) for block in _ARMOR.findall(data)] or [data]
    return [found for block in blocks for found in _primary(block)]


def _dearmor(block: bytes) -> bytes:
    # Headers end with an empty line; the checksum line begins with =.
    body = re.split(rb"\r?\n[ \t]*\r?\n", b"\n" + block, maxsplit=1)[-1]
    lines = [line.strip() for line in body.splitlines() if not line.startswith(b"=")]
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except binascii.Error:
        return b""


def _primary(data: bytes) -> list[str]:
    found = []
    position = 0
    while position < len(data):
        tag, start, end = _packet(data, position)
        if tag is None or end > len(data):
            return []
        if tag == _PUBLIC_KEY:
            body = data[start:end]
            # What a fingerprint of version 4 is: RFC 4880, 12.2.
            whole = b"\x99" + len(body).to_bytes(2, "big") + body
            found.append(hashlib.sha1(whole).hexdigest().upper() if body[:1] == b"\4" else "")
        position = end
    return found


def _packet(data: bytes, position: int) -> tuple[int | None, int, int]:
    """Return a packet's tag, and where its body starts and ends; no tag where there is no packet."""
    head = data[position]
    if not head & 0x80:
        return None, 0, 0
    if head & 0x40:
        return (head & 0x3F, *_new_length(data, position + 1))
    width = {0: 1, 1: 2, 2: 4}.get(head & 3)
    if width is None:
        return None, 0, 0
    start = position + 1 + width
    return head >> 2 & 15, start, start + int.from_bytes(data[position + 1 : start], "big")


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    first = data[position] if position < len(data) else 0
    if first < 192:
        return position + 1, position + 1 + first
    if first < 224:
        second = data[position + 1] if position + 1 < len(data) else 0
        return position + 2, position + 2 + ((first - 192) << 8) + second + 192
    if first == 255:
        return position + 5, position + 5 + int.from_bytes(data[position + 1 : position + 5], "big")
    # A part of a body: keys have none.
    return len(data) + 1, len(data) + 1
