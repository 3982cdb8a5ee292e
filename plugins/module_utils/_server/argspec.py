# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules share; their documentation is in the doc fragments `api` and `server`.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from .._core import proxy
from .._core.errors import finish
from .._core.server import DEFAULT_URL, Server

__all__ = ["API", "INSTALLATION", "REGISTRY", "SERVER", "STORE", "finish", "registry_environment"]

API: dict[str, t.Any] = {
    "api_url": {"type": "str", "default": DEFAULT_URL},
    "api_timeout": {"type": "float", "default": 30.0},
    "ca_path": {"type": "path"},
}
REGISTRY: dict[str, t.Any] = {"registry_environment": {"type": "dict", "default": {}}}
STORE: dict[str, t.Any] = {
    "models_dir": {"type": "path", "default": Server.models_dir},
    "state_dir": {"type": "path"},
}
SERVER: dict[str, t.Any] = {
    name: {"type": "str", "default": getattr(Server, name)} for name in ("models_dir", "home", "user", "group")
}
INSTALLATION: dict[str, t.Any] = {
    name: {"type": "str", "default": getattr(Server, name)} for name in ("install_dir", "bin_dir")
}


def registry_environment(params: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return the variables for requests to registries: those of the option, which override those of this process.

    :raises OllamaError: ``value_invalid``, ``url_invalid``.
    """
    return proxy.way_out(proxy.parse_environment(params["registry_environment"], what="registry_environment"))
