# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags, copies, deletions and creation: the state that requests leave."""

from __future__ import annotations

import datetime
import json
import typing as t

import pytest

from tests.standin.registry import Registry, make_model

from .target import NAMESPACE, Target, sha256


@pytest.fixture
def model(target: Target, registry: Registry) -> str:
    make_model(registry.store_dir, "model", seed=registry.port, layers={"system": b"Be kind."})
    name = f"{registry.host}/library/model"
    target.pulled(name)
    return name


def _served(registry: Registry) -> bytes:
    return (registry.store_dir / "manifests/registry.ollama.ai/library/model/latest").read_bytes()


def _layers(registry: Registry) -> list[dict[str, t.Any]]:
    manifest = json.loads(_served(registry))
    return [*manifest["layers"], manifest["config"]]


def test_the_digest_in_tags_is_that_of_the_manifest(target: Target, registry: Registry, model: str) -> None:
    row = target.rows(registry.host)[0]
    assert "sha256:" + row["digest"] == sha256(_served(registry))


@pytest.mark.usefixtures("needs_store")
def test_the_manifest_is_stored_as_it_was_served(target: Target, registry: Registry, model: str) -> None:
    path = target.manifest(registry.host, "library", "model", "latest")
    assert path.read_bytes() == _served(registry)
    if target.generation == 2:
        assert path.is_symlink()
        assert path.resolve().name == sha256(_served(registry)).replace(":", "-")


def test_the_size_in_tags_is_that_of_config_and_layers(target: Target, registry: Registry, model: str) -> None:
    assert target.rows(registry.host)[0]["size"] == sum(layer["size"] for layer in _layers(registry))


def test_tags_are_sorted_newest_first(target: Target, registry: Registry, model: str) -> None:
    target.copy(model, f"{NAMESPACE}/copy")
    times = [row["modified_at"][:19] for row in target.call("GET", "/api/tags").json()["models"]]
    assert times == sorted(times, reverse=True)


def test_pulling_again_keeps_the_digest_but_not_the_time(target: Target, registry: Registry, model: str) -> None:
    before = target.rows(registry.host)[0]
    target.pulled(model)
    after = target.rows(registry.host)[0]
    assert after["digest"] == before["digest"]
    if target.generation == 1:
        assert after["modified_at"] != before["modified_at"]


def test_times_are_rfc3339(target: Target, registry: Registry, model: str) -> None:
    text = target.rows(registry.host)[0]["modified_at"]
    moment = datetime.datetime.fromisoformat(text[:19] + ("Z" if text.endswith("Z") else text[-6:]))
    assert abs((datetime.datetime.now(datetime.UTC) - moment).total_seconds()) < 3600


def test_show_names_the_blob_of_the_model(target: Target, registry: Registry, model: str) -> None:
    shown = target.show(model).json()
    assert _layers(registry)[0]["digest"].replace(":", "-") in shown["modelfile"]
    assert shown["system"] == "Be kind."
    assert "digest" not in shown


def test_a_copy_shares_the_digest(target: Target, registry: Registry, model: str) -> None:
    assert target.copy(model, f"{NAMESPACE}/copy").status == 200
    assert target.rows(NAMESPACE)[0]["digest"] == target.rows(registry.host)[0]["digest"]


def test_a_copy_replaces_its_destination(target: Target, registry: Registry, model: str) -> None:
    make_model(registry.store_dir, "other", seed=registry.port + 2)
    target.pulled(f"{registry.host}/library/other")
    target.copy(model, f"{NAMESPACE}/copy")
    target.copy(f"{registry.host}/library/other", f"{NAMESPACE}/copy")
    assert target.rows(NAMESPACE)[0]["digest"] == target.rows("library/other")[0]["digest"]


def test_blobs_are_removed_with_the_last_tag_that_needs_them(target: Target, registry: Registry, model: str) -> None:
    weights = _layers(registry)[0]["digest"]
    target.copy(model, f"{NAMESPACE}/copy")
    assert target.delete(model).status == 200
    assert target.has_blob(weights)
    assert target.delete(f"{NAMESPACE}/copy").status == 200
    assert not target.has_blob(weights)


@pytest.mark.usefixtures("needs_store")
def test_a_deleted_tag_is_removed_from_the_store(target: Target, registry: Registry, model: str) -> None:
    target.delete(model)
    assert not target.manifest(registry.host, "library", "model", "latest").exists()


def test_pull_replaces_a_changed_tag_and_prunes(target: Target, registry: Registry, model: str) -> None:
    old = _layers(registry)[0]["digest"]
    make_model(registry.store_dir, "model", seed=registry.port + 3)
    lines = target.pulled(model)
    assert {"status": "removing unused layers"} in lines
    assert "sha256:" + target.rows(registry.host)[0]["digest"] == sha256(_served(registry))
    assert not target.has_blob(old)


def test_create_twice_gives_the_same_digest(target: Target, registry: Registry, model: str) -> None:
    request = {"model": f"{NAMESPACE}/made", "from": model, "system": "Twice.", "parameters": {"temperature": 0.5}}
    digests = set()
    for _time in range(2):
        assert json.loads(target.call("POST", "/api/create", request).lines[-1]) == {"status": "success"}
        digests.add(target.rows(f"{NAMESPACE}/made")[0]["digest"])
    assert len(digests) == 1


def test_layers_of_create_replace_those_of_the_base(target: Target, registry: Registry, model: str) -> None:
    request = {"model": f"{NAMESPACE}/made", "from": model, "system": "Mine.", "parameters": {"temperature": 0.5}}
    target.call("POST", "/api/create", request)
    shown = target.show(f"{NAMESPACE}/made").json()
    assert shown["system"] == "Mine."
    values = {line.split()[0]: line.split()[1] for line in shown["parameters"].split("\n")}
    assert values == {"num_ctx": "128", "temperature": "0.5"}
    assert _layers(registry)[0]["digest"].replace(":", "-") in shown["modelfile"]


def test_create_from_a_missing_model_tries_to_pull_it(target: Target) -> None:
    request = {"model": f"{NAMESPACE}/made", "from": "127.0.0.1:1/library/none"}
    reply = target.call("POST", "/api/create", request)
    url = "https://127.0.0.1:1/v2/library/none/manifests/latest"
    cause = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert reply.status == 200
    assert [json.loads(line) for line in reply.lines] == [
        {"status": "pulling manifest"},
        {"error": f'pull model manifest: Get "{url}": {cause}'},
    ]


def test_push_queries_the_registry_for_the_first_layer(target: Target, registry: Registry, model: str) -> None:
    target.copy(model, "127.0.0.1:1/library/none")
    reply = target.call("POST", "/api/push", {"model": "127.0.0.1:1/library/none", "insecure": True})
    target.delete("127.0.0.1:1/library/none")
    digest = _layers(registry)[0]["digest"]
    url = f"http://127.0.0.1:1/v2/library/none/blobs/{digest}"
    assert [json.loads(line) for line in reply.lines] == [
        {"status": "retrieving manifest"},
        {"error": f'Head "{url}": dial tcp 127.0.0.1:1: connect: connection refused'},
    ]


@pytest.mark.usefixtures("needs_runner")
def test_a_loaded_model_expires(target: Target, registry: Registry) -> None:
    name = f"{registry.host}/library/run"
    make_model(registry.store_dir, "run", seed=registry.port)
    target.pulled(name)
    before = datetime.datetime.now(datetime.UTC)
    target.call("POST", "/api/generate", {"model": name, "keep_alive": "20m"})
    expires = datetime.datetime.fromisoformat(target.loaded(registry.host)[0]["expires_at"][:19] + "Z")
    assert 1150 < (expires - before).total_seconds() < 1300
    target.call("POST", "/api/generate", {"model": name, "keep_alive": 0})
    assert not target.loaded(registry.host)


@pytest.mark.usefixtures("needs_runner")
def test_deleting_does_not_need_an_unload(target: Target, registry: Registry) -> None:
    name = f"{registry.host}/library/run"
    make_model(registry.store_dir, "run", seed=registry.port)
    target.pulled(name)
    target.call("POST", "/api/generate", {"model": name})
    assert target.delete(name).status == 200
    assert not target.rows(registry.host)


@pytest.mark.usefixtures("needs_runner")
def test_openai_stream_ends_with_done(target: Target, registry: Registry) -> None:
    name = f"{registry.host}/library/run"
    make_model(registry.store_dir, "run", seed=registry.port)
    target.pulled(name)
    body = {"model": name, "stream": True, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
    reply = target.call("POST", "/v1/chat/completions", body)
    assert reply.content_type == "text/event-stream"
    assert reply.lines[-1] == "data: [DONE]"
    assert json.loads(reply.lines[0][6:])["object"] == "chat.completion.chunk"
