# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reduce data of another host or of a file to the expected keys and types. Pure.

The controller does not trust managed hosts: unexpected keys could have a meaning in other code, and values of other
types would end a run for all hosts.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass

_LARGEST = (1 << 63) - 1
_MAX_TEXT = 4000
_MAX_ITEMS = 5000


@dataclass(frozen=True)
class Required:
    """A shape whose value must be neither missing nor null."""

    shape: t.Any


# A type means a value of it; an int must not be negative, and a float is any finite number. A list means a list of such
# values, and is empty if it is missing. A mapping means an object with these keys. A tuple means one of these values.
# Any value may be null unless it is `Required` or in a list.
Shape = t.Union[type, t.List[t.Any], t.Dict[str, t.Any], t.Tuple[t.Any, ...], Required]


def conform(value: t.Any, shape: Shape, what: str, *, fill: bool = False) -> t.Any:
    """Return a value reduced to a shape: unexpected keys are removed, and long texts are truncated.

    :param what: the name of the value in messages.
    :param fill: whether missing keys become null.
    :raises ValueError: for a value of another type, a number that is not finite or is too large, and too many items.
    """
    if isinstance(shape, Required):
        if value is None:
            raise ValueError(f"{what}: expected a value")
        shape = shape.shape
    if value is None:
        return [] if isinstance(shape, list) else None
    if isinstance(shape, dict):
        if not isinstance(value, t.Mapping):
            raise _unexpected(value, "a mapping", what)
        return {
            key: conform(value.get(key), part, f"{what}.{key}", fill=fill)
            for key, part in shape.items()
            if fill or key in value or isinstance(part, Required)
        }
    if isinstance(shape, list):
        if not isinstance(value, (list, tuple)) or len(value) > _MAX_ITEMS:
            raise _unexpected(value, f"a list of {_MAX_ITEMS} items or fewer", what)
        return [conform(item, Required(shape[0]), f"{what}[{index}]", fill=fill) for index, item in enumerate(value)]
    if isinstance(shape, tuple):
        if not any(value == item and isinstance(value, bool) is isinstance(item, bool) for item in shape):
            raise _unexpected(value, f"one of {', '.join(map(str, shape))}", what)
        return value
    return _scalar(value, shape, what)


def _scalar(value: t.Any, kind: t.Any, what: str) -> t.Any:
    if kind is str and isinstance(value, str):
        return value[:_MAX_TEXT]
    if kind is bool and isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        if kind is float and math.isfinite(value):
            return float(value)
        if kind is int and isinstance(value, int) and value >= 0:
            return value
    raise _unexpected(value, {str: "a text", bool: "true or false", int: "a whole number"}.get(kind, "a number"), what)


def _unexpected(value: t.Any, expected: str, what: str) -> ValueError:
    return ValueError(f"{what}: invalid value {repr(value)[:80]}; expected {expected}")
