# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the lock file of the declared models on the controller, where the inventory is."""

from __future__ import annotations

import datetime
import os
import typing as t

from ..lookup.models_lock import read_lock
from ..module_utils._core.text import clean
from ..module_utils._models.lockfile import Lock, flatten, moves, relock, render
from ..module_utils._models.registry import parse_mirror
from ..module_utils._server.argspec import REGISTRY, registry_environment
from ..plugin_utils.action import CollectionAction
from ..plugin_utils.files import write_atomically

SPEC: dict[str, t.Any] = {
    "models": {"type": "list", "elements": "raw"},
    "hosts": {"type": "dict"},
    "only_new": {"type": "bool", "default": False},
    "path": {"type": "path", "required": True},
    "mirrors": {"type": "list", "elements": "str", "default": []},
    "mirrors_trusted": {"type": "bool", "default": False},
    "insecure": {"type": "bool", "default": False},
    **REGISTRY,
}


def write_lock(args: t.Mapping[str, t.Any], *, today: str, check_mode: bool) -> dict[str, t.Any]:
    """Lock the present manifests of the tags and return the result of the task."""
    path = args["path"]
    old: Lock = read_lock(path) if os.path.exists(path) else {}
    mirrors = [parse_mirror(url) for url in args["mirrors"]]
    items, places = flatten(args["hosts"]) if args.get("hosts") is not None else (args["models"], [])
    done = relock(
        items,
        old,
        only_new=args.get("only_new", False),
        places=places,
        mirrors=mirrors,
        mirrors_trusted=args["mirrors_trusted"],
        insecure=args["insecure"],
        today=today,
        environment=registry_environment(args),
    )
    new = done.lock
    changed = new != old or not os.path.exists(path)
    if changed and not check_mode:
        write_atomically(path, render(new), code="lockfile_unwritable", option="path")
    return {
        "changed": changed,
        "path": path,
        "models": {name: {"digest": row.digest, "size": row.size, "date": row.date} for name, row in new.items()},
        "moves": moves(old, new),
        "held": done.held,
        "warnings": done.warnings,
        "diff": {
            "before_header": path,
            "after_header": path,
            "before": render(old) if old else "",
            "after": render(new) if changed or old else "",
        },
    }


class ActionModule(CollectionAction):
    """The task kaido.ollama.model_lock."""

    _requires_connection = False

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Validate the options, look up the tags and write the file."""
        one_of = [("models", "hosts")]
        args = self.options(SPEC, mutually_exclusive=one_of, required_one_of=one_of)
        today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
        return t.cast("dict[str, t.Any]", clean(write_lock(args, today=today, check_mode=bool(self._task.check_mode))))
