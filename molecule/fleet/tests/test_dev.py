# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machines that pulled through the mirror look like."""

from __future__ import annotations

import json
import typing as t

import pytest
from conftest import get_host


@pytest.fixture(scope="module", params=["dev1", "dev2", "dev3"])
def host(request: pytest.FixtureRequest) -> t.Any:
    return get_host(request.param)


def test_developers_machines_carry_no_trace_of_the_mirror(host: t.Any) -> None:
    rows = json.loads(host.check_output("curl --silent --fail http://127.0.0.1:11434/api/tags"))["models"]
    assert sorted(row["name"] for row in rows) == ["kaido/big:q4", "kaido/tiny2:q8", "tiny:latest"]
    assert not host.service("nginx").is_running
    assert not host.service("ollama-mirror").is_running
