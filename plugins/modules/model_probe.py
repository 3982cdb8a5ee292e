#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that a model runs: load it, ask it something, and measure that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_probe
short_description: Prove that a model of an Ollama server really runs, and how fast
version_added: 0.1.0
description:
  - Loads a model, asks it something, and reports how long that took and how much of the model is in GPU memory.
  - A list of models proves nothing. Ollama lists models that it cannot load, and quietly computes on the CPU where it
    finds no usable GPU.
  - An embedding model is asked for an embedding instead.
  - Afterwards the model is in memory as it was before, see O(keep_alive). Loading it may make the server unload other
    models, as any question may.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama._attributes
  - kaido.ollama._attributes.action_group
attributes:
  check_mode:
    support: full
    details: Checks the options, asks nothing, and says so in RV(probed).
  diff_mode:
    support: N/A
    details: This module never changes anything that lasts.
  idempotent:
    support: full
    details: This module never changes anything that lasts.
options:
  name:
    description: The model.
    type: str
    required: true
  prompt:
    description: What to ask, or for an embedding model what to embed.
    type: str
    default: Name three colours.
  max_tokens:
    description: How many tokens the answer has at most. More make the measured rate steadier.
    type: int
    default: 32
  seed:
    description: The seed of the answer. With it and a temperature of 0, which is always used, the answer is the same
      each time on the same hardware.
    type: int
    default: 42
  require_gpu:
    description:
      - Fail unless the whole model is in GPU memory.
      - With O(unit), the server's journal and C(nvidia-smi) have to agree with that, and the failure says what is the
        matter with the host's GPUs.
    type: bool
    default: false
  gpu_settings:
    description: The server's settings for RV(gpu_memory), as C(gpu.settings) of M(kaido.ollama.preflight).
    type: dict
    default: {}
  prefer_gpu:
    description: Warn where O(require_gpu) would fail. Needs O(unit).
    type: bool
    default: false
  min_tokens_per_second:
    description: Fail if the answer comes slower than that; for an embedding model, if it reads the prompt slower than
      that. V(0) demands nothing.
    type: float
    default: 0.0
  keep_alive:
    description:
      - How long the model stays in memory afterwards, V(forever), as seconds, or as a duration such as V(1h30m); V(0)
        unloads it.
      - By default a model that was in memory stays there as long as it would have, and one that was not is unloaded.
    type: str
  timeout:
    description: Seconds that loading the model, and then answering, may take.
    type: float
    default: 300.0
  startup_timeout:
    description: Seconds to wait for a server that does not answer yet.
    type: float
    default: 30.0
  unit:
    description:
      - The systemd unit of the server, on the host that the module runs on. Its journal tells what the server
        computes on, see RV(compute).
    type: str
notes:
  - 'Failures have a stable RV(ignore:failure.code): V(invalid_name), V(cloud_model), V(invalid_option), V(invalid_url),
    V(unreachable), V(not_found) for a model that is not installed, V(server_busy) where the server''s queue is full,
    V(load_failed) with the server''s words where it cannot load the model, V(server_error) where the answer is an
    error, V(runner_failed) where it breaks off (with O(unit), followed by the last lines of the journal),
    V(empty_answer), V(on_cpu), V(partly_on_cpu) and V(gpu_disagrees) about O(require_gpu), V(too_slow) about
    O(min_tokens_per_second), V(still_loaded), V(tls), V(redirect_refused),
    V(bad_proxy), V(stalled), V(connection_lost), V(bad_answer).'
  - Once there was an answer, a failure has the same return values as a success.
seealso:
  - module: kaido.ollama.model_loaded
  - module: kaido.ollama.model_info
"""

EXAMPLES = r"""
- name: Prove that the default model runs on the GPU, fast enough to talk to
  kaido.ollama.model_probe:
    name: llama3.2:3b
    require_gpu: true
    min_tokens_per_second: 20

- name: Warm it up by the way
  kaido.ollama.model_probe:
    name: llama3.2:3b
    keep_alive: forever
"""

RETURN = r"""
probed:
  description: Whether the model was asked; V(false) only in check mode.
  returned: success
  type: bool
name:
  description: The name as Ollama shows it.
  returned: always
  type: str
server_version:
  description: The version of the server.
  returned: when probed
  type: str
was_loaded:
  description: Whether the model was in memory before.
  returned: when probed
  type: bool
load_seconds:
  description: How long loading took.
  returned: when probed
  type: float
prompt_tokens_per_second:
  description: How fast the prompt was read, or null where the server did not say, as for a prompt that it still knew.
  returned: when probed
  type: float
answer_tokens_per_second:
  description: How fast the answer was written, or null for an embedding model.
  returned: when probed
  type: float
response:
  description: The beginning of the answer or null for an embedding model.
  returned: when probed
  type: str
dimensions:
  description: Length of the embedding or null for other models.
  returned: when probed
  type: int
size:
  description: Bytes of memory that the model takes.
  returned: when probed
  type: int
size_vram:
  description: Bytes of these that are in GPU memory.
  returned: when probed
  type: int
vram_share:
  description: Which part of the model is in GPU memory, V(0.0) to V(1.0).
  returned: when probed
  type: float
context_length:
  description: Tokens that the model was given room for.
  returned: when probed
  type: int
compute:
  description:
    - The devices that the server found when it started, as its journal has them, with V(library), V(name), V(total)
      and more. A single C(cpu) means that it found no usable GPU.
    - Empty unless O(unit) is given.
  returned: when probed
  type: list
  elements: dict
gpu_memory:
  description: The estimated GPU memory of the model beside the memory that the server and NVIDIA's driver report.
  returned: with O(unit), if the model is in GPU memory
  type: dict
  contains:
    estimated: {description: 'The sum of weights, KV cache and overhead in bytes.', type: int, returned: always}
    weights: {description: 'The size of the weights in bytes.', type: int, returned: always}
    kv_cache: {description: 'The estimated size of the KV cache in bytes.', type: int, returned: always}
    overhead: {description: 'The estimated size of buffers in bytes.', type: int, returned: always}
    reported:
      description: The bytes that the server reports. They can be fewer than those in use, see ollama#17251.
      type: int
      returned: always
    used:
      description: The bytes that the driver reports for the processes of the server. Null if it does not report them,
        and unless all of the model is in GPU memory and the server has loaded no other model.
      type: int
      returned: always
    estimate_error: {description: 'The relative error of the estimate, or null.', type: float, returned: always}
gpu_problem:
  description:
    - Why the model is not wholly on a GPU, or what speaks against the server's word that it is; null where all agree.
    - Always null unless O(unit) is given.
  returned: when probed and answered
  type: str
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
from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import Name, parse
from ..module_utils._gpu import memory as gpu_memory
from ..module_utils._gpu import tree, verification
from ..module_utils._models.loaded import Demands, LoadedModels, judge, parse_keep_alive, probe
from ..module_utils._server.api import Client
from ..module_utils._server.argspec import API, client, finish
from ..module_utils._server.journal import last_lines, read_compute

SPEC: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "prompt": {"type": "str", "default": "Name three colours."},
    "max_tokens": {"type": "int", "default": 32, "no_log": False},
    "seed": {"type": "int", "default": 42},
    "require_gpu": {"type": "bool", "default": False},
    "prefer_gpu": {"type": "bool", "default": False},
    "min_tokens_per_second": {"type": "float", "default": 0.0, "no_log": False},
    "keep_alive": {"type": "str", "no_log": False},
    "timeout": {"type": "float", "default": 300.0},
    "startup_timeout": {"type": "float", "default": 30.0},
    "unit": {"type": "str"},
    "gpu_settings": {"type": "dict", "default": {}},
    **API,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Check the input, then ask and judge."""
    for option, least in (("timeout", 1), ("startup_timeout", 0), ("max_tokens", 1), ("min_tokens_per_second", 0)):
        if params[option] < least:
            raise OllamaError(
                "invalid_option", f"{option}: {params[option]} is not allowed; allowed is {least} or more"
            )
    if not params["prompt"].strip():
        raise OllamaError("invalid_option", "prompt: an empty text is not allowed; allowed is any other")
    name = parse(params["name"])
    keep = None if params["keep_alive"] is None else parse_keep_alive(params["keep_alive"])
    if check_mode:
        return {"changed": False, "probed": False, "name": str(name), "msg": f"check mode: {name} was not asked"}
    server = client(params)
    version = server.wait(params["startup_timeout"])
    runs = LoadedModels(server, timeout=params["timeout"])
    runs.require([name])
    unit = params["unit"]
    compute = read_compute(unit) if unit else []
    found = {"changed": False, "probed": True, "server_version": version, "compute": compute}
    process, evidence, alone = verification.Server(frozenset(), None), verification.Evidence(), False

    def witness() -> None:
        nonlocal process, evidence, alone
        if unit:
            process = verification.find_server(unit)
            evidence, alone = verification.evidence(process, tree.run_program), len(server.running()) == 1

    try:
        result = probe(
            runs, name, params["prompt"], tokens=params["max_tokens"], seed=params["seed"], keep=keep, witness=witness
        )
        problem = verification.explain(result, compute, evidence.listed, process, version) if unit else None
        result["gpu_problem"] = problem
        if unit and result["size_vram"]:
            used = evidence.memory if alone and result["size_vram"] == result["size"] else None
            result["gpu_memory"] = _memory(server, name, result, params["gpu_settings"], used)
        if problem and params["prefer_gpu"]:
            result["warnings"] = [f"{name}: {problem}"]
        judge(result, Demands(params["require_gpu"], params["min_tokens_per_second"]), problem)
    except OllamaError as exc:
        result = exc.details.get("result", {"probed": False, "name": str(name)})
        message = exc.message
        if exc.code == "runner_failed" and unit:
            message += f"; the last lines of its journal: {' | '.join(last_lines(unit)) or 'none'}"
        raise OllamaError(exc.code, message, **dict(exc.details, result=dict(found, **result))) from None
    return dict(found, **result)


def _memory(
    server: Client, name: Name, result: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], used: int | None
) -> dict[str, t.Any]:
    """Return the estimated GPU memory of a loaded model beside the reported one."""
    weights = next((row["size"] for row in server.tags() if row["name"] == str(name)), 0)
    shown = server.show(name) or {}
    found = shown.get("model_info")
    model = gpu_memory.architecture(found if isinstance(found, dict) else {})
    settings = gpu_memory.settings(environment)
    if result["context_length"]:
        settings = replace(settings, context_length=result["context_length"])
    return gpu_memory.compare(gpu_memory.estimate(weights, model, settings, 0), result["size_vram"], used)


def main() -> None:
    """Run the module."""
    finish(
        AnsibleModule(argument_spec=SPEC, supports_check_mode=True, required_if=[("prefer_gpu", True, ("unit",))]), run
    )


if __name__ == "__main__":
    main()
