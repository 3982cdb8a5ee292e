#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather information about the models of an Ollama server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
short_description: Gather information about the models of an Ollama server
version_added: 1.0.0
description:
  - Lists the installed models with digest, size and kind, and for loaded models the time at which they will be unloaded
    and the share that is in GPU memory.
  - Only uses the API of the server, so it works without C(become) and for a server on another host.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
  - kaido.ollama._attributes.action_group
options:
  names:
    description: The models to list, by default all models. A name that is not installed is not in the result.
    type: list
    elements: str
    default: []
  fail_when_down:
    description: Fail if the server does not answer. Otherwise RV(can_talk_to_ollama) is V(false) and the list is
      empty.
    type: bool
    default: true
seealso:
  - module: kaido.ollama.model
"""

EXAMPLES = r"""
- name: Gather information about models
  kaido.ollama.model_info:
  register: ollama

- name: Show the models that are completely in GPU memory
  ansible.builtin.debug:
    msg: "{{ ollama.models | selectattr('vram_share', 'eq', 1.0) | map(attribute='name') }}"

- name: Gather information about one model
  kaido.ollama.model_info:
    names: [llama3.2:3b]

- name: Check whether a server answers
  kaido.ollama.model_info:
    fail_when_down: false
  register: ollama

- name: Gather information about the models behind a gateway with a private authority
  kaido.ollama.model_info:
    api_url: https://hecate.lan:11443
    ca_path: /etc/kaido-ollama/ca.crt
    fail_when_down: false
"""

RETURN = r"""
can_talk_to_ollama:
  description: Whether the server answered.
  returned: always
  type: bool
  sample: true
version:
  description: The version of the server, or null.
  returned: always
  type: str
  sample: 0.35.1
models:
  description: The models, newest first as the server lists them.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name as Ollama shows it.
      type: str
      returned: always
    digest:
      description: Digest of the manifest that the server runs.
      type: str
      returned: always
    size:
      description: Bytes on disk.
      type: int
      returned: always
    modified_at:
      description: The time at which the tag was last written.
      type: str
      returned: always
    format:
      description: For example V(gguf).
      type: str
      returned: always
    family:
      description: For example V(llama).
      type: str
      returned: always
    families:
      description: All families.
      type: list
      elements: str
      returned: always
    parameter_size:
      description: For example V(3.2B).
      type: str
      returned: always
    quantization:
      description: For example V(Q4_K_M).
      type: str
      returned: always
    capabilities:
      description: For example V(completion) and V(tools).
      type: list
      elements: str
      returned: always
    context_length:
      description: The context length that the model was trained for, or null.
      type: int
      returned: always
    remote_host:
      description: The host that a cloud model runs on, or null. Prompts to such a model leave the host.
      type: str
      returned: always
    loaded:
      description: Whether it is in memory.
      type: bool
      returned: always
    loaded_until:
      description: The time at which it will be unloaded, or null.
      type: str
      returned: always
    vram_share:
      description: The share of the loaded model that is in GPU memory, V(0.0) to V(1.0), or null if it is not loaded.
      type: float
      returned: always
  sample:
    - name: llama3.2:3b
      digest: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
      size: 2019393189
      modified_at: '2026-11-26T22:01:26.935059785Z'
      format: gguf
      family: llama
      families:
        - llama
      parameter_size: 3.2B
      quantization: Q4_K_M
      capabilities:
        - completion
        - tools
      context_length: 131072
      remote_host: null
      loaded: true
      loaded_until: '2026-11-26T22:12:05.467718362Z'
      vram_share: 1.0
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
    code: server_unreachable
"""

import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse
from ..module_utils._core.options import Module
from ..module_utils._models.installed import list_models
from ..module_utils._server.api import client
from ..module_utils._server.argspec import API, finish

SPEC: dict[str, t.Any] = {
    "names": {"type": "list", "elements": "str", "default": []},
    "fail_when_down": {"type": "bool", "default": True},
    **API,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Return the installed models with their place in memory."""
    keys = {parse(name, allow_cloud=True, what="names").key for name in params["names"]}
    server = client(params)
    try:
        version = server.version()
    except OllamaError as exc:
        if params["fail_when_down"]:
            raise OllamaError(
                exc.code, exc.message, **dict(exc.details, result={"can_talk_to_ollama": False})
            ) from None
        return {"changed": False, "can_talk_to_ollama": False, "version": None, "models": []}
    running = {row["name"]: row for row in server.running()}
    rows = [_row(row, running.get(row["name"])) for key, row in list_models(server).items() if not keys or key in keys]
    return {"changed": False, "can_talk_to_ollama": True, "version": version, "models": rows}


def _row(row: t.Mapping[str, t.Any], loaded: t.Mapping[str, t.Any] | None) -> dict[str, t.Any]:
    details = row.get("details") or {}
    return {
        "name": row["name"],
        "digest": f"sha256:{row.get('digest', '')}",
        "size": row.get("size", 0),
        "modified_at": row.get("modified_at"),
        "format": details.get("format", ""),
        "family": details.get("family", ""),
        "families": details.get("families") or [],
        "parameter_size": details.get("parameter_size", ""),
        "quantization": details.get("quantization_level", ""),
        "capabilities": row.get("capabilities") or [],
        "context_length": details.get("context_length"),
        "remote_host": row.get("remote_host") or None,
        "loaded": bool(loaded),
        "loaded_until": loaded.get("expires_at") if loaded else None,
        "vram_share": round(loaded.get("size_vram", 0) / (loaded.get("size") or 1), 3) if loaded else None,
    }


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
