# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of names: grammar, case and displayed form."""

from __future__ import annotations

import pytest

from tests.standin.registry import Registry, make_model

from .target import NAMESPACE, Target


@pytest.mark.parametrize(
    "name",
    ["", "a/b/c/d", "tiny:", "tiny@sha256:" + "0" * 64, "..", "-tiny", "a b", "name.space/tiny", "a//b", "x" * 81,
     "tiny:" + "t" * 81],
)  # fmt: skip
def test_invalid_names_are_refused_before_the_stream(target: Target, name: str) -> None:
    reply = target.call("POST", "/api/pull", {"model": name, "insecure": True})
    assert (reply.status, reply.json()) == (400, {"error": "invalid model name"})


def test_show_refuses_an_invalid_name(target: Target) -> None:
    assert target.show("a b").status == 400


def test_names_are_case_insensitive(target: Target, registry: Registry) -> None:
    make_model(registry.store_dir, "case", seed=registry.port)
    target.pulled(f"{registry.host}/library/case")
    assert target.show(f"{registry.host}/Library/CASE:Latest").status == 200
    assert len(target.rows(registry.host)) == 1


def test_a_pull_reuses_the_spelling_on_disk(target: Target, registry: Registry) -> None:
    make_model(registry.store_dir, "again", seed=registry.port)
    target.pulled(f"{registry.host}/library/again")
    target.pulled(f"{registry.host}/library/AGAIN")
    assert [row["name"] for row in target.rows(registry.host)] == [f"{registry.host}/library/again:latest"]


def test_a_copy_keeps_a_new_spelling(target: Target, registry: Registry) -> None:
    make_model(registry.store_dir, "plain", seed=registry.port)
    target.pulled(f"{registry.host}/library/plain")
    assert target.copy(f"{registry.host}/library/plain", f"{NAMESPACE}/BigName:V1").status == 200
    assert [row["name"] for row in target.rows(NAMESPACE)] == [f"{NAMESPACE}/BigName:V1"]
    assert target.delete(f"{NAMESPACE}/bigname:v1").status == 200
    assert not target.rows(NAMESPACE)


def test_local_is_a_suffix_and_not_a_tag(target: Target, registry: Registry) -> None:
    make_model(registry.store_dir, "suffix", seed=registry.port)
    target.pulled(f"{registry.host}/library/suffix")
    assert target.show(f"{registry.host}/library/suffix:local").status == 200


def test_the_tag_is_always_shown(target: Target, registry: Registry) -> None:
    make_model(registry.store_dir, "shown", seed=registry.port)
    target.pulled(f"{registry.host}/library/shown")
    row = target.rows(registry.host)[0]
    assert row["name"] == row["model"] == f"{registry.host}/library/shown:latest"


def test_the_old_field_name_still_works(target: Target, registry: Registry) -> None:
    make_model(registry.store_dir, "old", seed=registry.port)
    target.pulled(f"{registry.host}/library/old")
    assert target.call("POST", "/api/show", {"name": f"{registry.host}/library/old"}).status == 200
    assert target.call("DELETE", "/api/delete", {"name": f"{registry.host}/library/old"}).status == 200


def test_a_scheme_does_not_choose_the_protocol(target: Target, registry: Registry) -> None:
    """http:// without `insecure` still uses TLS."""
    lines = target.pull(f"http://{registry.host}/library/none", insecure=False)
    assert f'Get "https://{registry.host}/v2/library/none/manifests/latest"' in lines[-1]["error"]
