#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load models of an Ollama server into memory, or unload them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_loaded
short_description: Load models of an Ollama server into memory, or unload them
version_added: 1.0.0
description:
  - Loads models, so that the first request does not wait for this, and sets how long they stay loaded, or unloads
    models.
  - Works for models that generate text and for embedding models.
  - Only uses the API of the server, so it works without C(become) and for a server on another host.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama._attributes
  - kaido.ollama._attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Without a server, or for a model that is not installed, the prediction assumes that they will be available.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  models:
    description: The models.
    type: list
    elements: str
  name:
    description: A single model. Mutually exclusive with O(models).
    type: str
  state:
    description:
      - V(loaded) loads the models and keeps them for O(keep_alive).
      - V(unloaded) unloads the models. A request in progress is completed first.
    type: str
    choices: [loaded, unloaded]
    default: loaded
  keep_alive:
    description:
      - The time that the models stay loaded after their last use, V(forever), in seconds, or as a duration such as
        V(1h30m).
      - A later request can contain another C(keep_alive), which replaces this value until the next run.
      - The server only reports when it will unload a model. A timer that is restarted is therefore not a change. An
        earlier end of the timer and the transition from or to V(forever) are changes.
    type: str
    default: forever
  timeout:
    description: Timeout of loading or unloading one model in seconds.
    type: float
    default: 300.0
  startup_timeout:
    description: Seconds to wait for a server that does not answer yet.
    type: float
    default: 30.0
notes:
  - Names that share a manifest, and models that were built on the same weights, are loaded only once. The server lists
    them under the name that was loaded first.
  - 'Failures have a stable RV(ignore:failure.code): V(name_invalid), V(model_in_cloud), V(value_invalid),
    V(url_invalid), V(server_unreachable), V(model_missing) for a model that is not installed, V(server_busy) if the
    queue of the server is full, V(load_failed) with the message of the server if it cannot load a model,
    V(model_evicted) if it unloaded a model to load the next one, V(model_still_loaded), V(tls_failed),
    V(redirect_refused), V(connection_stalled), V(connection_lost), V(response_invalid).'
seealso:
  - module: kaido.ollama.model
  - module: kaido.ollama.model_probe
"""

EXAMPLES = r"""
- name: Load the default models
  kaido.ollama.model_loaded:
    models: [llama3.2:3b, nomic-embed-text]

- name: Load a model for working hours
  kaido.ollama.model_loaded:
    name: llama3.2:3b
    keep_alive: 10h

- name: Unload a large model
  kaido.ollama.model_loaded:
    name: qwen2.5-coder:32b
    state: unloaded

- name: Load a model on a slow disk after the server was restarted
  kaido.ollama.model_loaded:
    name: llama3.2:3b
    startup_timeout: 120
    timeout: 1800
"""

RETURN = r"""
models:
  description: One element for each model, in the order of the declaration.
  returned: success, and failure after something was changed
  type: list
  elements: dict
  contains:
    name:
      description: The name as Ollama shows it.
      returned: always
      type: str
    loaded:
      description: Whether it is in memory.
      returned: always
      type: bool
    forever:
      description: Whether it stays there without a time limit.
      returned: always
      type: bool
    expires_at:
      description: The time at which it will be unloaded, or null.
      returned: always
      type: str
    size:
      description: Bytes of memory that it uses.
      returned: always
      type: int
    size_vram:
      description: Bytes of these that are in GPU memory.
      returned: always
      type: int
    vram_share:
      description: The share of it that is in GPU memory, or null.
      returned: always
      type: float
    context_length:
      description: The context length in tokens, or null.
      returned: always
      type: int
    changed:
      description: Whether the state has changed.
      returned: always
      type: bool
  sample:
    - name: llama3.2:3b
      loaded: true
      forever: true
      expires_at: '2319-03-08T21:54:28.837804794Z'
      size: 3187671040
      size_vram: 3187671040
      vram_share: 1.0
      context_length: 4096
      changed: true
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
from ..module_utils._models.duration import parse_keep_alive
from ..module_utils._models.loaded import LoadedModels, keep_loaded
from ..module_utils._server.api import client
from ..module_utils._server.argspec import API, finish

SPEC: dict[str, t.Any] = {
    "models": {"type": "list", "elements": "str"},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["loaded", "unloaded"], "default": "loaded"},
    "keep_alive": {"type": "str", "default": "forever"},
    "timeout": {"type": "float", "default": 300.0},
    "startup_timeout": {"type": "float", "default": 30.0},
    **API,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Check the input, then load or unload the models."""
    for option, least in (("timeout", 1), ("startup_timeout", 0)):
        if params[option] < least:
            raise OllamaError("value_invalid", f"{option}: invalid value {params[option]}; expected {least} or more")
    what = "models" if params["name"] is None else "name"
    names = [parse(name, what=what) for name in (params["models"] if params["name"] is None else [params["name"]])]
    # A model that is named twice counts once.
    names = list({name.key: name for name in names}.values())
    keep = None if params["state"] == "unloaded" else parse_keep_alive(params["keep_alive"])
    if keep == 0:
        raise OllamaError(
            "value_invalid", "keep_alive: invalid value 0; expected a duration above 0, or state: unloaded"
        )
    server = client(params)
    runs: LoadedModels | None = None
    try:
        server.wait(0 if check_mode else params["startup_timeout"])
        runs = LoadedModels(server, timeout=params["timeout"])
    except OllamaError:
        if not check_mode:
            raise
    return keep_loaded(runs, names, keep, check_mode=check_mode)


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=SPEC,
        supports_check_mode=True,
        mutually_exclusive=[("models", "name")],
        required_one_of=[("models", "name")],
    )
    finish(module, run)


if __name__ == "__main__":
    main()
