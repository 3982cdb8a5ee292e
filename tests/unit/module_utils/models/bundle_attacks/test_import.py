# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on a store during the import of a bundle."""

from __future__ import annotations

import os
import shutil

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import acting_as

from tests import standin
from tests.unit.module_utils.models.bundle.world import TINY
from tests.unit.module_utils.models.bundle_attacks.host import PLACES, SERVICE, Host, give, meanwhile, refused

NEWER = [
    "manifests-v2",
    "manifests-v2/ollama.com",
    "manifests-v2/ollama.com/library",
    "manifests-v2/ollama.com/library/tiny",
]


@pytest.mark.parametrize("tool", ["model_import", "model"])
@pytest.mark.parametrize("place", [*PLACES, *NEWER])
def test_a_link_in_the_place_of_a_directory(host: Host, place: str, tool: str) -> None:
    host.export_to("bundle.tar")
    with acting_as(SERVICE):
        (host.there / place).parent.mkdir(parents=True, exist_ok=True)
        (host.there / place).symlink_to(host.victim)
    if tool == "model":
        version = "0.40.2" if place in NEWER else "0.35.1"
        with standin.running(version, str(host.folder / "other")) as server:
            result = host.have(server.url, name="tiny", source=str(host.folder / "bundle.tar"))
    else:
        result = host.import_from("bundle.tar")
    refused(result, "store_unsafe", "store_unwritable", "store_unreadable")
    host.untouched()


@pytest.mark.parametrize("planted", ["link", "fifo", "directory"])
@pytest.mark.parametrize("what", ["blob", "tag"])
def test_something_else_in_the_place_of_a_file(host: Host, planted: str, what: str) -> None:
    host.export_to("bundle.tar")
    blob = max((host.here / "blobs").iterdir(), key=lambda path: path.stat().st_size).name
    place = host.there / ("blobs" if what == "blob" else PLACES[-1]) / (blob if what == "blob" else "latest")
    with acting_as(SERVICE):
        place.parent.mkdir(parents=True)
        if planted == "link":
            place.symlink_to(host.secret)
        elif planted == "fifo":
            os.mkfifo(place)
        else:
            place.mkdir()
    result = host.import_from("bundle.tar")
    if planted == "directory":
        refused(result, "store_unwritable")
    else:
        assert not result["failed"], result
        assert place.is_file()
        assert not place.is_symlink()
        assert host.digests()["tiny:latest"] == TINY
    host.untouched()


def test_links_that_are_swapped_in_during_the_copy(host: Host) -> None:
    """Whatever lies in the store's staging directory is exchanged for links to what only root can read."""
    host.export_to("bundle.tar")

    def swap() -> None:
        for stage in host.there.glob(".kaido-import*"):
            for item in stage.iterdir():
                item.unlink()
                item.symlink_to(host.secret)
                item.unlink()
                item.symlink_to(host.victim / "new")

    with meanwhile(swap):
        results = []
        for _time in range(8):
            # The other thread may remove a file at that moment.
            shutil.rmtree(host.there, ignore_errors=True)
            host.there.mkdir(mode=0o750, exist_ok=True)
            give(host.there)
            results.append(host.import_from("bundle.tar"))
            host.untouched()
    for result in results:
        if result["failed"]:
            refused(result, "store_unwritable", "store_unsafe", "bundle_tampered")


def test_directories_that_are_swapped_during_the_copy(host: Host) -> None:
    host.export_to("bundle.tar")

    def swap() -> None:
        for place in ("blobs", "manifests"):
            path, aside = host.there / place, host.there / f"{place}-aside"
            path.rename(aside)
            path.symlink_to(host.victim)
            path.unlink()
            aside.rename(path)

    with meanwhile(swap):
        for _time in range(8):
            result = host.import_from("bundle.tar")
            if result["failed"]:
                refused(result, "store_unwritable", "store_unsafe", "store_unreadable", "bundle_tampered")
            host.untouched()


def test_imported_files_belong_to_the_service_account(host: Host) -> None:
    host.export_to("bundle.tar")
    assert host.import_from("bundle.tar")["changed"]
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in host.there.rglob("*")}
    assert owners == {(SERVICE.uid, SERVICE.gid)}
    assert not list(host.there.glob(".kaido*"))
