#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_lock
short_description: Write down which manifest each tag of the declared models stands for
version_added: 0.1.0
description:
  - Asks the registries for the manifests of models, about two kilobytes for each, pulls nothing, and writes a lock
    file with digest, size and date for each tag. With it, all hosts get the same models until it is written anew.
  - It runs on the controller, where the inventory lies, and takes no connection to any host.
  - The file holds the digest of the manifest that servers before 0.40 are given for the tag. For some tags newer
    servers are given a list of variants instead; they choose from it that same manifest, and are held to its digest.
    If a registry should offer them another one, there is a warning.
  - A tag that still stands for the same manifest keeps its date, and a file in which nothing moved is not written.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama.api.registry
attributes:
  check_mode:
    support: full
    details: Asks the registries as ever.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  models:
    description:
      - The models, as in M(kaido.ollama.model), those of all hosts together; one that several hosts declare counts
        once.
      - What is declared V(absent) is left out. A C(digest) of a declaration has to be on offer.
    type: list
    elements: raw
    required: true
  path:
    description: The lock file. Lines of models that are no longer declared go.
    type: path
    required: true
  mirrors:
    description: Base URLs of registries to ask where the public one cannot be reached, with a warning; see
      O(mirrors_trusted).
    type: list
    elements: str
    default: []
  mirrors_trusted:
    description: Lock the digest that a mirror offers where a model has no pin and the public registry cannot be asked.
    type: bool
    default: false
  insecure:
    description: Speak plain HTTP to the registry in a model's name.
    type: bool
    default: false
notes:
  - 'Failures have a stable RV(ignore:failure.code): V(invalid_lock) where the file was damaged, V(lock_unwritable),
    V(invalid_model), V(invalid_name), V(invalid_digest), V(invalid_mirror), V(tag_missing), V(tag_unsuitable),
    V(digest_not_offered), V(mirror_unverified), V(registry_unreachable), V(registry_refused), V(registry_unsuitable),
    V(bad_manifest), V(invalid_option), V(bad_proxy), V(tls), V(internal_error). The file is as it was then.'
seealso:
  - module: kaido.ollama.model
  - plugin: kaido.ollama.models_lock
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: See which tags have moved, with --check --diff, or lock them
  kaido.ollama.model_lock:
    models: "{{ ollama_models }}"
    path: "{{ inventory_dir }}/models.lock.yml"
"""

RETURN = r"""
path:
  description: The lock file.
  returned: success
  type: str
models:
  description: Digest, size and date by model name.
  returned: success
  type: dict
moves:
  description: What differs from the file before as short sentences.
  returned: success
  type: list
  elements: str
failure:
  description: What went wrong, for programs.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code see the notes.
      returned: always
      type: str
    message:
      description: The same sentence as in RV(ignore:msg).
      returned: always
      type: str
"""
