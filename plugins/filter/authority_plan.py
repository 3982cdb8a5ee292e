# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that decides which gateway signs certificates, from what each of them has."""

from __future__ import annotations

import typing as t

DOCUMENTATION = r"""
name: authority_plan
short_description: Decide which gateway signs the certificates of a fleet
version_added: 1.0.0
description:
  - Internal to the role P(kaido.ollama.ollama_gateway#role). The gateway that has the key of the private authority
    signs, regardless of its position in the inventory. A new authority is planned only if no gateway has or had one.
author:
  - kaido.ollama contributors (@kaido)
positional: first, chosen, renew
options:
  _input:
    description: The results of M(kaido.ollama.gateway_certificate) for each gateway, each with its name as C(item).
    type: list
    elements: dict
    required: true
  first:
    description: The host on which a new authority is created.
    type: str
    required: true
  chosen:
    description: The variable C(ollama_gateway_authority_host).
    type: str
    required: true
  renew:
    description: The variable C(ollama_gateway_renew_authority).
    type: bool
    required: true
"""

EXAMPLES = r"""
- name: Show which gateway signs
  ansible.builtin.debug:
    msg: "{{ queried.results | kaido.ollama.authority_plan('hecate', '', false) }}"
"""

RETURN = r"""
_value:
  description:
    - RV(ignore:host) is the gateway that signs, and RV(ignore:create) whether it has to create the authority first.
    - RV(ignore:problem) is the reason why no gateway can sign; empty otherwise.
  type: dict
"""


def plan(results: t.Sequence[t.Mapping[str, t.Any]], first: str, chosen: str, renew: bool) -> dict[str, t.Any]:
    """Return host, create and problem. Pure."""
    silent = [row["item"] for row in results if row.get("unreachable")]
    failed = [row for row in results if row.get("failed") and not row.get("unreachable")]
    answered = [row for row in results if row not in failed and not row.get("unreachable")]
    holders = {row["item"]: row["authority"].strip() for row in answered if row.get("holds")}
    if len(set(holders.values())) > 1:
        return _problem(
            f"{', '.join(holders)} have different private authorities; set ollama_gateway_authority_host to the one "
            "that clients trust"
        )
    if holders:
        return {"host": next(iter(holders)), "create": False, "problem": ""}
    if silent and (chosen or not renew):
        return _problem(
            f"{', '.join(silent)} cannot be reached, and may have the key of the private authority; run again when "
            "they are reachable, or set ollama_gateway_authority_host to the host that keeps the authority"
        )
    if failed:
        if renew and failed[0].get("failure", {}).get("code") in ("authority_damaged", "authority_expired"):
            return {"host": failed[0]["item"], "create": True, "problem": ""}
        return _problem(f"{failed[0]['item']}: {failed[0].get('msg', 'the authority cannot be read')}")
    trusted = [row["item"] for row in answered if row.get("authority")]
    if trusted and not renew:
        return _problem(
            f"{', '.join(trusted)} have the ca.crt of a private authority, but its ca.key is lost; restore it from a "
            "copy, and clients trust only this one; to replace it, set ollama_gateway_renew_authority: true and deploy "
            "the new ca.crt to all clients"
        )
    return {"host": chosen or first, "create": True, "problem": ""}


def _problem(why: str) -> dict[str, t.Any]:
    return {"host": "", "create": False, "problem": why}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"authority_plan": plan}
