# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that tells what is wrong with the gateway's tokens, without saying them."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

DOCUMENTATION = r"""
name: token_errors
short_description: Tell what is wrong with the gateway's tokens
version_added: 0.1.0
description:
  - Internal to the role P(kaido.ollama.ollama_gateway#role). Returns a sentence for each fault; no token is in it.
  - A filter, because tokens then go through no task's arguments or result.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: The variable C(ollama_gateway_tokens).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Check the tokens
  ansible.builtin.assert:
    that: ollama_gateway_tokens | kaido.ollama.token_errors | length == 0
"""

RETURN = r"""
_value:
  description: The faults; empty where there is none.
  type: list
  elements: str
  sample: ["ollama_gateway_tokens: alice: the token has a space in it"]
"""

# The longest is what a line of nginx takes with every character escaped.
SHORTEST, LONGEST = 20, 1024
_VARIABLE = "ollama_gateway_tokens"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
# What RFC 6750 allows in a bearer token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")


def faults(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Return a sentence for each fault; no token is in it. Pure."""
    if not rows:
        return [f"{_VARIABLE}: is empty, so nobody could come in; add a mapping with name, token and scope"]
    found: list[str] = []
    names: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            found.append(f"{_VARIABLE}: row {index + 1} is no mapping with name, token and scope")
            continue
        name, token = (_text(row.get(key)) for key in ("name", "token"))
        if not _NAME.match(name):
            allowed = "letters, digits and . _ @ - are allowed, the first a letter or digit, 64 at most"
            # Whoever mixes up the two has the token here.
            found.append(f"{_VARIABLE}: the name in row {index + 1} is no name for a log; {allowed}")
            name = f"row {index + 1}"
        elif name.lower() in names:
            found.append(f"{_VARIABLE}: the name {name} is there twice; the log could not tell them apart")
        names[name.lower()] = name
        fault = _fault(token)
        if fault:
            found.append(f"{_VARIABLE}: {name}: the token {fault}")
        elif token in tokens:
            found.append(f"{_VARIABLE}: {tokens[token]} and {name} have the same token")
        tokens.setdefault(token, name)
        if row.get("scope") not in ("user", "admin"):
            found.append(f"{_VARIABLE}: {name}: the scope is neither user nor admin")
    return found


def _text(value: object) -> str:
    """Return the value as a text; '' for what YAML makes of null, yes and no."""
    return "" if value is None or isinstance(value, bool) else str(value)


def _fault(token: str) -> str:
    if not token:
        return "is empty"
    if re.search(r"\s", token):
        return "has a space or a line break in it"
    if not _TOKEN.match(token):
        return (
            "has a character that no bearer token may have; allowed are letters, digits and - . _ ~ + /, = at the end"
        )
    if len(token) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if len(token) < SHORTEST:
        return f"is shorter than {SHORTEST} characters, so it could be guessed; try: openssl rand -hex 24"
    return ""


class FilterModule:
    """What Ansible asks for the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"token_errors": faults}
