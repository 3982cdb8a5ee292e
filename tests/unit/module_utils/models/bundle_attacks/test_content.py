# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles that another account can change, and damaged tars."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import acting_as
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle as bundle_module

from tests.standin.registry import make_model
from tests.unit.module_utils.models.bundle_attacks.host import SERVICE, Host, give, meanwhile, refused


@pytest.mark.parametrize("planted", ["link", "fifo", "directory", "link to a directory"])
def test_what_is_planted_in_a_bundle(host: Host, planted: str) -> None:
    host.export_to("bundle")
    bundle = host.folder / "bundle"
    give(bundle)
    blob = max((bundle / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    with acting_as(SERVICE):
        if planted == "link to a directory":
            (bundle / "blobs").rename(host.here / "elsewhere")
            (bundle / "blobs").symlink_to(host.here / "elsewhere")
        else:
            blob.unlink()
            {"link": lambda: blob.symlink_to(host.secret), "fifo": lambda: os.mkfifo(blob), "directory": blob.mkdir}[
                planted
            ]()
    refused(host.import_from("bundle"), "bundle_tampered", "bundle_incomplete")
    assert host.written() == []


@pytest.mark.parametrize("planted", ["link", "fifo", "missing", "device"])
def test_what_is_planted_as_a_bundle(host: Host, planted: str) -> None:
    host.export_to("bundle.tar")
    path = host.folder / "planted.tar"
    if planted == "link":
        path.symlink_to(host.folder / "bundle.tar")
    elif planted == "fifo":
        os.mkfifo(path)
    elif planted == "device":
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
    refused(host.import_from("planted.tar"), "bundle_unreadable")
    assert host.written() == []


@pytest.mark.parametrize("form", ["bundle", "bundle.tar"])
def test_a_bundle_that_is_changed_all_the_time(host: Host, form: str) -> None:
    """No tag of the store ever stands for something else than the pinned bundle has."""
    made = host.export_to(form)
    path = host.folder / form
    give(path)
    os.lchown(path, SERVICE.uid, SERVICE.gid)
    path.chmod(path.stat().st_mode | 0o055)

    def swap() -> None:
        files = [path] if form == "bundle.tar" else [item for item in path.rglob("*") if item.is_file()]
        for file in files:
            with open(file, "r+b") as handle:
                body = handle.read(4096)
                for start in (bytes(4096), body):
                    handle.seek(0)
                    handle.write(start[: len(body)])
                    handle.flush()

    with meanwhile(swap):
        for _time in range(8):
            result = host.import_from(form, checksum=made["checksum"])
            if result["failed"]:
                refused(result, "bundle_tampered", "bundle_unreadable", "bundle_incomplete", "manifest_invalid")
            for name, digest in host.digests().items():
                assert made["models"][name] == digest
    for blob in (host.there / "blobs").glob("sha256-*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name[7:]


def test_mutated_tars_end_in_one_coded_line(host: Host) -> None:
    make_model(host.folder / "small", "m", size=600)
    assert not host.export_to("base.tar", models_dir=str(host.folder / "small"))["failed"]
    base = (host.folder / "base.tar").read_bytes()
    with io.BytesIO(base) as file, tarfile.open(fileobj=file) as tar:
        heads = [member.offset for member in tar]
    dice = random.Random(20261126)
    path = host.folder / "mutated.tar"
    outcomes = set()
    for number in range(1500):
        data = bytearray(base)
        for _time in range(dice.choice([1, 2, 4])):
            head = dice.choice(heads)
            at = head + dice.choice([0, 1, 100, 124, 125, 135, 136, 156, 157, 257, 345, dice.randrange(512)])
            data[at] = dice.choice([0, 0x20, 0x2F, 0x30, 0x37, 0x4C, 0x53, 0x78, 0x80, 0xFF, dice.randrange(256)])
            if number % 3:
                block = data[head : head + 148] + b" " * 8 + data[head + 156 : head + 512]
                data[head + 148 : head + 156] = b"%06o\0 " % sum(block)
        path.write_bytes(data[: dice.choice([len(data), dice.randrange(len(data))])])
        try:
            with bundle_module.Bundle(str(path)) as bundle:
                bundle_module.check(bundle)
            outcomes.add("intact")
        except OllamaError as exc:
            outcomes.add(exc.code if exc.message.isprintable() else exc.message)
    assert outcomes == {"intact", "bundle_tampered", "bundle_unreadable", "bundle_incomplete"}
