# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models that a server lists, by key.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from .._core.errors import OllamaError
from .._core.name import parse
from .._server.api import Client


def key_of(row: t.Mapping[str, t.Any]) -> str | None:
    """Return the key of the model in a row of a server's list, or None for an invalid name."""
    try:
        return parse(row.get("name") or row.get("model"), allow_cloud=True).key
    except OllamaError:
        return None


def list_models(client: Client) -> dict[str, dict[str, t.Any]]:
    """Return the rows of the server's models by key.

    Ollama 0.40.0 lists a tag once per variant; the variant that the server prefers is returned.
    """
    rows: dict[str, dict[str, t.Any]] = {}
    for row in client.tags():
        key = key_of(row)
        if key and (key not in rows or row.get("details", {}).get("runner") == "llamacpp"):
            rows[key] = row
    return rows
