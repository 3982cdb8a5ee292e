#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the models of an Ollama server under parallel requests."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_benchmark
short_description: Measure the models of an Ollama server under parallel requests
version_added: 1.0.0
description:
  - Measures for each model the load time, the throughput of prompts and answers, and the time to the first token, for
    several numbers of parallel requests and lengths of prompts. Embedding models are measured in texts per second.
  - Each combination has a warm-up and several rounds; results are medians with minimum and maximum.
  - Also returns the location of the model in memory, as reported by the server and the GPU driver, and the load of the
    host before the measurement. Ollama does not report requests in progress.
  - Stops after O(time_limit). The models are measured one after the other, each with an equal share of the remaining
    time.
  - Afterwards the same models are in memory as before, with their remaining times. A measured model is unloaded and
    loaded to measure the load; models that the server unloads meanwhile to free memory are loaded again.
  - An action plugin of the same name writes the result on the controller and compares it with the previous result, see
    O(results_dir).
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama._attributes
  - kaido.ollama._attributes.action_group
attributes:
  check_mode:
    support: full
    details: Validates the options, measures nothing, and returns V(false) in RV(measured).
  diff_mode:
    support: N/A
    details: This module changes nothing on the host.
  idempotent:
    support: none
    details: Each run measures, and writes a new result to O(results_dir).
options:
  models:
    description: The models. They must be installed.
    type: list
    elements: str
    required: true
  parallel:
    description: Numbers of parallel requests, V(1) to V(64).
    type: list
    elements: int
    default: [1, 2, 4, 8]
  prompt_tokens:
    description: Lengths of prompts in tokens. Prompts that do not fit into the context of a model are skipped.
    type: list
    elements: int
    default: [64, 512, 2048]
  answer_tokens:
    description: Maximum length of an answer in tokens.
    type: int
    default: 64
  rounds:
    description: Number of measurements of each combination.
    type: int
    default: 3
  time_limit:
    description: Seconds after which nothing more is measured. Restoring the models in memory is not included.
    type: float
    default: 600.0
  timeout:
    description: Timeout of a load or a request in seconds.
    type: float
    default: 300.0
  num_parallel:
    description: The number of requests for one model that the server processes at a time, its
      E(OLLAMA_NUM_PARALLEL). The suggestion is based on it.
    type: int
    default: 1
  gpu_settings:
    description: Variables of the server that determine the memory of a model, such as E(OLLAMA_KV_CACHE_TYPE), for the
      estimate of that memory.
    type: dict
    default: {}
  gateway_url:
    description:
      - The URL of a gateway. With it the requests are also measured through the gateway.
      - Other servers behind the gateway load the model, too, as for any other request.
    type: str
  gateway_token:
    description: An API token of the gateway.
    type: str
  gateway_ca_path:
    description: A file with CA certificates to trust for the gateway, instead of those of the system.
    type: path
  results_dir:
    description:
      - A directory on the controller. The result is written there, below a directory for the host, as a JSON file that
        is named by the time. It is compared with the previous result, see RV(regressions).
      - Without it nothing is written.
    type: path
  threshold:
    description: Percent by which a figure may be worse than in the previous result.
    type: float
    default: 20.0
notes:
  - 'Failures have a stable RV(ignore:failure.code): V(value_invalid), V(name_invalid), V(model_in_cloud),
    V(url_invalid), V(server_unreachable), V(model_missing) for models that are not installed, V(results_unwritable),
    V(response_invalid); if no model could be measured, the code of the first model, such as V(load_failed),
    V(server_busy), V(server_error), V(runner_failed), V(model_still_loaded) or V(connection_stalled).'
seealso:
  - module: kaido.ollama.model_probe
"""

EXAMPLES = r"""
- name: Measure a model
  kaido.ollama.model_benchmark:
    models: [llama3.2:3b]
    results_dir: "{{ inventory_dir }}/benchmarks"
  register: result

- name: Show the results
  ansible.builtin.debug:
    msg: "{{ result.summary + result.regressions | map(attribute='text') | list }}"

- name: Measure long prompts with up to 16 parallel requests
  kaido.ollama.model_benchmark:
    models: [llama3.2:3b]
    parallel: [1, 4, 16]
    prompt_tokens: [2048, 8192]
    time_limit: 1800

- name: Measure a model also through the gateway
  kaido.ollama.model_benchmark:
    models: [llama3.2:3b]
    gateway_url: https://hecate.lan:11443
    gateway_token: "{{ vault_benchmark_token }}"
    gateway_ca_path: /etc/kaido-ollama/ca.crt

- name: Report regressions of more than 10 percent
  kaido.ollama.model_benchmark:
    models: [llama3.2:3b, "nomic-embed-text:v1.5"]
    results_dir: "{{ inventory_dir }}/benchmarks"
    threshold: 10
"""

RETURN = r"""
measured:
  description: Whether anything was measured; V(false) only in check mode.
  returned: success
  type: bool
  sample: true
benchmark:
  description: The result, as in C(docs/benchmark.schema.json).
  returned: when measured
  type: dict
  sample: {schema: 1, started: '2026-11-26T22:08:04Z', server_version: 0.35.1, models: []}
summary:
  description: Lines with the most important figures and the suggestions for C(num_parallel) and C(context_length).
  returned: when measured
  type: list
  elements: str
  sample:
    - 'llama3.2:3b: loaded in 1.2 s; up to 148 tokens/s, knee at 4; 3.2 GB, 100% in GPU memory'
path:
  description: The file of the result on the controller.
  returned: with O(results_dir)
  type: str
  sample: /home/admin/llm/benchmarks/big1/20261126T220804Z.json
compared_with:
  description: The file of the previous result; null if there is none.
  returned: with O(results_dir)
  type: str
  sample: null
regressions:
  description: The figures that are worse than in the previous result by more than O(threshold).
  returned: with O(results_dir)
  type: list
  elements: dict
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
    code: value_invalid
"""

import typing as t

from ..module_utils._benchmark import results
from ..module_utils._benchmark.measure import Benchmark, Settings
from ..module_utils._benchmark.requests import DIRECT, GATEWAY, Endpoint
from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse
from ..module_utils._core.options import Module
from ..module_utils._server.api import client
from ..module_utils._server.argspec import API, finish

SPEC: dict[str, t.Any] = {
    "models": {"type": "list", "elements": "str", "required": True},
    "parallel": {"type": "list", "elements": "int", "default": [1, 2, 4, 8]},
    "prompt_tokens": {"type": "list", "elements": "int", "default": [64, 512, 2048], "no_log": False},
    "answer_tokens": {"type": "int", "default": 64, "no_log": False},
    "rounds": {"type": "int", "default": 3},
    "time_limit": {"type": "float", "default": 600.0},
    "timeout": {"type": "float", "default": 300.0},
    "num_parallel": {"type": "int", "default": 1},
    "gpu_settings": {"type": "dict", "default": {}},
    "gateway_url": {"type": "str"},
    "gateway_token": {"type": "str", "no_log": True},
    "gateway_ca_path": {"type": "path"},
    "results_dir": {"type": "path"},
    "threshold": {"type": "float", "default": 20.0},
    **API,
}
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("parallel", 1, 64),
    ("prompt_tokens", 1, 1_000_000),
    ("answer_tokens", 1, 100_000),
    ("rounds", 1, 100),
    ("time_limit", 1, 86_400),
    ("timeout", 1, 86_400),
    ("num_parallel", 1, 1024),
    ("threshold", 0, 1000),
)


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Validate the options, then measure; returns the module's result."""
    for option, least, greatest in _RANGES:
        value = params[option]
        for number in value if isinstance(value, list) else [value]:
            if not least <= number <= greatest:
                raise OllamaError(
                    "value_invalid", f"{option}: invalid value {number}; expected {least:g} to {greatest:g}"
                )
        if value == []:
            raise OllamaError("value_invalid", f"{option}: invalid value []; expected at least one number")
    names = list(dict.fromkeys(parse(text) for text in params["models"]))
    if not names:
        raise OllamaError("value_invalid", "models: invalid value []; expected at least one model")
    server = client(params)
    endpoints = [Endpoint(DIRECT, server.base_url, ca_path=params["ca_path"])]
    if params["gateway_url"]:
        token, ca_path = params["gateway_token"] or "", params["gateway_ca_path"]
        endpoints.append(Endpoint(GATEWAY, params["gateway_url"], token, ca_path))
    if check_mode:
        return {"changed": False, "measured": False, "msg": "check mode: nothing was measured"}
    settings = Settings(
        parallel=tuple(sorted(set(params["parallel"]))),
        prompt_tokens=tuple(sorted(set(params["prompt_tokens"]))),
        **{key: params[key] for key in ("answer_tokens", "rounds", "time_limit", "timeout", "num_parallel")},
    )
    benchmark = Benchmark(server, endpoints, settings, environment=params["gpu_settings"])
    document = benchmark.run(names)
    result = {
        "changed": False,
        "measured": True,
        "benchmark": document,
        "summary": results.summary(document),
        "warnings": benchmark.warnings,
    }
    failures = [row["failure"] for row in document["models"] if row["failure"]]
    if len(failures) == len(names):
        raise OllamaError(failures[0]["code"], failures[0]["message"], result=result)
    if not document["complete"]:
        benchmark.warnings.append(f"time_limit: {settings.time_limit:g} s were not enough for all measurements")
    benchmark.warnings += [row["message"] for row in failures]
    return result


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
