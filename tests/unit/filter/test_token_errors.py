# SPDX-License-Identifier: GPL-3.0-or-later
"""The tokens that a gateway accepts; no error message contains one."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.filter.token_errors import token_errors

TOKEN = "0123456789abcdef~+/-._=="
GOOD = {"name": "alice", "token": TOKEN, "scope": "user"}


def test_valid_tokens_have_no_error() -> None:
    assert token_errors([GOOD, {"name": "ops@2026.11", "token": TOKEN.upper(), "scope": "admin"}]) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty; expected at least one mapping"),
        ([{**GOOD, "token": ""}], "alice: invalid token (not shown); expected a value"),
        ([{**GOOD, "token": TOKEN[:10] + " " + TOKEN}], "alice: invalid token (not shown); expected no spaces"),
        ([{**GOOD, "token": TOKEN + "\n"}], "alice: invalid token (not shown); expected no spaces"),
        ([{**GOOD, "token": TOKEN + '"; }'}], "alice: invalid token (not shown); expected no spaces"),
        ([{**GOOD, "token": 'x";}' + TOKEN}], "alice: invalid token (not shown); expected letters"),
        ([{**GOOD, "token": "=" + TOKEN}], "alice: invalid token (not shown); expected letters"),
        ([{**GOOD, "token": TOKEN[:19]}], "alice: invalid token (not shown); expected at least 20"),
        ([GOOD, {**GOOD, "name": "bob"}], "alice and bob have the same token"),
        ([GOOD, {**GOOD, "name": "Alice", "token": TOKEN.upper()}], "duplicate name Alice"),
        ([{**GOOD, "name": TOKEN + " x"}], "row 1: invalid name (not shown); expected at most 64 letters"),
        ([{**GOOD, "name": "-"}], "row 1: invalid name (not shown); expected at most 64 letters"),
        ([{**GOOD, "scope": "root"}], "alice: invalid scope; expected user or admin"),
        ([{**GOOD, "name": None}], "row 1: invalid name (not shown); expected at most 64 letters"),
        ([{**GOOD, "name": True}], "row 1: invalid name (not shown); expected at most 64 letters"),
        ([{"token": TOKEN, "scope": "user"}], "row 1: invalid name (not shown); expected at most 64 letters"),
        ([{**GOOD, "token": None}], "alice: invalid token (not shown); expected a value"),
        ([{**GOOD, "token": "a" * 1025}], "alice: invalid token (not shown); expected at most 1024"),
        ([TOKEN], "row 1: invalid value (not shown); expected a mapping"),
        ([GOOD, None], "row 2: invalid value (not shown); expected a mapping"),
    ],
)
def test_each_error_is_one_line_without_the_token(rows: list[t.Any], message: str) -> None:
    found = token_errors(rows)
    assert len(found) == 1
    assert found[0].startswith("ollama_gateway_tokens: ")
    assert message in found[0]
    assert "\n" not in found[0]
    assert TOKEN[:10] not in found[0]
