# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sanitize texts of servers, registries, files and logs for terminals, JSON and log files. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import math
import re
import typing as t

# Characters that a terminal interprets or does not show: C0 and C1 controls, line and paragraph separators, marks that
# change the direction of text, and invisible characters except joiners of letters. A lone surrogate represents a byte
# that is not UTF-8, which JSON cannot contain.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)

_MASK = "***"
# A character of a URL. A quote is one if text follows it, as a password may contain quotes.
_CHARACTER = r"""(?:[^\s"'<>]|["'](?=[\w%@!$&*+.~/-]))"""
# User information up to the last @ of the authority. A password may contain an unescaped /, ? or #, unless a port
# number ends there. A scheme, or no character of a path, precedes //.
_USER_INFO = re.compile(
    r"""((?<![\w./*-])//)(?:(?:[^\s/?#"'<>]|["'](?=[\w%@!$&*+.~-])){0,4096}@"""
    rf"""|[^\s/@:"'<>]{{0,256}}:(?!\d+(?:[/?#]|\Z)){_CHARACTER}{{0,4096}}@)"""
)
# User information without a scheme, as in proxies and model names: user:password@host, but not a name with a digest.
_BARE_USER_INFO = re.compile(
    rf"""(?<![^\s=,;"'()\[\]<>{{}}|])[^\s/:=,;"'()\[\]<>{{}}|]{{1,256}}(?::(?!//|\d+(?:[/?#]|\Z))|%3a)"""
    rf"""{_CHARACTER}{{0,4096}}@(?!sha256[:-])(?=[\w\[])""",
    re.IGNORECASE,
)
# User information of a URL that is encoded in another URL.
_ENCODED_USER_INFO = re.compile(r"""(%2f%2f)[^\s/?#&"'<>]{0,4096}%40""", re.IGNORECASE)
_URL = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{0,30}}://{_CHARACTER}+")
_QUERY = re.compile(rf"""([?&;#][^\s=&;#"'<>]*)=(?:(?![&;#]){_CHARACTER}|["'](?=[^\s&;#"'<>]))*""")
# The query of a URL without a scheme, or of a path.
_BARE_QUERY_RUN = re.compile(rf"""\?[\w%.~\[\]-]{{1,256}}={_CHARACTER}*""")
_BARE_QUERY = re.compile(r"""\?[^\s=&;#"'<>]+(?=[#\s"'<>]|\Z)""")
_AUTHORIZATION = re.compile(
    r"\b((?:proxy-)?authorization\"?[:=]\s*\"?(?:(?:bearer|basic)\s+)?)[^\s\",]+", re.IGNORECASE
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return a text in which characters that a terminal interprets are replaced by escapes such as ``\x1b``.

    :param keep: control characters that are not replaced, such as line feeds in a text of several lines.
    """
    return _CONTROL.sub(lambda match: match.group() if match.group() in keep else _escape(match.group()), text)


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        # os.fsdecode represents a byte in this way.
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def one_line(text: str) -> str:
    """Return a text as one line: line breaks with their white space become one space, other controls become escapes."""
    return printable(" ".join(re.split(r"[ \t]*[\r\n\v\f\x85\u2028\u2029]+[ \t]*|\t", text.strip())))


def redact(text: str) -> str:
    """Return a text without the credentials in its URLs: user information and values of queries become ``***``."""
    if "@" in text:
        text = _USER_INFO.sub(rf"\1{_MASK}@", text)
        text = _BARE_USER_INFO.sub(f"{_MASK}@", text)
    if "%40" in text:
        text = _ENCODED_USER_INFO.sub(rf"\1{_MASK}%40", text)
    if "://" in text:
        text = _URL.sub(lambda match: _without_query(match.group()), text)
    if "?" in text:
        text = _BARE_QUERY_RUN.sub(lambda match: _QUERY.sub(rf"\1={_MASK}", match.group()), text)
    return _AUTHORIZATION.sub(rf"\1{_MASK}", text) if "uthorization" in text.lower() else text


def _without_query(url: str) -> str:
    return _BARE_QUERY.sub(f"?{_MASK}", _QUERY.sub(rf"\1={_MASK}", url))


def message(text: str) -> str:
    """Return a text as a message: one printable line without credentials."""
    return redact(one_line(text))


def clean(value: t.Any) -> t.Any:
    """Return a JSON value in which texts are printable and contain no credentials. Line feeds and tabs are kept.

    Values that JSON cannot represent, such as bytes, paths and sets, become texts.
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
