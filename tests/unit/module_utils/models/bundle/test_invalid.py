# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid bundles, stores, destinations and options are refused before anything is written."""

from __future__ import annotations

import hashlib
import os
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle as bundle_module
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle_import
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests.unit.module_utils.models.bundle.world import World, flip_bit, resum


def swap_manifest(folder: Path) -> None:
    """Another manifest with matching checksums: only a pinned checksum detects it."""
    (folder / "manifests/registry.ollama.ai/library/tiny/latest").write_bytes(
        (folder / "manifests/registry.ollama.ai/kaido/tiny2/q8").read_bytes()
    )
    resum(folder)


def drop_a_blob_and_its_sum(folder: Path) -> None:
    max((folder / "blobs").iterdir(), key=lambda path: path.stat().st_size).unlink()
    resum(folder)


def add(member: str) -> t.Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        (folder / member).write_text("x")
        resum(folder)

    return change


def link_out(folder: Path) -> None:
    blob = min((folder / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.unlink()
    blob.symlink_to("/etc/passwd")


HARM: dict[str, tuple[t.Callable[[Path], t.Any], str, str]] = {
    "no sums": (lambda f: (f / "SHA256SUMS").unlink(), "bundle_incomplete", "SHA256SUMS is missing"),
    "junk sums": (lambda f: (f / "SHA256SUMS").write_text("hello\n"), "bundle_tampered", "not a list of checksums"),
    "a file is gone": (
        lambda f: (f / "manifests/registry.ollama.ai/kaido/tiny2/q8").unlink(),
        "bundle_incomplete",
        "q8 is missing",
    ),
    "a blob is gone": (drop_a_blob_and_its_sum, "bundle_incomplete", "is missing"),
    "a bit differs": (flip_bit, "bundle_tampered", "checksum mismatch of blobs/"),
    "a manifest is another": (swap_manifest, "bundle_tampered", "expected sha256:"),
    "a file more": (lambda f: (f / "blobs/extra").write_text("x"), "bundle_tampered", "unexpected file blobs/extra"),
    "a file more, with sum": (add("blobs/extra"), "bundle_tampered", "unexpected file blobs/extra"),
    "a blob under a wrong name": (add(f"blobs/sha256-{'0' * 64}"), "bundle_tampered", "differs from its name"),
    "a manifest outside": (add("manifests/registry.ollama.ai/x/y"), "bundle_tampered", "unexpected file manifests/"),
    "a manifest that is none": (
        add("manifests/registry.ollama.ai/library/x/y"),
        "manifest_invalid",
        "unreadable manifest",
    ),
    "a link": (link_out, "bundle_tampered", "is not a regular file"),
}


@pytest.mark.parametrize("as_tar", [False, True], ids=["directory", "tar"])
@pytest.mark.parametrize("harm", HARM, ids=lambda name: name.replace(" ", "_"))
def test_an_invalid_bundle_is_refused_before_anything_is_written(world: World, harm: str, as_tar: bool) -> None:
    change, code, words = HARM[harm]
    pin = world.export_to("bundle")["checksum"] if harm == "a manifest is another" else None
    if pin is None:
        world.export_to("bundle")
    change(world.folder / "bundle")
    src = "bundle"
    if as_tar:
        src = "bundle.tar"
        with tarfile.open(world.folder / src, "w") as tar:
            for path in sorted((world.folder / "bundle").rglob("*")):
                tar.add(path, path.relative_to(world.folder / "bundle"), recursive=False)
    failed = world.import_from(src, **({"checksum": pin} if pin else {}))
    assert (failed["failed"], failed["failure"]["code"]) == (True, code)
    assert words in failed["msg"]
    assert "\n" not in failed["msg"]
    assert world.written() == []


def test_a_tar_with_paths_outside_of_the_target(world: World) -> None:
    with tarfile.open(world.folder / "bad.tar", "w") as tar:
        (world.folder / "x").write_text("x")
        tar.add(world.folder / "x", "../../evil")
        sums = world.folder / "SHA256SUMS"
        sums.write_text(f"{hashlib.sha256(b'x').hexdigest()}  ../../evil\n")
        tar.add(sums, "SHA256SUMS")
    failed = world.import_from("bad.tar")
    assert failed["failure"]["code"] == "bundle_tampered"
    assert world.written() == []


def test_a_truncated_tar(world: World) -> None:
    world.export_to("bundle.tar")
    os.truncate(world.folder / "bundle.tar", 600_000)
    failed = world.import_from("bundle.tar")
    assert failed["failure"]["code"] in ("bundle_unreadable", "bundle_incomplete")
    assert world.written() == []


def test_a_bundle_that_changes_after_the_check(world: World) -> None:
    """Blobs are hashed again while they are copied; a wrong one never gets its name."""
    world.export_to("bundle")
    store = Store(str(world.there))
    memory = Memory.of(store, str(world.folder / "state"))
    with bundle_module.Bundle(str(world.folder / "bundle")) as bundle:
        contents = bundle_module.check(bundle)
        missing = bundle_import.compare(contents, store, memory)
        flip_bit(world.folder / "bundle")
        with pytest.raises(OllamaError, match="has changed since"):
            bundle_import.import_(bundle, contents, missing, store, memory)
    assert not [name for name in world.written() if name.startswith(("manifests", ".kaido"))]
    for path in (world.there / "blobs").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name[7:]


def test_what_is_damaged_is_not_exported(world: World) -> None:
    flip_bit(world.here)
    failed = world.export_to("bundle")
    assert failed["failure"]["code"] == "model_damaged"
    assert sorted(os.listdir(world.folder)) == ["here", "there"]


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"models": ["nope"]}, "model_missing", "nope:latest is not in"),
        ({"models": ["a b"]}, "name_invalid", "'a b'"),
        (
            {"release": {"version": "1.2.3", "path": "/nowhere", "checksums": {"x": "0" * 64}}},
            "file_unreadable",
            "/nowhere/x",
        ),
        ({"models_dir": "/nowhere"}, "store_unreadable", "/nowhere"),
    ],
)
def test_invalid_input_is_named(world: World, params: dict[str, t.Any], code: str, words: str) -> None:
    failed = world.export_to("bundle", **params)
    assert failed["failure"]["code"] == code
    assert words in failed["msg"]


def test_a_foreign_destination_is_kept(world: World) -> None:
    (world.folder / "bundle").mkdir()
    (world.folder / "bundle" / "letter").write_text("dear")
    (world.folder / "bundle.tar").write_text("dear")
    for dest in ("bundle", "bundle.tar"):
        assert world.export_to(dest)["failure"]["code"] == "dest_taken"
    assert (world.folder / "bundle" / "letter").read_text() == (world.folder / "bundle.tar").read_text() == "dear"


def test_a_full_disk_is_reported_before_anything_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.export_to("bundle")
    monkeypatch.setattr(Store, "free_bytes", lambda self: 1000)
    assert world.import_from("bundle")["failure"]["code"] == "disk_full"
    assert world.written() == []


def test_a_host_without_a_store(world: World) -> None:
    world.export_to("bundle")
    failed = world.import_from("bundle", models_dir=str(world.folder / "nothing"))
    assert failed["failure"]["code"] == "store_unreadable"
    predicted = world.import_from("bundle", models_dir=str(world.folder / "nothing"), check=True)
    assert (predicted["changed"], predicted["bytes_copied"] > 900_000) == (True, True)
