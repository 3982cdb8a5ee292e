#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module uninstall: remove a server from its host and report what was kept."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall
short_description: Uninstall an Ollama server
version_added: 1.0.0
description:
  - Removes everything that the role P(kaido.ollama.ollama#role) created, which is the service, its unit and settings,
    the releases, the link, the account, and the state of the modules.
  - Also removes the mirror, gateway, balancer and forwarder of this collection with their tokens, keys and accounts.
    A unit that this collection did not write is kept.
  - Models stay unless O(remove_models) is set. Then only files of the model store are removed.
  - The account is removed only if it is a system account with O(home) and without a login shell.
  - The owner of remaining files is changed to root, so that no file belongs to a removed account.
  - Follows no symbolic link in the home of the account and in the store, unless it belongs to root.
  - Returns the paths that were kept, and the reasons.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama.server
  - kaido.ollama.server.installation
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  server:
    description: Whether the server is removed; otherwise only the other services of this collection.
    type: bool
    default: true
  remove_models:
    description: Whether the models are removed as well, C(ollama_remove_models).
    type: bool
    default: false
notes:
  - The codes in RV(failure.code) are C(root_required), C(installation_foreign), C(command_failed) and
    C(privileges_not_dropped).
seealso:
  - module: kaido.ollama.release
"""

EXAMPLES = r"""
- name: Uninstall the server and keep its models
  kaido.ollama.uninstall:
  become: true

- name: Uninstall the server and its models
  kaido.ollama.uninstall:
    remove_models: true
  become: true

- name: Uninstall a server with other directories
  kaido.ollama.uninstall:
    models_dir: /srv/models
    install_dir: /srv/ollama
  become: true

- name: Show what would be removed
  kaido.ollama.uninstall:
    remove_models: true
  check_mode: true
  become: true
  register: removal
"""

RETURN = r"""
actions:
  description: The actions that were performed, or in check mode would be performed.
  returned: success
  type: list
  elements: str
  sample: [stop and disable ollama.service, remove /etc/systemd/system/ollama.service]
kept:
  description: The paths that were kept, and the reasons.
  returned: success
  type: dict
  sample:
    /usr/share/ollama/.ollama/models: "models, 2.0 GB; ollama_remove_models: true removes them"
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
    code: installation_foreign
"""

import typing as t

from ..module_utils._core.host import require_root
from ..module_utils._core.options import Module
from ..module_utils._preflight import uninstall
from ..module_utils._preflight.paths import check_paths, normal
from ..module_utils._server.argspec import INSTALLATION, SERVER, finish


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Survey, plan and remove; returns the result of the module."""
    require_root("removing a server")
    paths = {name: normal(params[name]) for name in ("models_dir", "install_dir", "bin_dir", "home")}
    request = uninstall.UninstallRequest(**{**params, **paths})
    check_paths(request.models_dir, request.install_dir, request.home)
    host = uninstall.gather(request)
    plan = uninstall.plan(host, request)
    kept = dict(plan.kept)
    if plan.steps and not check_mode:
        kept.update(uninstall.Removal(host, request).apply(plan.steps))
    return {"changed": bool(plan.steps), "actions": list(plan.steps.values()), "kept": kept}


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "server": {"type": "bool", "default": True},
            "remove_models": {"type": "bool", "default": False},
            **SERVER,
            **INSTALLATION,
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
