# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export and import: both generations of stores, idempotence, releases and repair."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client

from tests import standin
from tests.standin.registry import make_model
from tests.unit.module_utils.models.bundle.world import Q8, TINY, World


@pytest.mark.parametrize("dest", ["bundle", "bundle.tar"])
def test_export_and_import(world: World, dest: str) -> None:
    made = world.export_to(dest)
    assert made["changed"]
    assert made["models"] == {"tiny:latest": TINY, "kaido/tiny2:q8": Q8}
    before = world.import_from(dest, check=True)
    assert before["changed"]
    assert world.written() == []

    done = world.import_from(dest, checksum=made["checksum"])
    assert done["changed"]
    assert done["bytes_copied"] > 900_000
    assert world.digests() == {"tiny:latest": TINY, "kaido/tiny2:q8": Q8}
    assert (world.there / "blobs").stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in (world.there / "blobs").iterdir()} == {0o640}

    again = world.import_from(dest)
    assert (again["changed"], again["bytes_copied"]) == (False, 0)


@pytest.mark.parametrize("dest", ["bundle", "bundle.tar"])
def test_exporting_is_idempotent(world: World, dest: str) -> None:
    first = world.export_to(dest, check=True)
    assert first["changed"]
    assert not (world.folder / dest).exists()
    world.export_to(dest)
    stamp = (world.folder / dest).stat().st_mtime_ns
    again = world.export_to(dest)
    assert (again["changed"], again["checksum"]) == (False, first["checksum"])
    assert (world.folder / dest).stat().st_mtime_ns == stamp
    other = world.export_to(dest, models=["tiny"])
    assert other["changed"]
    assert world.export_to(dest, models=["tiny"])["changed"] is False


def test_sha256sum_reads_the_sums(world: World) -> None:
    world.export_to("bundle")
    folder = world.folder / "bundle"
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == listed | {"SHA256SUMS"}


def test_a_new_store_of_the_new_generation_gets_links(world: World) -> None:
    """The manifest among the blobs, the tag as a link to it, as a server of 0.40 writes them itself."""
    world.export_to("bundle", models=["tiny"])
    (world.there / "manifests-v2").mkdir()
    assert world.import_from("bundle")["changed"]
    tag = world.there / "manifests-v2/ollama.com/library/tiny/latest"
    assert os.readlink(tag) == f"../../../../blobs/{TINY.replace(':', '-')}"
    assert world.digests() == {"tiny:latest": TINY}
    assert world.import_from("bundle")["changed"] is False


@pytest.mark.parametrize("version", ["0.35.1", "0.40.2"])
def test_a_running_server_lists_them(world: World, version: str) -> None:
    world.export_to("bundle.tar")
    with standin.running(version, str(world.there)) as server:
        client = Client(server.url)
        assert client.tags() == []
        world.import_from("bundle.tar")
        assert {row["name"]: f"sha256:{row['digest']}" for row in client.tags()} == {
            "tiny:latest": TINY,
            "kaido/tiny2:q8": Q8,
        }
        answer = client.generate({"model": "tiny", "prompt": "x", "stream": False}, timeout=30)
        assert answer["response"]


def test_damage_in_the_store_is_repaired_from_the_bundle(world: World) -> None:
    world.export_to("bundle")
    world.import_from("bundle")
    blob = max((world.there / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    body = bytearray(blob.read_bytes())
    body[1000] ^= 1
    blob.write_bytes(body)
    done = world.import_from("bundle")
    assert (done["changed"], done["bytes_copied"]) == (True, len(body))
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name[7:]


def test_a_model_of_the_same_name_becomes_the_bundles(world: World) -> None:
    make_model(world.there, "tiny", size=40_000, seed=5)
    make_model(world.there, "other", size=40_000, seed=6)
    world.export_to("bundle", models=["tiny"])
    done = world.import_from("bundle")
    assert done["models"][0]["digest_before"] != done["models"][0]["digest_after"] == TINY
    assert world.digests()["tiny:latest"] == TINY
    assert "other:latest" in world.digests()


def test_releases_travel_with_their_sums(world: World) -> None:
    archive = world.folder / "ollama-linux-amd64.tar.zst"
    archive.write_bytes(b"release")
    checksums = {archive.name: "sha256:" + hashlib.sha256(b"release").hexdigest()}
    release = {"version": "0.35.1", "path": str(world.folder), "checksums": checksums}
    predicted = world.export_to("bundle", check=True, release={**release, "path": "/nowhere"})
    made = world.export_to("bundle", release=release)
    assert made["changed"]
    assert predicted["checksum"] == made["checksum"]
    assert not world.export_to("bundle", check=True, release={**release, "path": "/nowhere"})["changed"]
    done = world.import_from("bundle")
    assert done["releases"] == ["releases/v0.35.1/ollama-linux-amd64.tar.zst"]
    failed = world.export_to("other", release={**release, "checksums": {archive.name: "0" * 64}})
    assert failed["failure"]["code"] == "model_damaged"
    assert not (world.folder / "other").exists()
