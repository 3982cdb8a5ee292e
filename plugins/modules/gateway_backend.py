#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drain a server in the balancer of a gateway, or enable it again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_backend
short_description: Drain or enable a server in the balancer of a gateway
version_added: 1.0.0
description:
  - Uses the admin socket of the HAProxy that P(kaido.ollama.ollama_gateway#role) runs, as root on the host of the
    gateway. The name of the server is its name in the inventory. The state applies to all backends.
  - A drained server gets no new requests and completes those in progress. Waiting requests go to other servers.
  - A restart or reload of HAProxy resets the state to ready.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
    details: Does not wait.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  server:
    description: The name of the server in the inventory.
    type: str
    required: true
  state:
    description:
      - V(drained) is reached when the server gets no new requests. A server in maintenance counts as drained.
      - V(ready) also ends a maintenance.
    type: str
    choices: [drained, ready]
    required: true
  wait:
    description:
      - Seconds to wait until the server has completed its requests (V(drained)), or until its health checks pass
        (V(ready)). The module fails if this takes longer.
      - V(0) does not wait.
    type: float
    default: 300
  socket:
    description: The admin socket of HAProxy.
    type: path
    default: /run/ollama-balancer/admin.sock
notes:
  - The codes in RV(failure.code) are V(value_invalid), V(haproxy_unreachable) if no HAProxy answers, V(server_unknown),
    V(requests_running) if requests are still in progress at the end, V(server_down) if the health checks of the server
    fail, V(haproxy_refused) and V(response_invalid).
seealso:
  - module: kaido.ollama.model_probe
"""

EXAMPLES = r"""
- name: Drain big2 on its gateway
  kaido.ollama.gateway_backend:
    server: big2
    state: drained
  delegate_to: hecate
  become: true

- name: Drain big2, and wait up to one minute for its requests
  kaido.ollama.gateway_backend:
    server: big2
    state: drained
    wait: 60
  delegate_to: hecate
  become: true

- name: Enable big2, and wait until its health checks pass
  kaido.ollama.gateway_backend:
    server: big2
    state: ready
    wait: 30
  delegate_to: hecate
  become: true

- name: Enable this host on all gateways without waiting
  kaido.ollama.gateway_backend:
    server: "{{ inventory_hostname }}"
    state: ready
    wait: 0
  delegate_to: "{{ item }}"
  become: true
  loop: "{{ groups.ollama_gateways }}"
"""

RETURN = r"""
sessions:
  description: The number of requests in progress from this balancer.
  returned: if HAProxy answers
  type: int
  sample: 0
up:
  description: Whether the health checks of the server pass.
  returned: if HAProxy answers
  type: bool
  sample: true
backends:
  description: The state in each backend of the server.
  returned: if HAProxy answers
  type: list
  elements: dict
  contains:
    name:
      description: The name of the backend.
      returned: always
      type: str
    state:
      description: One of V(ready), V(drained) and V(maintenance).
      returned: always
      type: str
    up:
      description: Whether the health checks of the server pass.
      returned: always
      type: bool
    sessions:
      description: Requests in progress in this backend.
      returned: always
      type: int
  sample: [{name: inference-1, state: drained, up: true, sessions: 0}]
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
    code: server_unknown
"""

import time
import typing as t

from ..module_utils._core.errors import OllamaError, finish
from ..module_utils._core.options import Module
from ..module_utils._service.haproxy import Socket, change, is_done

_PAUSE = 0.2


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Look, change, and wait."""
    server, wanted = params["server"], params["state"]
    # Both end up in a command line.
    if not server or any(char in "/; \\#\"'" or not char.isprintable() for char in server):
        raise OllamaError("value_invalid", f"server: invalid value {server!r}; expected the name of a server")
    if params["wait"] < 0:
        raise OllamaError("value_invalid", f"wait: invalid value {params['wait']}; expected seconds, at least 0")
    balancer = Socket(params["socket"])
    before = rows = balancer.rows(server)
    if check_mode:
        after = {row.name: row.state if row.is_as(wanted) else wanted for row in rows}
    else:
        rows = change(balancer, server, wanted, rows)
        deadline = time.monotonic() + params["wait"]
        while not is_done(rows, wanted) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            rows = balancer.rows(server)
        after = {row.name: row.state for row in rows}
    shown = {row.name: row.state for row in before}
    result = {
        "changed": shown != after,
        "diff": {"before": shown, "after": after},
        "sessions": sum(row.sessions for row in rows),
        "up": all(row.up for row in rows),
        "backends": [
            {"name": row.name, "state": after[row.name], "up": row.up, "sessions": row.sessions} for row in rows
        ],
    }
    if params["wait"] and not check_mode and not is_done(rows, wanted):
        raise _too_late(server, wanted, params["wait"], result)
    return result


def _too_late(server: str, wanted: str, wait: float, result: dict[str, t.Any]) -> OllamaError:
    if wanted == "ready":
        return OllamaError(
            "server_down", f"{server}: the health checks of this balancer do not pass within {wait:g} s", result=result
        )
    return OllamaError(
        "requests_running",
        f"{server}: {result['sessions']} requests are still in progress after {wait:g} s; the server receives no new"
        " requests",
        result=result,
    )


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "server": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "ready"], "required": True},
            "wait": {"type": "float", "default": 300.0},
            "socket": {"type": "path", "default": "/run/ollama-balancer/admin.sock"},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
