# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of servers, registries, files and logs, made safe for terminals, JSON and log files. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import math
import re
import typing as t

# Characters that a terminal interprets or does not show: C0 and C1 controls, line and paragraph separators, marks that
# change the direction of text, and invisible ones; joiners of letters stay. Half of a surrogate pair stands for a byte
# that is not UTF-8; JSON for others cannot hold it.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)

_MASK = "***"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
# Up to the last @ of the authority; a password may also hold an unescaped /, ? or #, unless a port number ends there.
_USER_INFO = re.compile(r"(://)(?:[^\s/?#\"'<>]*@|[^\s/@:\"'<>]*:(?!\d+(?:[/?#]|\Z))[^\s@\"'<>]*@)")
_QUERY = re.compile(r"([?&;][^\s=&;#]*)=[^\s&;#\"'<>]*")
_BARE_QUERY = re.compile(r"\?[^\s=&;#\"'<>]+(?=[#\s]|\Z)")
# Without a scheme, as proxies and model names may be written: user:password@host. Not a name with a digest.
_BARE_USER_INFO = re.compile(r"(?<![\w./:@-])[^\s/@:=,;\"'()\[\]]+:[^\s/@\"'()]+@(?!sha256[:-])(?=[\w\[])")
_AUTHORIZATION = re.compile(
    r"\b((?:proxy-)?authorization\"?[:=]\s*\"?(?:(?:bearer|basic)\s+)?)[^\s\",]+", re.IGNORECASE
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return a text in which every character that a terminal interprets is a visible escape such as ``\x1b``.

    :param keep: control characters that stay as they are, such as a line feed in a text of several lines.
    """
    return _CONTROL.sub(lambda match: match.group() if match.group() in keep else _escape(match.group()), text)


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        # os.fsdecode: the byte itself.
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def one_line(text: str) -> str:
    """Return a text as one line: white space around line breaks becomes one space, other controls become visible."""
    return printable(" ".join(re.split(r"[ \t]*[\r\n\v\f\x85\u2028\u2029]+[ \t]*|\t", text.strip())))


def redact(text: str) -> str:
    """Return a text without the credentials in its URLs: user information and the values of queries become ``***``."""
    if "@" in text:
        text = _USER_INFO.sub(rf"\1{_MASK}@", text)
        text = _BARE_USER_INFO.sub(f"{_MASK}@", text)
    if "://" in text and "?" in text:
        text = _URL.sub(lambda match: _without_query(match.group()), text)
    return _AUTHORIZATION.sub(rf"\1{_MASK}", text) if "uthorization" in text.lower() else text


def _without_query(url: str) -> str:
    head, mark, tail = url.partition("?")
    return head + _BARE_QUERY.sub(f"?{_MASK}", _QUERY.sub(rf"\1={_MASK}", mark + tail))


def message(text: str) -> str:
    """Return a text as a message: one printable line without credentials."""
    return redact(one_line(text))


def clean(value: t.Any) -> t.Any:
    """Return a JSON value, texts in it printable and without credentials; line feeds and tabs stay.

    Values that JSON does not have become text: bytes, paths, sets and other objects.
    """
    if isinstance(value, str):
        return redact(printable(value, keep="\n\t"))
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, t.Mapping):
        return {clean(key) if isinstance(key, str) else key: clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean(item) for item in value]
    if isinstance(value, bytes):
        return clean(value.decode("utf-8", "surrogateescape"))
    return clean(str(value))
