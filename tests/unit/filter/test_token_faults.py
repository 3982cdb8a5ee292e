"""Which tokens a gateway takes, and that no refusal says one."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.filter.token_errors import faults

TOKEN = "0123456789abcdef~+/-._=="
GOOD = {"name": "alice", "token": TOKEN, "scope": "user"}


def test_good_ones_have_no_fault() -> None:
    assert faults([GOOD, {"name": "ops@2026.11", "token": TOKEN.upper(), "scope": "admin"}]) == []


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([], "is empty, so nobody could come in"),
        ([{**GOOD, "token": ""}], "alice: the token is empty"),
        ([{**GOOD, "token": TOKEN[:10] + " " + TOKEN}], "alice: the token has a space"),
        ([{**GOOD, "token": TOKEN + "\n"}], "alice: the token has a space or a line break"),
        ([{**GOOD, "token": TOKEN + '"; }'}], "alice: the token has a space"),
        ([{**GOOD, "token": 'x";}' + TOKEN}], "alice: the token has a character"),
        ([{**GOOD, "token": "=" + TOKEN}], "alice: the token has a character"),
        ([{**GOOD, "token": TOKEN[:19]}], "alice: the token is shorter than 20"),
        ([GOOD, {**GOOD, "name": "bob"}], "alice and bob have the same token"),
        ([GOOD, {**GOOD, "name": "Alice", "token": TOKEN.upper()}], "the name Alice is there twice"),
        ([{**GOOD, "name": TOKEN + " x"}], "the name in row 1 is no name"),
        ([{**GOOD, "name": "-"}], "the name in row 1 is no name"),
        ([{**GOOD, "scope": "root"}], "alice: the scope is neither"),
        ([{**GOOD, "name": None}], "the name in row 1 is no name"),
        ([{**GOOD, "name": True}], "the name in row 1 is no name"),
        ([{"token": TOKEN, "scope": "user"}], "the name in row 1 is no name"),
        ([{**GOOD, "token": None}], "alice: the token is empty"),
        ([{**GOOD, "token": "a" * 1025}], "alice: the token is longer than 1024"),
        ([TOKEN], "row 1 is no mapping"),
        ([GOOD, None], "row 2 is no mapping"),
    ],
)
def test_each_fault_is_one_sentence_without_the_token(rows: list[t.Any], fault: str) -> None:
    found = faults(rows)
    assert len(found) == 1
    assert found[0].startswith("ollama_gateway_tokens: ")
    assert fault in found[0]
    assert "\n" not in found[0]
    assert TOKEN[:10] not in found[0]
