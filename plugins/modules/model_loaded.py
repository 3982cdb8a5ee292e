#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep models of an Ollama server in memory, or unload them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_loaded
short_description: Keep models of an Ollama server in memory, or unload them
version_added: 0.1.0
description:
  - Loads models so that the first question does not wait for that, and says how long they stay; or unloads them.
  - Works for models that generate and for models that only embed.
  - Talks to the server only, so it works without C(become) and against a server on another host.
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
      - Without a server, or for a model that is not installed yet, it forecasts what would happen once these are there.
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
    description: The one model, instead of O(models).
    type: str
  state:
    description:
      - V(loaded) wants the models in memory for as long as O(keep_alive) says.
      - V(unloaded) wants them not in memory. A request that a model is working on ends first.
    type: str
    choices: [loaded, unloaded]
    default: loaded
  keep_alive:
    description:
      - How long the models stay after their last use, V(forever), as seconds, or as a duration such as V(1h30m).
      - A later request may bring a C(keep_alive) of its own, which then counts. This module does not hold clients to
        anything, it only finds and mends that at the next run.
      - The server tells only when it will unload a model. So a timer that is merely set anew is no change; one that
        ends earlier than before is, and so is the step from or to V(forever).
    type: str
    default: forever
  timeout:
    description: Seconds that loading or unloading one model may take.
    type: float
    default: 300.0
  startup_timeout:
    description: Seconds to wait for a server that does not answer yet.
    type: float
    default: 30.0
notes:
  - Names that share a manifest share their place in memory, and so do models that were built on the same weights. The
    server lists such a place under the name that was loaded first.
  - 'Failures have a stable RV(ignore:failure.code): V(invalid_name), V(cloud_model), V(invalid_option), V(invalid_url),
    V(unreachable), V(not_found) for a model that is not installed, V(server_busy) where the server''s queue is full,
    V(load_failed) with the server''s words where it cannot load a model, V(evicted) where it unloaded one to make room
    for the next, V(still_loaded), V(tls), V(redirect_refused),
    V(bad_proxy), V(stalled), V(connection_lost), V(bad_answer).'
seealso:
  - module: kaido.ollama.model
  - module: kaido.ollama.model_probe
"""

EXAMPLES = r"""
- name: Have the default models in memory
  kaido.ollama.model_loaded:
    models: [llama3.2:3b, nomic-embed-text]

- name: Make room
  kaido.ollama.model_loaded:
    name: qwen2.5-coder:32b
    state: unloaded
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
      description: Whether it stays there for good.
      returned: always
      type: bool
    expires_at:
      description: When it will be unloaded or null.
      returned: always
      type: str
    size:
      description: Bytes of memory that it takes.
      returned: always
      type: int
    size_vram:
      description: Bytes of these that are in GPU memory.
      returned: always
      type: int
    vram_share:
      description: Which part of it is in GPU memory or null.
      returned: always
      type: float
    context_length:
      description: Tokens that it was given room for or null.
      returned: always
      type: int
    changed:
      description: Whether that is another state than before.
      returned: always
      type: bool
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

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse
from ..module_utils._models.loaded import LoadedModels, keep_loaded, parse_keep_alive
from ..module_utils._server.argspec import API, client, finish

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
    """Check the input, then look, act and look again."""
    for option, least in (("timeout", 1), ("startup_timeout", 0)):
        if params[option] < least:
            raise OllamaError(
                "invalid_option", f"{option}: {params[option]} is not allowed; allowed is {least} or more"
            )
    what = "models" if params["name"] is None else "name"
    names = [parse(name, what=what) for name in (params["models"] if params["name"] is None else [params["name"]])]
    # Twice the same model is once the same model.
    names = list({name.key: name for name in names}.values())
    keep = None if params["state"] == "unloaded" else parse_keep_alive(params["keep_alive"])
    if keep == 0:
        raise OllamaError("invalid_option", "keep_alive: 0 is not allowed with state loaded; use state: unloaded")
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
    module = AnsibleModule(
        argument_spec=SPEC,
        supports_check_mode=True,
        mutually_exclusive=[("models", "name")],
        required_one_of=[("models", "name")],
    )
    finish(module, run)


if __name__ == "__main__":
    main()
