#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the runs that work on the model store of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_stop
short_description: Stop running pulls and builds of models
version_added: 1.0.0
description:
  - Stops the processes of M(kaido.ollama.model), M(kaido.ollama.model_build), M(kaido.ollama.model_import),
    M(kaido.ollama.model_verify) and M(kaido.ollama.release) that work on a model store or a release, or wait for it,
    regardless of the controller that started them.
  - Downloads stop. Downloaded data is kept, and the next run resumes the downloads. Installed models stay.
  - Also removes the files of jobs that have ended without a controller.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api.store
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  timeout:
    description: Seconds to wait until the processes have stopped.
    type: float
    default: 30.0
  install_dir:
    description: The directory of the releases, as in M(kaido.ollama.release), whose downloads are also stopped.
    type: path
    default: /opt/ollama
notes:
  - 'Failures have a stable RV(ignore:failure.code): V(job_running) for a process that does not stop, V(value_invalid).'
seealso:
  - module: kaido.ollama.model
"""

EXAMPLES = r"""
- name: Stop running pulls
  kaido.ollama.model_stop:
  become: true

- name: Show which processes would be stopped
  kaido.ollama.model_stop:
  check_mode: true
  become: true
  register: running

- name: Stop the pulls of another store
  kaido.ollama.model_stop:
    models_dir: /srv/models
  become: true

- name: Stop running pulls before a reboot, and allow them two minutes
  kaido.ollama.model_stop:
    timeout: 120
  become: true
"""

RETURN = r"""
stopped:
  description: The IDs of the processes that were stopped, or in check mode would be stopped.
  returned: success
  type: list
  elements: int
  sample: [23694]
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
    code: job_running
"""

import os
import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.options import Module
from ..module_utils._core.server import Server
from ..module_utils._models.job import remove_ended, running, stop
from ..module_utils._server.argspec import STORE, finish
from ..module_utils._store.state import memory_path
from ..module_utils._store.store import Store

SPEC: dict[str, t.Any] = {
    "timeout": {"type": "float", "default": 30.0},
    "install_dir": {"type": "path", "default": Server.install_dir},
    **STORE,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """End the runs, or in check mode find them."""
    seconds = params["timeout"]
    if seconds < 0:
        raise OllamaError("value_invalid", f"timeout: invalid value {seconds}; expected 0 or more")
    path = memory_path(Store(params["models_dir"]), params["state_dir"])
    # The lock of module release is a file of this name in its directory.
    locks = [path, os.path.join(params["install_dir"], "")]
    if check_mode:
        stopped = running(locks)
        return {"changed": bool(stopped), "stopped": stopped}
    stopped = stop(locks, seconds=seconds)
    remove_ended(path, 0)
    remove_ended(os.path.join(os.path.dirname(path), "release.json"), 0)
    return {"changed": bool(stopped), "stopped": stopped}


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
