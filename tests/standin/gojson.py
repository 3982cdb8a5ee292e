# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON with the error texts of Go's decoder, which clients see in {"error": ...}, and Go's compact output."""

from __future__ import annotations

import datetime
import json
import typing as t


class GoJSONError(ValueError):
    pass


def _quote(char: str) -> str:
    if char == "'":
        return r"'\''"
    if char == '"':
        return "'\"'"
    if ord(char) < 32 or ord(char) == 127:
        known = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\a": r"\a", "\b": r"\b", "\f": r"\f", "\v": r"\v"}
        return "'" + known.get(char, f"\\x{ord(char):02x}") + "'"
    return f"'{char}'"


def loads(data: bytes) -> t.Any:
    """Read the first value, like a Go stream decoder; the rest is ignored."""
    text = data.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise GoJSONError("EOF")
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except json.JSONDecodeError as error:
        rest = text[error.pos :].lstrip(" \t\r\n")
        if not rest or error.msg.startswith("Unterminated"):
            raise GoJSONError("unexpected EOF") from None
        where = {
            "Expecting value": "looking for beginning of value",
            "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
            "Expecting ':' delimiter": "after object key",
            "Expecting ',' delimiter": "after object key:value pair",
        }.get(error.msg, "in string literal")
        raise GoJSONError(f"invalid character {_quote(rest[0])} {where}") from None


def dumps(value: t.Any) -> str:
    """Return the bytes that Go writes: compact, UTF-8, with <, > and & escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def rfc3339(seconds: float) -> str:
    """Return a time as Go marshals it, without trailing zeros."""
    second = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(seconds))
    fraction = f"{int(seconds % 1 * 1e9):09d}".rstrip("0")
    return second.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"
