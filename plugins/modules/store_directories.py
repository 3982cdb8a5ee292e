#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module store_directories: create a server's directories and give the parts of its store to the service account."""

from __future__ import annotations

DOCUMENTATION = r"""
module: store_directories
short_description: Set the owner of an Ollama model store
version_added: 1.0.0
description:
  - Creates the home of the service account and the directory of the models, and changes the owner of parts of a model
    store that belong to other accounts to the service account.
  - Only directories and files with the names of parts of a store get another owner, and only if they belong to root, to
    O(former_user), or to a user that does not exist. Files with several hard links are refused.
  - Symbolic links are followed only if they belong to root.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama.server
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  former_user:
    description: Account that ran the server before. The owner of its files in the store is changed to O(user).
    type: str
    default: ""
  shared:
    description: Whether the group can read the store, for the mirror, C(ollama_mirror_enabled).
    type: bool
    default: false
notes:
  - The codes in RV(failure.code) are C(root_required), C(account_missing), C(store_unsafe), C(owner_not_changed) and
    C(privileges_not_dropped).
seealso:
  - module: kaido.ollama.preflight
"""

EXAMPLES = r"""
- name: Create the directories and set their owner
  kaido.ollama.store_directories:
    models_dir: /srv/models
    user: ollama
    group: ollama
  become: true

- name: Set permissions for the mirror, which reads the store as a member of the group
  kaido.ollama.store_directories:
    shared: true
  become: true

- name: Change the owner of files that belong to another account
  kaido.ollama.store_directories:
    models_dir: /srv/models
    former_user: llm
  become: true

- name: Show which files would get another owner
  kaido.ollama.store_directories:
    models_dir: /srv/models
  check_mode: true
  become: true
  register: store
"""

RETURN = r"""
paths:
  description: The paths that were created or whose owner was changed, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [/usr/share/ollama/.ollama/models/blobs]
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
    code: account_missing
"""

import grp
import pwd
import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.host import require_root
from ..module_utils._core.options import Module
from ..module_utils._core.owner import Identity
from ..module_utils._preflight import ownership
from ..module_utils._preflight.paths import normal
from ..module_utils._server.argspec import SERVER, finish


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Inspect and change; returns the module's result."""
    require_root("changing the owner of files")
    home, models_dir = (normal(params[name]) for name in ("home", "models_dir"))
    owner = ownership.Owner(
        account=_identity(params["user"], params["group"], check_mode),
        former=_former(params["former_user"]),
        shared=params["shared"],
    )
    wrong, problems = ownership.inspect(home, models_dir, owner)
    for problem in problems:
        raise OllamaError(problem.code, problem.message, path=problem.path)
    if not check_mode:
        wrong = tuple(ownership.mend(home, models_dir, owner))
    return {"changed": bool(wrong), "paths": list(wrong)}


def _identity(user: str, group: str, check_mode: bool) -> Identity | None:
    try:
        return Identity(pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError:
        if check_mode:
            return None
        raise OllamaError(
            "account_missing", f"user: invalid value {user!r}; expected an existing user and group"
        ) from None


def _former(user: str) -> frozenset[int]:
    try:
        return frozenset({pwd.getpwnam(user).pw_uid}) - {0}
    except KeyError:
        return frozenset()


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "former_user": {"type": "str", "default": ""},
            "shared": {"type": "bool", "default": False},
            **SERVER,
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
