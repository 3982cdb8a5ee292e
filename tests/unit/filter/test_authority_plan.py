# SPDX-License-Identifier: GPL-3.0-or-later
"""Which gateway signs: the one that has the key, wherever it is in the inventory, and never a new one unasked."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.filter.authority_plan import plan


def has(host: str, authority: str = "A", holds: bool = True) -> dict[str, t.Any]:
    return {"item": host, "authority": authority, "holds": holds}


def knows(host: str) -> dict[str, t.Any]:
    return has(host, holds=False)


def nothing(host: str) -> dict[str, t.Any]:
    return has(host, "", holds=False)


def silent(host: str) -> dict[str, t.Any]:
    return {"item": host, "unreachable": True, "failed": False}


def failed(host: str, code: str = "authority_damaged") -> dict[str, t.Any]:
    return {"item": host, "failed": True, "msg": "ca.key is missing", "failure": {"code": code}}


@pytest.mark.parametrize(
    ("results", "chosen", "renew", "host", "create"),
    [
        # Field case 04: gpu1 is put in front of the inventory.
        ([nothing("gpu1"), has("gpu2")], "", False, "gpu2", False),
        ([nothing("gpu1"), knows("gpu2"), has("gpu3")], "", False, "gpu3", False),
        ([nothing("gpu1"), silent("gpu2"), has("gpu3")], "", False, "gpu3", False),
        ([nothing("gpu1"), nothing("gpu2")], "", False, "gpu1", True),
        ([nothing("gpu2")], "gpu2", False, "gpu2", True),
        ([has("gpu1"), has("gpu2", "A\n")], "", False, "gpu1", False),
        ([knows("gpu1"), knows("gpu2")], "", True, "gpu1", True),
        ([nothing("gpu1"), failed("gpu2")], "", True, "gpu2", True),
        ([nothing("gpu1"), failed("gpu2", "authority_expired")], "", True, "gpu2", True),
    ],
)
def test_the_host_that_signs(results: list[t.Any], chosen: str, renew: bool, host: str, create: bool) -> None:
    assert plan(results, "gpu1", chosen, renew) == {"host": host, "create": create, "problem": ""}


@pytest.mark.parametrize(
    ("results", "chosen", "renew", "says"),
    [
        ([nothing("gpu1"), silent("gpu2")], "", False, "gpu2 cannot be reached, and may have the key"),
        ([knows("gpu1"), silent("gpu2")], "", False, "gpu2 cannot be reached"),
        ([silent("gpu2")], "gpu2", True, "gpu2 cannot be reached"),
        ([nothing("gpu1"), knows("gpu2")], "", False, "gpu2 have the ca.crt of a private authority, but its ca.key"),
        ([nothing("gpu1"), failed("gpu2")], "", False, "gpu2: ca.key is missing"),
        ([nothing("gpu1"), failed("gpu2", "program_missing")], "", True, "gpu2: ca.key is missing"),
        ([has("gpu1"), has("gpu2", "B")], "", False, "gpu1, gpu2 have different private authorities"),
    ],
)
def test_a_host_that_cannot_sign_is_named_with_the_variable(
    results: list[t.Any], chosen: str, renew: bool, says: str
) -> None:
    found = plan(results, "gpu1", chosen, renew)
    assert says in found["problem"]
    assert (found["host"], found["create"]) == ("", False)
    assert "\n" not in found["problem"]
