# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that validates the tokens of the gateway without showing them."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

DOCUMENTATION = r"""
name: token_errors
short_description: Validate the tokens of the gateway
version_added: 1.0.0
description:
  - Internal to the role P(kaido.ollama.ollama_gateway#role). Returns one line for each error; no line contains a token.
  - It is a filter, so that tokens are neither in the arguments nor in the result of a task.
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
- name: Validate the tokens
  ansible.builtin.assert:
    that: ollama_gateway_tokens | kaido.ollama.token_errors | length == 0
"""

RETURN = r"""
_value:
  description: The errors; empty if the tokens are valid.
  type: list
  elements: str
  sample: ["ollama_gateway_tokens: alice: invalid token (not shown); expected no spaces or line breaks"]
"""

# The longest is what a line of nginx takes with every character escaped.
SHORTEST = 20
LONGEST = 1024
_VARIABLE = "ollama_gateway_tokens"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
# What RFC 6750 allows in a bearer token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")


def token_errors(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Return one line for each error; no line contains a token. Pure."""
    if not rows:
        return [f"{_VARIABLE}: empty; expected at least one mapping with name, token and scope"]
    found: list[str] = []
    names: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            found.append(
                f"{_VARIABLE}: row {index + 1}: invalid value (not shown); "
                "expected a mapping with name, token and scope"
            )
            continue
        name, token = (_text(row.get(key)) for key in ("name", "token"))
        if not _NAME.match(name):
            expected = "at most 64 letters, digits and . _ @ -, beginning with a letter or digit"
            # With name and token interchanged, this is the token.
            found.append(f"{_VARIABLE}: row {index + 1}: invalid name (not shown); expected {expected}")
            name = f"row {index + 1}"
        elif name.lower() in names:
            found.append(f"{_VARIABLE}: duplicate name {name}; expected a different name for each token")
        names[name.lower()] = name
        expected_token = _expected(token)
        if expected_token:
            found.append(f"{_VARIABLE}: {name}: invalid token (not shown); expected {expected_token}")
        elif token in tokens:
            found.append(f"{_VARIABLE}: {tokens[token]} and {name} have the same token; expected different tokens")
        tokens.setdefault(token, name)
        if row.get("scope") not in ("user", "admin"):
            found.append(f"{_VARIABLE}: {name}: invalid scope; expected user or admin")
    return found


def _text(value: object) -> str:
    """Return the value as a text; '' for what YAML makes of null, yes and no."""
    return "" if value is None or isinstance(value, bool) else str(value)


def _expected(token: str) -> str:
    if not token:
        return "a value"
    if re.search(r"\s", token):
        return "no spaces or line breaks"
    if not _TOKEN.match(token):
        return "letters, digits and - . _ ~ + /, with = at the end"
    if len(token) > LONGEST:
        return f"at most {LONGEST} characters"
    if len(token) < SHORTEST:
        return f"at least {SHORTEST} characters, such as the output of: openssl rand -hex 24"
    return ""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"token_errors": token_errors}
