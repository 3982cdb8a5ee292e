#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a custom model on an Ollama server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_build
short_description: Build a custom model on an Ollama server
version_added: 1.0.0
description:
  - Creates a model from an installed model or from files, with template, system prompt, parameters and more, like
    C(ollama create) with a Modelfile.
  - The module is idempotent on all versions of the server. A second run with the same recipe sends no file and builds
    nothing.
  - Servers 0.30 to 0.33 rewrite the weights that they import, and newer servers may convert them when they load the
    model for the first time, so that an installed model does not show its origin. The module therefore records the
    digest of the recipe, and the digest of the resulting manifest, in O(state_dir) outside the model store.
  - The digest of the recipe covers the digests of all files, the digest of the manifest of O(from), and all texts,
    parameters and messages. A new version of the base model therefore leads to a new build.
  - A model that was changed manually is detected by its manifest, and is built again.
  - A model without a record is compared with the description that the server returns. If the description matches the
    recipe, the model is treated as built. Otherwise it is built again, which is a change only if the result differs.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama.api.store
  - kaido.ollama._attributes
  - kaido.ollama._attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - If O(from) is not installed yet, the prediction assumes that it will be installed.
      - A model without a record that does not match the description of the server is predicted to change.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: The model to build.
    type: str
    required: true
  state:
    description: Whether the model exists. V(absent) needs no other option than O(name).
    type: str
    choices: [present, absent]
    default: present
  from:
    description:
      - The installed model to start from, or the absolute path of a GGUF file.
      - The module fails if it is not installed, because the server would pull it without verification.
    type: str
  files:
    description:
      - Paths of the files to start from, instead of O(from), for example a GGUF file and its projector, or all files of
        a safetensors model.
      - They must be on the host on which the module runs. They are hashed again only after they changed, and sent
        only if the server does not have them.
    type: list
    elements: path
    default: []
  adapters:
    description: Paths of LoRA adapters.
    type: list
    elements: path
    default: []
  template:
    description:
      - The prompt template in the syntax of Go. By default the template of O(from), or one that the server selects.
      - Mark the value as C(!unsafe), or read it from a file, because Ansible would evaluate its braces.
    type: str
  system:
    description: The system prompt, by default that of O(from).
    type: str
  parameters:
    description:
      - Parameters such as C(num_ctx) or C(temperature), numbers or booleans; C(stop) takes a list of strings.
      - They override those of O(from).
    type: dict
  messages:
    description: Messages at the beginning of each conversation, as mappings with C(role) and C(content), by default
      those of O(from).
    type: list
    elements: dict
    default: []
  license:
    description: The texts of the licenses, by default those of O(from).
    type: list
    elements: str
    default: []
  quantize:
    description:
      - How to quantize the weights, for example V(q4_K_M).
      - From server 0.34 on only for safetensors, as V(nvfp4), V(mxfp8), V(mxfp4), V(int4) or V(int8).
    type: str
  renderer:
    description: The built-in renderer of the server for prompts of this model.
    type: str
  parser:
    description: The built-in parser of the server for answers of this model.
    type: str
  timeout:
    description: Seconds without output of the server after which the build fails. The time to read the files is added.
    type: float
    default: 600.0
  startup_timeout:
    description: Seconds to wait for a server that does not answer yet.
    type: float
    default: 30.0
notes:
  - With O(ignore:exclusive) of M(kaido.ollama.model), list the built models in its O(ignore:keep).
  - 'Failures have a stable RV(ignore:failure.code). About input: V(name_invalid), V(model_in_cloud), V(value_invalid),
    V(url_invalid), V(file_unreadable), V(model_missing) for a base that is not installed, V(quantize_unsupported).
    About the build: V(build_failed) with the message of the server, V(digest_mismatch) if a file changed while it was
    sent, V(model_damaged) if blobs of the base are damaged. About the host: V(server_unreachable), V(disk_full),
    V(lock_held), V(store_unreadable), V(store_unwritable), V(connection_lost), V(connection_stalled), V(tls_failed),
    V(redirect_refused), V(response_invalid), V(server_error).'
seealso:
  - module: kaido.ollama.model
"""

EXAMPLES = r"""
- name: Build a model with a system prompt
  kaido.ollama.model_build:
    name: helper:1
    from: llama3.2:3b
    system: You are the helper of the operations team. Answer in one paragraph.
    parameters:
      temperature: 0.2
      num_ctx: 16384
      stop: ["<|end|>"]

- name: Build a model from a GGUF file
  kaido.ollama.model_build:
    name: house/writer:q4
    from: /srv/models/writer-q4_k_m.gguf
    template: !unsafe "{{ if .System }}<|system|>{{ .System }}{{ end }}{{ .Prompt }}"

- name: Build a model with a template from a file on the controller
  kaido.ollama.model_build:
    name: house/chat:1
    from: llama3.2:3b
    template: "{{ lookup('ansible.builtin.file', 'chat.tmpl') }}"

- name: Build a model with a LoRA adapter
  kaido.ollama.model_build:
    name: house/support:1
    from: llama3.2:3b
    adapters: [/srv/models/support-lora.gguf]

- name: Remove a custom model
  kaido.ollama.model_build:
    name: house/old:1
    state: absent
"""

RETURN = r"""
name:
  description: The name as Ollama shows it.
  returned: success
  type: str
  sample: helper:1
recipe:
  description: The digest of the recipe.
  returned: success, with state present
  type: str
  sample: sha256:589bfb3991943dc28d7a2ceb2aba288808e8f2da4f8ab34c05de32290d1f45f8
digest_before:
  description: The digest of the manifest at the start, or null.
  returned: success
  type: str
  sample: null
digest_after:
  description: The digest at the end. Null if there is none, or if check mode cannot predict it.
  returned: success
  type: str
  sample: sha256:f7bebb19d331efee7817f3f04fb00d41aa5434cb1c5874748067b91e43db144f
actions:
  description: The actions that were performed, or in check mode would be performed.
  returned: success
  type: list
  elements: str
  sample: [built]
bytes_uploaded:
  description: Bytes of files sent to the server.
  returned: success, with state present
  type: int
  sample: 0
server_version:
  description: The version of the server, or null in check mode without a server.
  returned: success
  type: str
  sample: 0.35.1
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

import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse
from ..module_utils._core.options import Module
from ..module_utils._models.custom import Builder
from ..module_utils._models.recipe import parse_recipe
from ..module_utils._server.api import Client, client
from ..module_utils._server.argspec import API, STORE, finish
from ..module_utils._store.state import Memory, exclusive, memory_path
from ..module_utils._store.store import Store

SPEC: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "from": {"type": "str"},
    "files": {"type": "list", "elements": "path", "default": []},
    "adapters": {"type": "list", "elements": "path", "default": []},
    "template": {"type": "str"},
    "system": {"type": "str"},
    "parameters": {"type": "dict"},
    "messages": {"type": "list", "elements": "dict", "default": []},
    "license": {"type": "list", "elements": "str", "default": []},
    "quantize": {"type": "str"},
    "renderer": {"type": "str"},
    "parser": {"type": "str"},
    "timeout": {"type": "float", "default": 600.0},
    "startup_timeout": {"type": "float", "default": 30.0},
    **API,
    **STORE,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Check the input, then build the model unless it is as declared."""
    for option, least in (("timeout", 1), ("startup_timeout", 0)):
        if params[option] < least:
            raise OllamaError("value_invalid", f"{option}: invalid value {params[option]}; expected {least} or more")
    if check_mode:
        return _build(params, check_mode=True)
    # Two builds at once on one host would overwrite each other's records.
    path = memory_path(Store(params["models_dir"]), params["state_dir"])
    with exclusive(path, seconds=params["timeout"]) as alone:
        if not alone:
            raise OllamaError("lock_held", f"another run is still working on {params['models_dir']}")
        return _build(params, check_mode=False)


def _build(params: t.Mapping[str, t.Any], *, check_mode: bool) -> dict[str, t.Any]:
    memory = Memory.of(Store(params["models_dir"]), params["state_dir"])
    name = parse(params["name"])
    recipe = parse_recipe(name, params) if params["state"] == "present" else None
    server: Client | None = client(params)
    version: str | None = None
    try:
        version = client(params).wait(0 if check_mode else params["startup_timeout"])
    except OllamaError:
        if not check_mode:
            raise
        server = None
    store = Store(params["models_dir"], generation=2)
    builder = Builder(server, version, store if store.readable else None, memory, timeout=params["timeout"])
    result = builder.build(recipe, check_mode=check_mode) if recipe else builder.remove(name, check_mode=check_mode)
    return dict(result, server_version=version)


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
