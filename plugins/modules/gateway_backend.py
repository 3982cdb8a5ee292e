#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a server out of a gateway's balancer, or back in, and wait until that is so."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_backend
short_description: Take a server out of a gateway's balancer, or back in
version_added: 0.1.0
description:
  - Talks to the HAProxy that P(kaido.ollama.ollama_gateway#role) runs, on its own host, as root, through its admin
    socket. The server is named as in the inventory, and is meant in all backends at once.
  - A server that is drained gets no new requests, and finishes those that it has. Requests that wait go elsewhere.
  - HAProxy forgets it when it is restarted or reloaded; then the server is ready.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
    details: Waits for nothing.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  server:
    description: Its name in the inventory.
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
      - Seconds to wait, when draining, until the server has finished its requests; otherwise until the balancer has
        found it answering. It is a failure if that takes longer.
      - V(0) means not to wait for that.
    type: float
    default: 300
  socket:
    description: The admin socket of HAProxy.
    type: path
    default: /run/ollama-balancer/admin.sock
notes:
  - The codes in RV(failure.code) are V(invalid_option), V(unreachable) where no HAProxy answers, V(unknown_server),
    V(busy) where requests are left at the end, V(down) where the server does not answer its checks, V(refused) and
    V(bad_answer).
seealso:
  - module: kaido.ollama.model_probe
"""

EXAMPLES = r"""
- name: Let big2 finish what it has
  kaido.ollama.gateway_backend:
    server: big2
    state: drained
  delegate_to: hecate

- name: And back
  kaido.ollama.gateway_backend:
    server: big2
    state: ready
    wait: 30
  delegate_to: hecate
"""

RETURN = r"""
sessions:
  description: How many requests the server has from this balancer.
  returned: when HAProxy answered
  type: int
up:
  description: Whether the server answers its checks.
  returned: when HAProxy answered
  type: bool
backends:
  description: The same for each backend that has the server.
  returned: when HAProxy answered
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      returned: always
      type: str
    state:
      description: One of V(ready), V(drained) and V(maintenance).
      returned: always
      type: str
    up:
      description: Whether the server answers its checks.
      returned: always
      type: bool
    sessions:
      description: Requests of this backend.
      returned: always
      type: int
failure:
  description: What went wrong, for programs.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
    message:
      description: The same sentence as in RV(ignore:msg).
      returned: always
      type: str
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError
from ..module_utils._server.argspec import finish
from ..module_utils._service.haproxy import Socket, change, is_done

_PAUSE = 0.2


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Look, change, and wait."""
    server, wanted = params["server"], params["state"]
    # Both end up in a command line.
    if not server or any(char in "/; \\#\"'" or not char.isprintable() for char in server):
        raise OllamaError("invalid_option", f"server: {server!r} is no name of a server")
    if params["wait"] < 0:
        raise OllamaError("invalid_option", f"wait: {params['wait']} is not allowed; allowed is 0 or more")
    balancer = Socket(params["socket"])
    before = rows = balancer.look(server)
    if check_mode:
        after = {row.name: row.state if row.is_as(wanted) else wanted for row in rows}
    else:
        rows = change(balancer, server, wanted, rows)
        deadline = time.monotonic() + params["wait"]
        while not is_done(rows, wanted) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            rows = balancer.look(server)
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
            "down", f"{server}: does not answer the checks of this balancer within {wait:g} s", result=result
        )
    return OllamaError(
        "busy",
        f"{server}: still has {result['sessions']} requests after {wait:g} s, and gets no new ones",
        result=result,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
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
