#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the inference of a model and measure its throughput."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_probe
short_description: Test the inference of a model and measure its throughput
version_added: 1.0.0
description:
  - Loads a model, sends a prompt, and returns the durations and the share of the model that is in GPU memory.
  - Ollama lists models that it cannot load, and computes on the CPU without an error if it finds no usable GPU. Only a
    test of inference detects both.
  - An embedding model embeds the prompt.
  - Afterwards the model is loaded or unloaded as before, see O(keep_alive). The server may unload other models to load
    it, as for any request.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama._attributes
  - kaido.ollama._attributes.action_group
attributes:
  check_mode:
    support: full
    details: Checks the options and tests no model, see RV(probed).
  diff_mode:
    support: N/A
    details: This module makes no permanent changes.
  idempotent:
    support: full
    details: This module makes no permanent changes.
options:
  name:
    description: The model. Mutually exclusive with O(models).
    type: str
  models:
    description:
      - Several models. The first one that generates text or embeddings is tested, see RV(name); an image model is
        tested only if there is no other model.
    type: list
    elements: str
  prompt:
    description: The prompt, or for an embedding model the text to embed.
    type: str
    default: Name three colours.
  max_tokens:
    description: The maximum number of tokens of the answer. A longer answer makes the measured rate more precise.
    type: int
    default: 32
  seed:
    description: The seed of the answer. With it and a temperature of 0, which is always used, the answer is always the
      same on the same hardware.
    type: int
    default: 42
  require_gpu:
    description:
      - Fail unless the model is completely in GPU memory.
      - With O(unit), the journal of the server and C(nvidia-smi) must confirm this, and the failure describes the
        problem with the GPUs of the host.
    type: bool
    default: false
  gpu_settings:
    description: The settings of the server for RV(gpu_memory), as C(gpu.settings) of M(kaido.ollama.preflight).
    type: dict
    default: {}
  prefer_gpu:
    description:
      - Warn if O(require_gpu) would fail, and if the model cannot be loaded or does not answer, because other programs
        may use the GPU. Requires O(unit).
    type: bool
    default: false
  min_tokens_per_second:
    description: Fail if the answer is generated more slowly; for an embedding model, if the prompt is read more slowly.
      V(0) means no limit.
    type: float
    default: 0.0
  keep_alive:
    description:
      - The time that the model stays in memory afterwards, V(forever), in seconds, or as a duration such as V(1h30m);
        V(0) unloads it.
      - By default a model that was in memory stays there for its remaining time, and a model that was not in memory is
        unloaded.
    type: str
  timeout:
    description:
      - Timeout of loading the model, and of the answer, in seconds or as a duration such as V(30m).
      - V(0) means a day, as the setting E(OLLAMA_LOAD_TIMEOUT) without a limit does.
    type: str
    default: 5m
  startup_timeout:
    description: Seconds to wait for a server that does not answer yet.
    type: float
    default: 30.0
  unit:
    description:
      - The systemd unit of the server, on the host on which the module runs. Its journal contains the devices that the
        server computes on, see RV(compute).
    type: str
notes:
  - 'Failures have a stable RV(ignore:failure.code): V(name_invalid), V(model_in_cloud), V(value_invalid),
    V(url_invalid), V(server_unreachable), V(model_missing) for a model that is not installed, V(server_busy) if the
    queue of the server is full, V(load_failed) with the message of the server if it cannot load the model,
    V(server_error) if the answer is an error, V(runner_failed) if the answer is incomplete (with O(unit), followed by
    the last lines of the journal), V(response_empty), V(model_on_cpu), V(model_partly_on_cpu) and
    V(gpu_use_unconfirmed) about O(require_gpu), V(model_too_slow) about O(min_tokens_per_second),
    V(model_still_loaded), V(tls_failed), V(redirect_refused), V(connection_stalled), V(connection_lost),
    V(response_invalid).'
  - After an answer, a failure has the same return values as a success.
seealso:
  - module: kaido.ollama.model_loaded
  - module: kaido.ollama.model_info
"""

EXAMPLES = r"""
- name: Test that a model answers
  kaido.ollama.model_probe:
    name: llama3.2:3b

- name: Test that the default model runs on the GPU with an acceptable throughput
  kaido.ollama.model_probe:
    name: llama3.2:3b
    require_gpu: true
    unit: ollama.service
    min_tokens_per_second: 20
  become: true

- name: Test a model and keep it loaded
  kaido.ollama.model_probe:
    name: llama3.2:3b
    keep_alive: forever

- name: Measure the throughput of a long answer
  kaido.ollama.model_probe:
    name: llama3.2:3b
    prompt: Write a story about a ship.
    max_tokens: 512
    timeout: 10m
  register: probe

- name: Show the result
  ansible.builtin.debug:
    var: probe.answer_tokens_per_second
"""

RETURN = r"""
probed:
  description: Whether the model was tested; V(false) in check mode, and with O(prefer_gpu) for a model that cannot run.
  returned: success
  type: bool
  sample: true
name:
  description: The name as Ollama shows it.
  returned: always
  type: str
  sample: llama3.2:3b
server_version:
  description: The version of the server.
  returned: when probed
  type: str
  sample: 0.35.1
was_loaded:
  description: Whether the model was in memory before.
  returned: when probed
  type: bool
  sample: false
load_seconds:
  description: The time to load the model in seconds.
  returned: when probed
  type: float
  sample: 1.214
prompt_tokens_per_second:
  description: The rate at which the prompt was read, or null if the server does not report it, for example for a cached
    prompt.
  returned: when probed
  type: float
  sample: 2904.2
answer_tokens_per_second:
  description: The rate at which the answer was generated, or null for an embedding model.
  returned: when probed
  type: float
  sample: 148.1
response:
  description: The beginning of the answer, or null for an embedding model.
  returned: when probed
  type: str
  sample: Red, green and blue.
image:
  description: Whether the answer is an image.
  returned: when probed
  type: bool
  sample: false
dimensions:
  description: Length of the embedding, or null for other models.
  returned: when probed
  type: int
  sample: null
size:
  description: Bytes of memory that the model uses.
  returned: when probed
  type: int
  sample: 3187671040
size_vram:
  description: Bytes of these that are in GPU memory.
  returned: when probed
  type: int
  sample: 3187671040
vram_share:
  description: The share of the model that is in GPU memory, V(0.0) to V(1.0).
  returned: when probed
  type: float
  sample: 1.0
context_length:
  description: The context length in tokens.
  returned: when probed
  type: int
  sample: 4096
compute:
  description:
    - The devices that the server found when it started, as listed in its journal, with V(library), V(name), V(total)
      and more. A single C(cpu) means that it found no usable GPU.
    - Empty unless O(unit) is given.
  returned: when probed
  type: list
  elements: dict
  sample:
    - library: CUDA
      name: CUDA0
      description: NVIDIA GeForce RTX 4090
      driver: '13.0'
      total: 23.5 GiB
gpu_memory:
  description: The estimated GPU memory of the model, and the memory that the server and the NVIDIA driver report.
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
  sample:
    estimated: 3100000000
    weights: 2019377376
    kv_cache: 469762048
    overhead: 610860576
    reported: 3187671040
    used: 3250585600
    estimate_error: -0.046
gpu_problem:
  description:
    - The reason why the model is not completely on a GPU, or the contradiction to the report of the server that it is;
      null if all sources agree.
    - Always null unless O(unit) is given.
  returned: when probed and answered
  type: str
  sample: null
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
    code: model_on_cpu
"""

import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse
from ..module_utils._core.options import Module
from ..module_utils._models.declaration import Demands
from ..module_utils._models.duration import parse_keep_alive, parse_timeout
from ..module_utils._models.loaded import LoadedModels
from ..module_utils._models.probe import CANNOT_RUN, Probe, Question
from ..module_utils._server.api import client
from ..module_utils._server.argspec import API, finish

SPEC: dict[str, t.Any] = {
    "name": {"type": "str"},
    "models": {"type": "list", "elements": "str"},
    "prompt": {"type": "str", "default": "Name three colours."},
    "max_tokens": {"type": "int", "default": 32, "no_log": False},
    "seed": {"type": "int", "default": 42},
    "require_gpu": {"type": "bool", "default": False},
    "prefer_gpu": {"type": "bool", "default": False},
    "min_tokens_per_second": {"type": "float", "default": 0.0, "no_log": False},
    "keep_alive": {"type": "str", "no_log": False},
    "timeout": {"type": "str", "default": "5m"},
    "startup_timeout": {"type": "float", "default": 30.0},
    "unit": {"type": "str"},
    "gpu_settings": {"type": "dict", "default": {}},
    **API,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Check the input, then test one model."""
    for option, least in (("startup_timeout", 0), ("max_tokens", 1), ("min_tokens_per_second", 0)):
        if params[option] < least:
            raise OllamaError("value_invalid", f"{option}: invalid value {params[option]}; expected {least} or more")
    if not params["prompt"].strip():
        raise OllamaError("value_invalid", "prompt: invalid value ''; expected a string")
    if params["models"] is not None and not params["models"]:
        raise OllamaError("value_invalid", "models: invalid value []; expected at least one model")
    timeout = parse_timeout(params["timeout"])
    keep = None if params["keep_alive"] is None else parse_keep_alive(params["keep_alive"])
    question = Question(params["prompt"], params["max_tokens"], params["seed"], keep)
    if params["name"] is not None:
        names = [parse(params["name"])]
    else:
        names = [parse(name, what="models") for name in params["models"] or []]
    if check_mode:
        return {"changed": False, "probed": False, "name": str(names[0]), "msg": "check mode: no model was tested"}
    server = client(params)
    version = server.wait(params["startup_timeout"])
    models = LoadedModels(server, timeout=timeout)
    models.require(names)
    name = next(filter(models.answers, names), names[0])
    probe = Probe(models, version, params["unit"], params["gpu_settings"])
    found = {"changed": False, "server_version": version, "compute": probe.compute, "name": str(name)}
    try:
        result = probe.run(name, question, Demands(params["require_gpu"], params["min_tokens_per_second"]))
    except OllamaError as exc:
        if params["prefer_gpu"] and not params["require_gpu"] and exc.code in CANNOT_RUN:
            return dict(found, probed=False, warnings=[f"not tested: {exc.message}"])
        result = exc.details.get("result", {})
        details = dict(exc.details, result=dict(found, probed=bool(result), **_without_name(result)))
        raise OllamaError(exc.code, exc.message, **details) from None
    warnings = []
    if result["gpu_problem"] and params["prefer_gpu"]:
        warnings.append(f"{name}: {result['gpu_problem']}")
    return dict(found, probed=True, warnings=warnings, **_without_name(result))


def _without_name(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: value for key, value in result.items() if key != "name"}


def main() -> None:
    """Run the module."""
    finish(
        Module(
            argument_spec=SPEC,
            supports_check_mode=True,
            mutually_exclusive=[("name", "models")],
            required_one_of=[("name", "models")],
            required_if=[("prefer_gpu", True, ("unit",))],
        ),
        run,
    )


if __name__ == "__main__":
    main()
