#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the models of a bundle into a model store, without a network."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_import
short_description: Import the models of a bundle into a model store, without a network
version_added: 1.0.0
description:
  - Imports a bundle that M(kaido.ollama.model_export) wrote. The complete bundle is compared with its C(SHA256SUMS)
    first; an incomplete or modified bundle is rejected before anything is written.
  - Copies the blobs that are missing or damaged in the store, then the manifests, each with one rename. The store is
    written as its owner, and files are hashed while they are copied. A running server lists the models without a
    restart.
  - Other models of the store are not changed. A model of the same name is replaced by the model of the bundle.
  - A tag that is a list of variants is imported as that list into a store of Ollama 0.40 or newer, which has the
    directory C(manifests-v2). An older store gets the variant, and M(kaido.ollama.model) records the digest of the
    list, so that a pin to either digest is satisfied.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api.store
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
    details: Verifies the complete bundle. A host without a store is treated as a host with an empty store.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  src:
    description: The bundle on this host, a directory or a tar archive, but not a symbolic link.
    type: path
    required: true
  checksum:
    description: The SHA-256 checksum of the C(SHA256SUMS) of the bundle, as returned by M(kaido.ollama.model_export).
      Without it, the bundle is compared only with its own checksums, which detects accidental but not deliberate
      changes.
    type: str
notes:
  - 'Values of RV(ignore:failure.code): V(bundle_unreadable), V(bundle_incomplete), V(bundle_tampered), V(disk_full),
    V(lock_held), V(digest_invalid), V(manifest_invalid), V(store_unreadable), V(store_unsafe), V(store_unwritable).'
seealso:
  - module: kaido.ollama.model_export
  - module: kaido.ollama.model
"""

EXAMPLES = r"""
- name: Import models on a host without a network
  kaido.ollama.model_import:
    src: /media/usb/models.tar
    checksum: sha256:0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f
  become: true

- name: Import a bundle without a known checksum
  kaido.ollama.model_import:
    src: /media/usb/models.tar
  become: true

- name: Import a bundle that is a directory into another store
  kaido.ollama.model_import:
    src: /media/usb/models
    models_dir: /srv/models
  become: true

- name: Verify a bundle without importing it
  kaido.ollama.model_import:
    src: /media/usb/models.tar
  become: true
  check_mode: true
"""

RETURN = r"""
models:
  description: The models of the bundle.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name as Ollama shows it.
      type: str
      returned: always
    digest:
      description: The digest of its tag in the bundle. After the import, a pin to it is satisfied.
      type: str
      returned: always
    digest_before:
      description: The digest before the import, or null.
      type: str
      returned: always
    digest_after:
      description: The digest after the import, as Ollama shows it.
      type: str
      returned: always
    size:
      description: Bytes of the config and all layers.
      type: int
      returned: always
  sample:
    - name: llama3.2:3b
      digest: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
      digest_before: null
      digest_after: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
      size: 2019393189
bytes_copied:
  description: Bytes of blobs that were missing in the store.
  returned: success
  type: int
  sample: 2019393189
checksum:
  description: The SHA-256 checksum of the C(SHA256SUMS) of the bundle.
  returned: success
  type: str
  sample: sha256:96f05d637fd8c39b511c784876176ff8efcd6c4b5027a3ea8a0e2b1fdec84524
releases:
  description: Release archives in the bundle, as paths below it. The role ollama installs them from
    C(file:///bundle/releases), or C(file:///bundle.tar/releases) for a tar archive.
  returned: success
  type: list
  elements: str
  sample: [releases/v0.35.1/ollama-linux-amd64.tar.zst]
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
    code: bundle_unreadable
"""

import os
import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse_digest
from ..module_utils._core.options import Module
from ..module_utils._models.bundle import Bundle, check
from ..module_utils._models.bundle_import import compare, import_, record_origins
from ..module_utils._server.argspec import STORE, finish
from ..module_utils._store.state import Memory, exclusive, memory_path
from ..module_utils._store.store import Store

# Seconds to wait for another run on the same store.
_WAIT = 600.0

SPEC: dict[str, t.Any] = {"src": {"type": "path", "required": True}, "checksum": {"type": "str"}, **STORE}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Verify the bundle, compare it with the store, and import what is missing."""
    checksum = parse_digest(params["checksum"], what="checksum") if params["checksum"] else None
    store = Store(params["models_dir"])
    if not store.readable and not (check_mode and not os.path.lexists(store.root)):
        raise OllamaError("store_unreadable", f"models_dir: cannot read {store.root}; install the server first")
    lists = store.has_tree("manifests-v2")
    with Bundle(params["src"]) as bundle:
        contents = check(bundle, checksum, lists=lists)
        path = memory_path(store, params["state_dir"])
        with exclusive(path, seconds=0 if check_mode else _WAIT) as alone:
            if not alone and not check_mode:
                raise OllamaError("lock_held", f"another run is still changing {store.root}")
            memory = Memory.of(store, params["state_dir"])
            missing = compare(contents, store, memory)
            changed = bool(missing.blobs or missing.models)
            if not check_mode:
                if changed:
                    import_(bundle, contents, missing, store, memory)
                record_origins(contents, memory)
                memory.save()
    rows = [
        {
            "name": str(name),
            "digest": model.digest,
            "digest_before": missing.before[name] or None,
            "digest_after": model.chosen.digest if name in missing.models else missing.before[name],
            "size": model.chosen.size,
        }
        for name, model in contents.models.items()
    ]
    return {
        "changed": changed,
        "models": rows,
        "bytes_copied": sum(missing.blobs.values()),
        "checksum": contents.checksum,
        "releases": contents.releases,
        "diff": {
            "before": {str(row["name"]): row["digest_before"] for row in rows},
            "after": {str(row["name"]): row["digest_after"] for row in rows},
        },
    }


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
