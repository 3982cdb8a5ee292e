#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_lock
short_description: Pin the tags of the declared models to manifest digests
version_added: 1.0.0
description:
  - Downloads the manifests of the models from their registries, about two kilobytes each, and writes a lock file with
    the digest, size and date of each tag. All hosts get the same models until the file is written again. No model is
    pulled.
  - Runs on the controller, where the inventory is, without a connection to any host.
  - The file contains the digest of the manifest that registries serve to servers before 0.40. For some tags, registries
    serve a list of variants to newer servers, which select the same manifest from it. If a registry serves another
    manifest to newer servers, the module warns.
  - An entry whose digest did not change keeps its date, and a file without changes is not written.
  - Names are compared case-insensitively, as in Ollama.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama.api.registry
attributes:
  check_mode:
    support: full
    details: Contacts the registries.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  models:
    description:
      - The models of all hosts, as in M(kaido.ollama.model). A model that is declared V(absent) is ignored. The
        C(digest) of a declaration must be offered by the registry.
      - Either O(models) or O(hosts) is required.
    type: list
    elements: raw
  hosts:
    description: The models by host, as O(models). Messages contain the host and the index of a declaration.
    type: dict
  only_new:
    description: Add entries for new models and keep the digests of all other models, even if their tags have moved.
      RV(held) contains these models.
    type: bool
    default: false
  path:
    description: The lock file. Entries of models that are no longer declared are removed.
    type: path
    required: true
  mirrors:
    description: Base URLs of registries to use, with a warning, if the public registry cannot be reached. See
      O(mirrors_trusted).
    type: list
    elements: str
    default: []
  mirrors_trusted:
    description: Lock the digest of a mirror if a model has no pin and the public registry cannot be reached.
    type: bool
    default: false
  insecure:
    description: Use plain HTTP for the registry in the name of a model.
    type: bool
    default: false
notes:
  - 'Failures have a stable RV(ignore:failure.code): V(lockfile_invalid) for a damaged file, V(lockfile_unwritable),
    V(model_invalid), V(name_invalid), V(digest_invalid), V(url_invalid), V(tag_missing), V(tag_refused),
    V(digest_not_offered), V(mirror_unverified), V(registry_unreachable), V(registry_refused), V(registry_unsuitable),
    V(manifest_invalid), V(value_invalid), V(tls_failed), V(internal_error). After a failure the file is unchanged.'
seealso:
  - module: kaido.ollama.model
  - plugin: kaido.ollama.models_lock
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Lock the models of all servers; with --check --diff show the tags that have moved
  kaido.ollama.model_lock:
    hosts: "{{ dict(groups.ollama_servers | zip(groups.ollama_servers | map('extract', hostvars, 'ollama_models'))) }}"
    path: "{{ inventory_dir }}/models.lock.yml"
  run_once: true

- name: Lock two models
  kaido.ollama.model_lock:
    models: [llama3.2:3b, nomic-embed-text]
    path: "{{ inventory_dir }}/models.lock.yml"
  run_once: true

- name: Add new models and keep the digests of all other models
  kaido.ollama.model_lock:
    models: "{{ ollama_models }}"
    only_new: true
    path: "{{ inventory_dir }}/models.lock.yml"
  run_once: true

- name: Lock models on a controller that reaches only a mirror
  kaido.ollama.model_lock:
    models: [llama3.2:3b]
    mirrors: [http://hecate.lan:11480]
    mirrors_trusted: true
    path: "{{ inventory_dir }}/models.lock.yml"
  run_once: true
"""

RETURN = r"""
path:
  description: The lock file.
  returned: success
  type: str
  sample: /home/admin/llm/models.lock.yml
models:
  description: Digest, size and date by model name.
  returned: success
  type: dict
  sample:
    llama3.2:3b:
      digest: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
      size: 2019393189
      date: '2026-11-26'
moves:
  description: The changes of the file, one sentence each.
  returned: success
  type: list
  elements: str
  sample: []
held:
  description: The models whose tags have moved but whose entries were kept, with the hosts that declare them, one
    sentence each.
  returned: success
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
    code: tag_missing
"""
