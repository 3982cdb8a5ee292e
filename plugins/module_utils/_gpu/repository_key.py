# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read files with OpenPGP public keys without GnuPG: only the pinned key of a repository is trusted. Pure.

A pin is effective only if this module reads exactly the keys that apt, rpm and GnuPG read. OpenPGP readers tolerate
different deviations: they skip text, accept variants of the armor lines and concatenate blocks. This parser does not
imitate them. It accepts one form and rejects everything else. The installed file is written from the bytes that it has
checked.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import base64
import hashlib
import re

# One armored block and nothing else: headers, an empty line, base64, and the optional checksum (RFC 4880, section 6.1).
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
    """Return the fingerprint of the primary key in a file; [] unless the file contains exactly one well-formed key.

    The file is one armored block without other text, or one binary key. The key is of version 4, and consists of a
    primary key, user IDs, subkeys and signatures. Signatures bind the subkeys to it, so they need no separate pin.
    """
    body = _key(data)
    return [_fingerprint(body)] if body else []


def canonical(data: bytes) -> str:
    """Return the key in the form that is installed: an armored block of the bytes that `fingerprints` reads.

    Empty unless the file contains exactly one well-formed key.
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
    """Return the packets of a file that contains exactly one key; empty for any other file."""
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
    # The fingerprint of a version 4 key: RFC 4880, section 12.2.
    if key[:1] != b"\4" or len(key) > 0xFFFF:
        return ""
    return hashlib.sha1(b"\x99" + len(key).to_bytes(2, "big") + key).hexdigest().upper()


def _tags(data: bytes) -> list[int]:
    """Return the tags of all packets.

    :raises ValueError: unless the packets fill the data exactly.
    """
    found = []
    position = 0
    while position < len(data):
        tag, _start, position = _packet(data, position)
        found.append(tag)
    return found


def _packet(data: bytes, position: int) -> tuple[int, int, int]:
    """Return the tag of a packet, and the start and end of its body."""
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
        raise ValueError("it is truncated")
    return tag, start, start + size


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    """Return the start and the size of a body."""
    first, rest = data[position : position + 1], data[position + 1 : position + 5]
    if not first or 224 <= first[0] < 255:
        # A partial body, which keys do not have.
        raise ValueError("its length is not known")
    if first[0] < 192:
        return position + 1, first[0]
    if first[0] < 224 and rest:
        return position + 2, ((first[0] - 192) << 8) + rest[0] + 192
    return position + 5, int.from_bytes(rest, "big")
