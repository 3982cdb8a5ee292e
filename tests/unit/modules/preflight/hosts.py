# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests, hosts and the calls that the tests of module preflight share."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_request,
    pending,
    suitability,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    AccountFacts,
    HostFacts,
    PortListener,
    ServerFacts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_request import HostRequest
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.store_facts import StoreFacts
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.survey import Survey
from ansible_collections.kaido.ollama.plugins.module_utils._release import release

SUM = "sha256:" + "ab" * 32


UNIT = "# Managed by kaido.ollama\n[ServerFacts]\nExecStart=/opt/ollama/current/bin/ollama serve\n"


MODELS = "/usr/share/ollama/.ollama/models"


WANTED = HostRequest(version="0.35.1", unit=UNIT, models_dir=MODELS, checksums={"ollama-linux-amd64.tar.zst": SUM})


ENVIRONMENT = {"OLLAMA_HOST": "127.0.0.1:11434", "OLLAMA_MODELS": MODELS, "OLLAMA_NO_CLOUD": "1"}


FRESH = HostFacts(
    machine="x86_64",
    has_systemd=True,
    has_zstd=False,
    package_manager="apt-get",
    releases=release.State(current=None, releases={}, link=None),
    account=None,
    device_groups=("render", "video"),
    directories=Survey(wrong=("/usr/share/ollama", MODELS)),
    unit=None,
    drop_ins={},
    environment=None,
    environment_is_private=False,
    configured=0.0,
    service=ServerFacts(),
    listeners=(),
    store=StoreFacts(),
    move=None,
    other_program=None,
    platform="debian12",
)


CONVERGED = replace(
    FRESH,
    releases=release.State(
        current="0.35.1",
        releases={"0.35.1": {"ollama-linux-amd64.tar.zst": SUM}, "0.35.0": {"ollama-linux-amd64.tar.zst": SUM}},
        link="/opt/ollama/current/bin/ollama",
    ),
    account=AccountFacts(997, frozenset({"ollama", "render", "video"})),
    directories=Survey(),
    unit=UNIT,
    environment=ENVIRONMENT,
    environment_is_private=True,
    configured=1000.0,
    service=ServerFacts(active=True, enabled=True, started=2000.0),
    listeners=(PortListener("127.0.0.1", 997, 42, "ollama", True),),
    store=StoreFacts("v1"),
)


def examine(wanted: HostRequest, host: HostFacts) -> dict[str, str]:
    checked = host_request.validate(wanted)
    return pending.pending_steps(wanted, checked, host, suitability.check_host(wanted, checked, host))


def refusal(wanted: HostRequest, host: HostFacts = FRESH) -> OllamaError:
    with pytest.raises(OllamaError) as caught:
        examine(wanted, host)
    assert "\n" not in caught.value.message
    return caught.value


def socket_line(address: str, port: int, inode: int, state: str = "0A", uid: int = 997) -> str:
    queues = "00000000:00000000 00:00000000 00000000"
    return f"   0: {address}:{port:04X} 00000000:0000 {state} {queues} {uid} 0 {inode} 1 0 0\n"


NOW = 1_800_000_000.0


def show(**properties: str) -> dict[str, str]:
    values = {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "ExecMainStartTimestampMonotonic": str(int(time.monotonic() * 1e6)),
    }
    return {**values, **properties}


def arguments(**params: Any) -> dict[str, Any]:
    return {"version": "0.35.1", "unit": UNIT, "models_dir": MODELS, "checksum": SUM, **params}


VENDORS = """[ServerFacts]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Environment="PATH=/usr/bin" "OLLAMA_MAX_QUEUE=9"
Environment=OLLAMA_HOST=0.0.0.0
"""


VENDOR = release.Vendor("/usr/local", "0.34.4")


FOREIGN = replace(
    FRESH,
    releases=release.State(current=None, releases={}, link="", vendor=VENDOR),
    unit=VENDORS,
    drop_ins={"override.conf": "[ServerFacts]\nEnvironment=OLLAMA_HOST=0.0.0.0 OLLAMA_KEEP_ALIVE=1h\n"},
    service=ServerFacts(active=True, enabled=True, user="ollama", environment={"OLLAMA_MODELS": MODELS}),
    account=AccountFacts(997, frozenset({"ollama", "render", "video"})),
    directories=Survey(),
    listeners=(PortListener("127.0.0.1", 997, 42, "ollama", True),),
    store=StoreFacts("v1"),
)
