#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export models of an Ollama store as one directory or tar, for hosts without a network."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_export
short_description: Export models to a bundle for offline transfer
version_added: 0.1.0
description:
  - Writes a bundle, a directory or tar with the manifests and blobs of chosen models, release archives of Ollama if
    wanted, and C(SHA256SUMS) over all of it, which C(sha256sum --check) reads.
  - Reads the model store alone, as its owner; no server is needed. Every byte is compared with its digest on the way,
    and a bundle gets its name only when it is complete. Two runs with the same O(dest) do their work one after the
    other.
  - The files of a bundle have mode C(0600), and its directories C(0700).
  - Of a tag that is a list of variants (Ollama 0.40 and newer) the list goes into the bundle, with the variant that
    this host runs, so that pins hold and servers of all versions can use it. Further variants go with it if they are
    here in full, such as the original of a model that the server has converted.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api.store
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
    details: The archives of O(release) need not be there yet.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  models:
    description: The models. All of the store by default.
    type: list
    elements: str
    default: []
  release:
    description: A release of Ollama to put in.
    type: dict
    suboptions:
      version:
        description: The release, for example V(0.35.1).
        type: str
        required: true
      path:
        description: The directory on this host that holds its archives, under the names that upstream gives them.
        type: path
        required: true
      checksums:
        description: The archives' names, with the sha256 of each. Nothing is written if one has another.
        type: dict
        required: true
  dest:
    description:
      - The path of the bundle. A name that ends in V(.tar) makes a tar, any other a directory.
      - An older bundle under that name is replaced; anything else there, also a symbolic link, is an error.
    type: path
    required: true
notes:
  - 'Values of RV(ignore:failure.code): V(not_found), V(damaged), V(dest_taken), V(dest_unwritable), V(disk_full),
    V(busy), V(bad_manifest), V(invalid_name), V(invalid_digest), V(store_unreadable), V(store_unsafe).'
seealso:
  - module: kaido.ollama.model_import
"""

EXAMPLES = r"""
- name: Export two models
  kaido.ollama.model_export:
    models: [llama3.2:3b, nomic-embed-text:v1.5]
    dest: /media/usb/models.tar
"""

RETURN = r"""
dest:
  description: The path of the bundle.
  returned: success
  type: str
checksum:
  description: The sha256 of its C(SHA256SUMS), which stands for all of it. Give it to M(kaido.ollama.model_import).
  returned: success
  type: str
existed:
  description: Whether exactly this bundle was there before. The contents of its blobs are not read for that.
  returned: success
  type: bool
models:
  description: The digests of the models in it, by name.
  returned: success
  type: dict
bytes:
  description: The size of all files in it.
  returned: success
  type: int
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse, parse_digest
from ..module_utils._models.bundle import File, collect, is_written, write
from ..module_utils._server.argspec import STORE, finish
from ..module_utils._store.store import Store

SPEC: dict[str, t.Any] = {
    "models": {"type": "list", "elements": "str", "default": []},
    "release": {
        "type": "dict",
        "options": {
            "version": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "checksums": {"type": "dict", "required": True},
        },
    },
    "dest": {"type": "path", "required": True},
    **STORE,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Write the bundle, unless the same is there."""
    store = Store(params["models_dir"])
    if not store.readable:
        raise OllamaError("store_unreadable", f"models_dir: cannot read {store.root}; give OLLAMA_MODELS, or become")
    names = [parse(name, allow_cloud=True, what="models") for name in params["models"]]
    releases = {}
    release = params["release"]
    for archive, checksum in release["checksums"].items() if release else ():
        path = os.path.join(release["path"], archive)
        size = os.path.getsize(path) if os.path.isfile(path) else None
        if size is None and not check_mode:
            raise OllamaError("not_found", f"release: there is no file {path}")
        member = f"releases/v{release['version']}/{archive}"
        releases[member] = File(path, parse_digest(checksum, what=f"release: {archive}")[7:], size or 0)
    export = collect(store, names, releases)
    dest = params["dest"].rstrip("/")
    if check_mode:
        existed = is_written(export, dest)
    else:
        existed = not write(export, dest, tar=dest.endswith(".tar"), state_dir=params["state_dir"])
    return {
        "changed": not existed,
        "existed": existed,
        "dest": dest,
        "checksum": export.checksum,
        "models": {str(name): digest for name, digest in export.models.items()},
        "bytes": export.size,
    }


def main() -> None:
    """Run the module."""
    finish(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
