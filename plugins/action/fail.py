# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail with a message and a code."""

from __future__ import annotations

import typing as t

from ..module_utils._core.text import printable
from ..plugin_utils.action import CollectionAction

SPEC: dict[str, t.Any] = {
    "msg": {"type": "str", "required": True},
    "code": {"type": "str", "default": "task_failed"},
    "cause": {"type": "dict", "default": {}},
}


class ActionModule(CollectionAction):
    """The task kaido.ollama.fail."""

    _requires_connection = False

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Fail."""
        args = self.options(SPEC)
        code = str((args["cause"].get("failure") or {}).get("code") or args["code"])
        # Some lines of a journal may follow the message.
        return {"failed": True, "changed": False, "msg": printable(args["msg"], keep="\n"), "failure": {"code": code}}
