#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export models of a model store to a bundle, a directory or tar, for hosts without a network."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_export
short_description: Export models to a bundle for offline transfer
version_added: 1.0.0
description:
  - Writes a bundle, which is a directory or tar archive with the manifests and blobs of the selected models, optionally
    with release archives of Ollama, and with C(SHA256SUMS) of all files, which C(sha256sum --check) reads.
  - Reads only the model store, as its owner; no running server is needed. Every file is compared with its digest while
    it is copied, and the bundle gets its name when it is complete. Concurrent runs with one O(dest) are serialized.
  - The files of a bundle have mode C(0600), and its directories C(0700).
  - A tag that is a list of variants (Ollama 0.40 and newer) is exported as that list, with the variant that this host
    runs, so that pins are satisfied and servers of all versions can use it. Further variants are exported if they are
    complete, such as the original of a model that the server has converted.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api.store
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
    details: The archives of O(release) may be missing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  models:
    description: The models, by default all models of the store.
    type: list
    elements: str
    default: []
  release:
    description: A release of Ollama to add to the bundle.
    type: dict
    suboptions:
      version:
        description: The release, for example V(0.35.1).
        type: str
        required: true
      path:
        description: The directory on this host with its archives, under their official names.
        type: path
        required: true
      checksums:
        description: The name and SHA-256 checksum of each archive. Nothing is written if a checksum differs.
        type: dict
        required: true
  dest:
    description:
      - The path of the bundle. If it ends in V(.tar), a tar archive is written, otherwise a directory.
      - An existing bundle is replaced. Anything else at that path, also a symbolic link, is an error.
    type: path
    required: true
notes:
  - 'Values of RV(ignore:failure.code): V(model_missing), V(model_damaged), V(dest_taken), V(dest_unwritable),
    V(disk_full), V(lock_held), V(manifest_invalid), V(name_invalid), V(digest_invalid), V(store_unreadable),
    V(store_unsafe).'
seealso:
  - module: kaido.ollama.model_import
"""

EXAMPLES = r"""
- name: Export two models
  kaido.ollama.model_export:
    models: [llama3.2:3b, nomic-embed-text:v1.5]
    dest: /media/usb/models.tar
  become: true
  register: bundle

- name: Show the checksum for the import
  ansible.builtin.debug:
    var: bundle.checksum

- name: Export all models of the store to a directory
  kaido.ollama.model_export:
    dest: /media/usb/models
  become: true

- name: Export models with a release of Ollama
  kaido.ollama.model_export:
    models: [llama3.2:3b]
    release:
      version: 0.35.1
      path: /srv/ollama/v0.35.1
      checksums:
        ollama-linux-amd64.tar.zst: sha256:9fcd79ac4575b2bd31b992eee18b1000c8ad126b451627c8f8cd091714cfbb10
    dest: /media/usb/llm.tar
  become: true

- name: Export a model of another store
  kaido.ollama.model_export:
    models: [llama3.2:3b]
    models_dir: /srv/models
    dest: /media/usb/one.tar
  become: true
"""

RETURN = r"""
dest:
  description: The path of the bundle.
  returned: success
  type: str
  sample: /media/usb/models.tar
checksum:
  description: The SHA-256 checksum of its C(SHA256SUMS), which covers the complete bundle. Pass it to
    M(kaido.ollama.model_import).
  returned: success
  type: str
  sample: sha256:96f05d637fd8c39b511c784876176ff8efcd6c4b5027a3ea8a0e2b1fdec84524
existed:
  description: Whether exactly this bundle existed before. The contents of its blobs are not compared.
  returned: success
  type: bool
  sample: false
models:
  description: The digests of its models, by name.
  returned: success
  type: dict
  sample:
    llama3.2:3b: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
bytes:
  description: The size of all its files.
  returned: success
  type: int
  sample: 2019394560
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
    code: model_missing
"""

import os
import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse, parse_digest
from ..module_utils._core.options import Module
from ..module_utils._models.bundle_writer import File, collect, is_written, write
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
    """Write the bundle, unless the same bundle exists."""
    store = Store(params["models_dir"])
    if not store.readable:
        raise OllamaError(
            "store_unreadable",
            f"models_dir: cannot read {store.root}; expected the OLLAMA_MODELS of the server, and become: true",
        )
    names = [parse(name, allow_cloud=True, what="models") for name in params["models"]]
    releases = {}
    release = params["release"]
    for archive, checksum in release["checksums"].items() if release else ():
        path = os.path.join(release["path"], archive)
        size = os.path.getsize(path) if os.path.isfile(path) else None
        if size is None and not check_mode:
            raise OllamaError("file_unreadable", f"release: {path} does not exist")
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
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
