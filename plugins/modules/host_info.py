#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather the state of an Ollama server, its model store, its disk and its GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Gather the state of an Ollama server, its model store, its disk and its GPUs
version_added: 1.0.0
description:
  - Gathers the state of one host for M(kaido.ollama.report). A server that does not answer and a model store that
    cannot be read are results, not failures.
  - Compares the sizes of blobs, not their contents. RV(models[].verified_at) is the time of the last comparison of the
    contents with their digests, which M(kaido.ollama.model) and M(kaido.ollama.model_verify) record.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama.api.store
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
  - kaido.ollama._attributes.action_group
options:
  models:
    description: The declared models, as in O(kaido.ollama.model#module:models). The result also contains declared
      models that are missing, and models that are not declared.
    type: list
    elements: raw
    default: []
  host:
    description: The listen address of the server, as in C(OLLAMA_HOST). If set, the server is contacted at this address
      instead of O(api_url).
    type: str
  unit:
    description: The systemd unit of the server.
    type: str
    default: ollama.service
notes:
  - 'Values of RV(ignore:failure.code): V(model_invalid), V(name_invalid), V(digest_invalid), V(model_duplicate),
    V(value_invalid), V(url_invalid), V(privileges_not_dropped).'
seealso:
  - module: kaido.ollama.report
  - module: kaido.ollama.model_info
  - module: kaido.ollama.model_verify
"""

EXAMPLES = r"""
- name: Gather the state of the server
  kaido.ollama.host_info:
    models: "{{ ollama_models }}"
  become: true
  register: host

- name: Show models that are missing or damaged
  ansible.builtin.debug:
    msg: "{{ host.models | selectattr('state', 'in', ['missing', 'damaged']) | map(attribute='name') }}"

- name: Gather the state of a server with another model store
  kaido.ollama.host_info:
    models_dir: /srv/models
    unit: ollama.service
  become: true

- name: Gather the state of a server on another address
  kaido.ollama.host_info:
    host: 192.0.2.10:11434
  become: true

- name: Gather the state of the server for the report
  kaido.ollama.host_info:
    models: [llama3.2:3b, "nomic-embed-text:v1.5"]
  become: true
  register: ollama_host_info

- name: Show the report
  kaido.ollama.report:
  run_once: true
"""

RETURN = r"""
observed_at:
  description: The time of the observation on this host, in seconds since the epoch.
  returned: success
  type: int
  sample: 1795730727
version:
  description: The version of the server that answered, or null.
  returned: success
  type: str
  sample: 0.35.1
state:
  description: V(running) if the server answered, V(not_running) if only its unit or program exists, otherwise
    V(not_installed).
  returned: success
  type: str
  sample: running
server_failure:
  description: The reason why the server did not answer, or null.
  returned: success
  type: str
  sample: null
listening:
  description: The TCP sockets of the server and of the services of this collection, with V(service) and V(address).
  returned: success
  type: list
  elements: dict
  sample: [{service: server, address: '127.0.0.1:11434'}]
compute:
  description: The devices that the server found when it started, as in RV(kaido.ollama.model#module:compute).
  returned: success
  type: list
  elements: dict
  sample:
    - library: CUDA
      name: CUDA0
      description: NVIDIA GeForce RTX 4090
      driver: '13.0'
      total: 23.5 GiB
gpus:
  description: The GPUs of this host with V(name) and V(vram) in bytes, which is null if unknown.
  returned: success
  type: list
  elements: dict
  sample: [{name: NVIDIA GeForce RTX 4090, vram: 25757220864}]
store:
  description: Path, disk space, leftovers and unfinished downloads of the model store, with V(failure) if it cannot be
    read.
  returned: success
  type: dict
  sample:
    path: /usr/share/ollama/.ollama/models
    failure: null
    bytes_total: 270553174016
    bytes_free: 77186502656
    leftovers: 0
    leftover_bytes: 0
    partials: 0
    partial_bytes: 0
models:
  description: The models that are declared, in the store or listed by the server.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name as Ollama shows it.
      type: str
      returned: always
    alias_of:
      description: The model of which this name is a declared alias, or null.
      type: str
      returned: always
    declared:
      description: Whether O(models) contains it.
      type: bool
      returned: always
    state:
      description: V(verified), V(not_checked), V(damaged) or V(missing).
      type: str
      returned: always
    verified_at:
      description: The time at which all its blobs had been hashed and were intact, in seconds since the epoch, or null.
      type: int
      returned: always
    digest:
      description: The digest of its manifest, or null.
      type: str
      returned: always
    size:
      description: Bytes of the config and all layers.
      type: int
      returned: always
    problems:
      description: The problems, one sentence each.
      type: list
      elements: str
      returned: always
    damaged_blobs:
      description: The number of damaged blobs.
      type: int
      returned: always
    loaded:
      description: Whether it is in memory.
      type: bool
      returned: always
    memory_bytes:
      description: Bytes of the loaded model in memory.
      type: int
      returned: always
    vram_bytes:
      description: Bytes of the loaded model in GPU memory.
      type: int
      returned: always
  sample:
    - name: llama3.2:3b
      alias_of: null
      declared: true
      state: verified
      verified_at: 1795730727
      digest: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
      size: 2019393189
      problems: []
      damaged_blobs: 0
      loaded: true
      memory_bytes: 3187671040
      vram_bytes: 3187671040
scheduled_verification:
  description: V(finished_at) and the V(damaged) models of the last scheduled verification, or null.
  returned: success
  type: dict
  sample: {finished_at: 1795700000, damaged: []}
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
    code: name_invalid
"""

import os
import time
import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.options import Module
from ..module_utils._core.server import UNIT
from ..module_utils._gpu import facts, tree
from ..module_utils._models.declaration import parse_models
from ..module_utils._models.inspection import ask, model_rows, scheduled_verification, store_facts
from ..module_utils._server.api import client
from ..module_utils._server.argspec import API, STORE, finish
from ..module_utils._server.journal import read_compute
from ..module_utils._server.settings import parse_host
from ..module_utils._service.units import listening
from ..module_utils._store.state import Memory
from ..module_utils._store.store import Store

_PROGRAMS = ("/usr/local/bin/ollama", "/usr/bin/ollama")

SPEC: dict[str, t.Any] = {
    "models": {"type": "list", "elements": "raw", "default": []},
    "host": {"type": "str"},
    "unit": {"type": "str", "default": UNIT},
    **API,
    **STORE,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Observe the host; nothing is changed."""
    declared = parse_models(params["models"], state="present", allow_cloud=True)
    served = ask(client({**params, "api_url": _url(params)}))
    store = Store(params["models_dir"])
    disk, entries = store_facts(store)
    memory = Memory.of(store, params["state_dir"])
    host = facts.gather(run=tree.run_program)
    return {
        "changed": False,
        "observed_at": int(time.time()),
        "version": served.version,
        "state": "running" if served.version else "not_running" if _installed(params["unit"]) else "not_installed",
        "server_failure": served.failure,
        "listening": listening(),
        "compute": read_compute(params["unit"]) if served.version else [],
        "gpus": [{"name": gpu.name or gpu.vendor, "vram": gpu.vram} for gpu in host.gpus],
        "store": disk,
        "models": model_rows(store, memory, declared, served, entries),
        "scheduled_verification": scheduled_verification(),
    }


def _url(params: t.Mapping[str, t.Any]) -> str:
    if not params["host"]:
        return str(params["api_url"])
    try:
        return parse_host(params["host"]).local.url()
    except ValueError as exc:
        raise OllamaError("value_invalid", f"host: {exc}") from None


def _installed(unit: str) -> bool:
    return any(map(os.path.lexists, (f"/etc/systemd/system/{unit}", *_PROGRAMS)))


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
