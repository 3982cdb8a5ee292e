# SPDX-License-Identifier: GPL-3.0-or-later
"""A damaged store: what the server detects and what it does not. Each case damages a model of its own."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from tests.standin.registry import Registry, make_model

from .target import Target, sha256

pytestmark = pytest.mark.usefixtures("needs_store")


class Model:
    """Yield a pulled model whose files the case may damage: no other model shares its blobs."""

    def __init__(self, target: Target, registry: Registry) -> None:
        params = b'{"num_ctx":128,"seed":%d}' % registry.port
        config = {"base_name": f"damaged-{registry.port}"}
        make_model(registry.store_dir, "damaged", seed=registry.port, layers={"params": params}, config=config)
        self.name = f"{registry.host}/library/damaged"
        target.pulled(self.name)
        self.manifest = target.manifest(registry.host, "library", "damaged", "latest")
        data = json.loads(self.manifest.read_bytes())
        self.weights = target.blob(data["layers"][0]["digest"])
        self.params = target.blob(data["layers"][1]["digest"])
        self.config = target.blob(data["config"]["digest"])

    def clean_up(self) -> None:
        """Remove the files: a server does not delete unreadable models."""
        for path in (self.manifest.resolve(), self.manifest, self.weights, self.params, self.config):
            path.unlink(missing_ok=True)


@pytest.fixture
def model(target: Target, registry: Registry) -> t.Iterator[Model]:
    made = Model(target, registry)
    yield made
    made.clean_up()


def _intact(path: pathlib.Path) -> bool:
    return sha256(path.read_bytes()).replace(":", "-") == path.name


def _flip(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 0xFF
    path.write_bytes(data)


def _not_repaired(target: Target, model: Model, path: pathlib.Path) -> None:
    target.pulled(model.name)
    assert not _intact(path)


def test_a_changed_bit_is_not_detected(target: Target, model: Model) -> None:
    _flip(model.weights)
    assert len(target.rows(model.name)) == 1
    assert target.show(model.name).status == 200
    _not_repaired(target, model, model.weights)


@pytest.mark.usefixtures("needs_runner")
def test_a_changed_bit_still_generates(target: Target, model: Model) -> None:
    _flip(model.weights)
    body = {"model": model.name, "prompt": "x", "stream": False, "options": {"num_predict": 2}}
    assert target.call("POST", "/api/generate", body).status == 200


def test_a_truncated_blob_is_reported_with_its_new_size(target: Target, model: Model) -> None:
    os.truncate(model.weights, 1000)
    lines = [line for line in target.pulled(model.name) if line.get("digest", "")[7:] in model.weights.name]
    assert [(line["total"], line["completed"]) for line in lines if line.get("total") == 1000] == [(1000, 1000)]
    assert model.weights.stat().st_size == 1000
    assert len(target.rows(model.name)) == 1


def test_a_truncated_blob_does_not_load(target: Target, model: Model) -> None:
    os.truncate(model.weights, 1000)
    reply = target.call("POST", "/api/generate", {"model": model.name, "prompt": "x", "stream": False})
    assert reply.status == 500


def test_a_zeroed_blob_stays_zeroed(target: Target, model: Model) -> None:
    model.weights.write_bytes(bytes(model.weights.stat().st_size))
    _not_repaired(target, model, model.weights)
    assert len(target.rows(model.name)) == 1


def test_a_zeroed_blob_does_not_generate(target: Target, model: Model) -> None:
    model.weights.write_bytes(bytes(model.weights.stat().st_size))
    reply = target.call("POST", "/api/generate", {"model": model.name, "prompt": "x", "stream": False})
    assert reply.status in (400, 500)  # 500 where the server remembers what the model could do


def test_tags_list_a_model_with_a_missing_blob(target: Target, model: Model) -> None:
    model.weights.unlink()
    assert len(target.rows(model.name)) == 1
    assert not target.has_blob(model.weights.name.replace("-", ":"))


def test_a_pull_restores_a_missing_blob(target: Target, model: Model) -> None:
    model.weights.unlink()
    target.pulled(model.name)
    assert _intact(model.weights)


def test_a_pull_restores_a_missing_config(target: Target, model: Model) -> None:
    model.config.unlink()
    target.pulled(model.name)
    assert _intact(model.config)
    assert len(target.rows(model.name)) == 1


def test_a_zeroed_config_is_never_repaired(target: Target, model: Model) -> None:
    model.config.write_bytes(bytes(model.config.stat().st_size))
    for _time in range(2):
        _not_repaired(target, model, model.config)


def test_a_model_with_a_zeroed_config_is_not_listed(target: Target, model: Model) -> None:
    if target.generation == 2:
        pytest.skip("observed before 0.40 only")
    model.config.write_bytes(bytes(model.config.stat().st_size))
    target.pulled(model.name)
    assert not target.rows(model.name)


def test_corrupt_params_are_not_repaired(target: Target, model: Model) -> None:
    model.params.write_bytes(b"x" * model.params.stat().st_size)
    _not_repaired(target, model, model.params)


def test_corrupt_params_break_the_model(target: Target, model: Model) -> None:
    model.params.write_bytes(b"x" * model.params.stat().st_size)
    reply = target.call("POST", "/api/generate", {"model": model.name, "prompt": "x", "stream": False})
    assert reply.status == 500


def test_an_empty_manifest_is_rewritten_by_a_pull(target: Target, model: Model) -> None:
    model.manifest.write_bytes(b"")
    assert not target.rows(model.name)
    target.pulled(model.name)
    assert len(target.rows(model.name)) == 1


def test_an_empty_manifest_can_not_be_deleted(target: Target, model: Model) -> None:
    if target.generation == 2:
        pytest.skip("observed before 0.40 only")
    model.manifest.write_bytes(b"")
    shown, deleted = target.show(model.name), target.delete(model.name)
    assert (shown.status, shown.error) == (500, "EOF")
    assert (deleted.status, deleted.error) == (500, "EOF")
    target.pulled(model.name)


def test_a_changed_manifest_is_detected_from_040(target: Target, model: Model) -> None:
    if target.generation == 1:
        pytest.skip("before 0.40 a manifest is a plain file that nothing is compared with")
    model.manifest.write_bytes(model.manifest.read_bytes() + b"\n")
    shown = target.show(model.name)
    assert (shown.status, shown.error) == (500, "digest mismatch")
    assert not target.rows(model.name)
    target.pulled(model.name)
    assert target.show(model.name).status == 200


def test_models_appear_without_a_restart(target: Target, registry: Registry, model: Model) -> None:
    """Blobs first, then the manifest: the next tags lists it."""
    again = target.manifest(registry.host, "library", "imported", "latest")
    again.parent.mkdir(parents=True, exist_ok=True)
    if target.generation == 1:
        again.write_bytes(model.manifest.read_bytes())
    else:
        again.symlink_to(os.readlink(model.manifest))
    found = target.rows("library/imported")
    again.unlink()
    assert [row["digest"] for row in found] == [row["digest"] for row in target.rows(model.name)]
