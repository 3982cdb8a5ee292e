# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read OpenPGP public key files without GnuPG: only the pinned key of a repository is trusted. Pure.

A pin holds only if this module sees exactly the keys that apt, rpm and GnuPG see. OpenPGP readers are tolerant, each in
its own way: they skip text, accept variants of the armor lines and concatenate blocks. This parser does not imitate
them. It accepts one form, refuses everything else, and what is installed is the text that it writes itself from the
bytes that it has checked.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import base64
import hashlib
import re

# One armored block and nothing else: headers, an empty line, base64, the optional checksum of RFC 4880, 6.1.
_ARMOR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    r"(?:(?:Version|Comment|MessageID|Charset): [ -~]*\n)*\n"
    r"((?:[A-Za-z0-9+/]{1,76}\n)*[A-Za-z0-9+/]{1,76}={0,2}\n)"
    r"(?:=([A-Za-z0-9+/]{4})\n)?"
    r"-----END PGP PUBLIC KEY BLOCK-----\n*"
)
_SIZE_LIMIT = 1 << 20
_SIGNATURE, _PUBLIC_KEY, _USER_ID, _PUBLIC_SUBKEY, _USER_ATTRIBUTE = 2, 6, 13, 14, 17
_ALLOWED = (_SIGNATURE, _USER_ID, _PUBLIC_SUBKEY, _USER_ATTRIBUTE)


def fingerprints(data: bytes) -> list[str]:
    """Return the fingerprint of the one primary key in a key file; [] for anything else than a single clean key.

    The file is one armored block without other text, or one binary key. The key is of version 4, and consists of a
    primary key, user IDs, subkeys and signatures. Subkeys are bound to it by signatures and need no pin of their own.
    """
    body = _key(data)
    return [_fingerprint(body)] if body else []


def canonical(data: bytes) -> str:
    """Return a key file in the only form that is installed: an armored block of the bytes that `fingerprints` reads.

    Empty where there is no single clean key.
    """
    body = _key(data)
    if not body:
        return ""
    text = base64.b64encode(body).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    checksum = base64.b64encode(_crc24(body).to_bytes(3, "big")).decode()
    rows = ["-----BEGIN PGP PUBLIC KEY BLOCK-----", "", *lines, f"={checksum}", "-----END PGP PUBLIC KEY BLOCK-----"]
    return "\n".join(rows) + "\n"


def _key(data: bytes) -> bytes:
    """Return the packets of a key file that holds exactly one key, else nothing."""
    if len(data) > _SIZE_LIMIT:
        return b""
    try:
        body = data if data[:1] >= b"\x80" else _dearmor(data.decode("ascii"))
        tags = _tags(body)
    except ValueError:
        return b""
    whole = tags[:1] == [_PUBLIC_KEY] and all(tag in _ALLOWED for tag in tags[1:])
    return body if whole and _fingerprint(body) else b""


def _dearmor(text: str) -> bytes:
    match = _ARMOR.fullmatch(text.replace("\r\n", "\n"))
    if not match:
        raise ValueError("it is not one armored block")
    body = base64.b64decode(match.group(1).replace("\n", ""), validate=True)
    if match.group(2) and base64.b64decode(match.group(2)) != _crc24(body).to_bytes(3, "big"):
        raise ValueError("its checksum is wrong")
    return body


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _bit in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def _fingerprint(body: bytes) -> str:
    """Return the fingerprint of the first packet, empty for versions other than 4."""
    _tag, start, end = _packet(body, 0)
    key = body[start:end]
    # What a fingerprint of version 4 is: RFC 4880, 12.2.
    if key[:1] != b"\4" or len(key) > 0xFFFF:
        return ""
    return hashlib.sha1(b"\x99" + len(key).to_bytes(2, "big") + key).hexdigest().upper()


def _tags(data: bytes) -> list[int]:
    """Return the tags of all packets; raises ``ValueError`` unless they fill the data exactly."""
    found = []
    position = 0
    while position < len(data):
        tag, _start, position = _packet(data, position)
        found.append(tag)
    return found


def _packet(data: bytes, position: int) -> tuple[int, int, int]:
    """Return a packet's tag, and where its body starts and ends."""
    head = data[position]
    if not head & 0x80:
        raise ValueError("it is not a packet")
    if head & 0x40:
        tag, (start, size) = head & 0x3F, _new_length(data, position + 1)
    else:
        width = {0: 1, 1: 2, 2: 4}.get(head & 3)
        if width is None:
            raise ValueError("its length is not known")
        tag, start = head >> 2 & 15, position + 1 + width
        size = int.from_bytes(data[position + 1 : start], "big")
    if start + size > len(data):
        raise ValueError("it is cut off")
    return tag, start, start + size


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    """Return where a body starts, and its size."""
    first, rest = data[position : position + 1], data[position + 1 : position + 5]
    if not first or 224 <= first[0] < 255:
        # A part of a body: keys have none.
        raise ValueError("its length is not known")
    if first[0] < 192:
        return position + 1, first[0]
    if first[0] < 224 and rest:
        return position + 2, ((first[0] - 192) << 8) + rest[0] + 192
    return position + 5, int.from_bytes(rest, "big")
