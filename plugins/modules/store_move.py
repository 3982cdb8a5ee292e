#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module store_move: move a model store to another directory in three steps, around the restart of the server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: store_move
short_description: Move an Ollama model store to another directory, or back up its manifests
version_added: 1.0.0
description:
  - Internal to the role P(kaido.ollama.ollama#role), which uses it if C(ollama_models_dir) of a server changes.
  - Moves all models of the store, including undeclared ones. On the same file system hard links are created, so that no
    data is copied; on another file system the blobs are copied and verified by their digests.
  - Before servers convert manifests, the role backs them up with the step V(backup).
  - An interrupted step is continued by the next run. Nothing is removed from O(source) before the server uses
    O(target).
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  source:
    description: The directory that the server has used.
    type: str
    required: true
  target:
    description: The new directory. It exists and belongs to the owner of O(source). With O(step=backup) it is a
      directory of root, which is created.
    type: str
    required: true
  step:
    description:
      - V(fill) creates the files while the server continues to use O(source).
      - V(switch) creates the files that were added meanwhile, with the server stopped, and records that O(target) is
        complete.
      - V(finish) removes the files of O(source), after the server was started with O(target).
      - V(backup) copies the manifests to O(target), and moves nothing.
    type: str
    choices: [fill, switch, finish, backup]
    required: true
notes:
  - The codes in RV(failure.code) are C(root_required), C(store_unsafe), C(store_move_incomplete), C(disk_full),
    C(filesystem_read_only), C(permission_denied) and C(privileges_not_dropped).
seealso:
  - module: kaido.ollama.preflight
  - module: kaido.ollama.store_directories
"""

EXAMPLES = r"""
- name: Create the files of the store in the new directory
  kaido.ollama.store_move:
    source: /usr/share/ollama/.ollama/models
    target: /srv/models
    step: fill
  become: true

- name: Stop the server
  ansible.builtin.systemd_service:
    name: ollama.service
    state: stopped
  become: true

- name: Create the files that were added meanwhile
  kaido.ollama.store_move:
    source: /usr/share/ollama/.ollama/models
    target: /srv/models
    step: switch
  become: true

- name: Remove the files of the previous directory, after the server was started with the new one
  kaido.ollama.store_move:
    source: /usr/share/ollama/.ollama/models
    target: /srv/models
    step: finish
  become: true

- name: Resume an interrupted move
  kaido.ollama.store_move:
    source: /usr/share/ollama/.ollama/models
    target: /srv/models
    step: fill
  become: true
"""

RETURN = r"""
files:
  description: The number of files that were created in O(target), or removed from O(source).
  returned: success, outside of check mode
  type: int
  sample: 14
bytes_copied:
  description: The number of bytes that were copied to another file system.
  returned: success, outside of check mode
  type: int
  sample: 0
kept:
  description: The damaged files, which stay in O(source).
  returned: success, outside of check mode
  type: list
  elements: str
  sample: []
failure:
  description: The failure in machine-readable form.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
  sample:
    code: store_move_incomplete
"""

import typing as t

from ..module_utils._core.errors import finish
from ..module_utils._core.host import require_root
from ..module_utils._core.options import Module
from ..module_utils._preflight import store_move
from ..module_utils._preflight.paths import normal


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Carry out a step and return the module's result."""
    require_root("moving a store")
    source, target = normal(params["source"]), normal(params["target"])
    if check_mode:
        return {"changed": True}
    if params["step"] == "backup":
        count = store_move.back_up(source, target)
        return {"changed": count > 0, "files": count, "bytes_copied": 0, "kept": []}
    if params["step"] == "finish":
        removed, kept = store_move.finish(source, target)
        return {"changed": True, "files": removed, "bytes_copied": 0, "kept": kept, "warnings": _warnings(kept)}
    switches = params["step"] == "switch"
    filled = store_move.fill(source, target, partial=switches)
    if switches:
        store_move.switch(source, target, filled.damaged)
    return {
        "changed": filled.files > 0,
        "files": filled.files,
        "bytes_copied": filled.copied,
        "kept": [f"{source}/{name}" for name in filled.damaged],
    }


def _warnings(kept: t.Sequence[str]) -> list[str]:
    return [f"{path} is damaged and was not moved; remove it if its model is not needed" for path in kept]


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "source": {"type": "str", "required": True},
            "target": {"type": "str", "required": True},
            "step": {"type": "str", "choices": ["fill", "switch", "finish", "backup"], "required": True},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
