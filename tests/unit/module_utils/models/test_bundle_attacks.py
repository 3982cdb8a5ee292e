# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles against the service account and a local user: with two real user IDs, so these tests need root."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import random
import shutil
import tarfile
import threading
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity, acting_as
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle as bundle_module
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle_writer
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests import standin
from tests.standin.registry import make_model
from tests.unit.conftest import RunModule
from tests.unit.module_utils.models.test_bundle import TINY, World, resum

SERVICE = Identity(64101, 64101)
SECRET = b"only root may read this\n" * 4000


class Host(World):
    """Two stores of the service account, and what is root's alone."""

    def __init__(self, folder: Path, run_module: RunModule) -> None:
        super().__init__(folder, run_module)
        self.victim = folder / "victim"
        self.victim.mkdir(mode=0o755)
        self.secret = self.victim / "secret"
        self.secret.write_bytes(SECRET)
        self.secret.chmod(0o600)
        self.out = folder / "out"
        self.out.mkdir(mode=0o755)
        for store in (self.here, self.there):
            give(store)

    def untouched(self) -> None:
        """Assert that nothing of root's has changed."""
        assert sorted(os.listdir(self.victim)) == ["secret"]
        for path in (self.victim, self.secret):
            assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)
        assert self.secret.stat().st_mode & 0o777 == 0o600
        assert self.victim.stat().st_mode & 0o777 == 0o755
        assert self.secret.read_bytes() == SECRET


def give(path: Path) -> None:
    for item in (path, *path.rglob("*")):
        os.lchown(item, SERVICE.uid, SERVICE.gid)


@pytest.fixture(name="host")
def _host(tmp_path: Path, run_module: RunModule) -> Host:
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return Host(tmp_path, run_module)


def refused(result: dict[str, t.Any], *codes: str) -> None:
    assert result["failed"], result
    assert result["failure"]["code"] in codes, result
    assert result["msg"].isprintable()


@contextlib.contextmanager
def meanwhile(step: Callable[[], object]) -> Iterator[None]:
    """Let the service account do something again and again, in a thread of its own."""
    end = threading.Event()

    def work() -> None:
        with acting_as(SERVICE):
            while not end.is_set():
                with contextlib.suppress(OSError):
                    step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


# --- C3: a store into which something is brought


PLACES = [
    "blobs",
    "manifests",
    "manifests/registry.ollama.ai",
    "manifests/registry.ollama.ai/library",
    "manifests/registry.ollama.ai/library/tiny",
]


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
            shutil.rmtree(host.there)
            host.there.mkdir(mode=0o750)
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


# --- bundles that another account can change


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


# --- H1 and H3: exporting


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
@pytest.mark.parametrize("planted", ["link", "hard link", "fifo", "longer", "shorter"])
def test_a_blob_that_is_something_else(host: Host, planted: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """H1: also where the store looked right a moment before; nothing of root's is ever in a file that others read."""
    blob = max((host.here / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    size = blob.stat().st_size
    host.secret.write_bytes(os.urandom(size))
    secret = host.secret.read_bytes()
    fill = bundle_writer._write_members

    def plant(*arguments: t.Any) -> None:
        if planted == "hard link":
            # Where the kernel does not protect hard links.
            blob.unlink()
            os.link(host.secret, blob)
        else:
            with acting_as(SERVICE):
                if planted in ("longer", "shorter"):
                    os.truncate(blob, size + (4096 if planted == "longer" else -4096))
                else:
                    blob.unlink()
                    blob.symlink_to(host.secret) if planted == "link" else os.mkfifo(blob)
        fill(*arguments)

    monkeypatch.setattr(bundle_writer, "_write_members", plant)
    result = host.export_to(dest)
    if planted == "longer":
        assert not result["failed"], "as many bytes as the manifest says are right"
    else:
        refused(result, "model_damaged")
        assert os.listdir(host.out) == []
    assert host.secret.read_bytes() == secret


@pytest.mark.parametrize("place", [*PLACES, "manifests/registry.ollama.ai/library/tiny/latest"])
def test_a_link_in_a_store_that_is_exported(host: Host, place: str) -> None:
    with acting_as(SERVICE):
        (host.here / place).rename(host.here / "aside")
        (host.here / place).symlink_to(host.victim if place != PLACES[-1] + "/latest" else host.secret)
    result = host.export_to("out/bundle.tar")
    if not result["failed"]:
        assert set(result["models"]) <= {"kaido/tiny2:q8"}
    shutil.rmtree(host.folder / "state", ignore_errors=True)
    for path in host.out.iterdir():
        assert SECRET[:100] not in path.read_bytes()
    host.untouched()


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_only_root_can_read_a_bundle_at_any_time(host: Host, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: set[tuple[bool, int]] = set()
    pour = bundle_writer._Hashing.read

    def watch(self: t.Any, size: int) -> bytes:
        [stage] = host.out.iterdir()
        modes.update((path.is_dir(), path.lstat().st_mode & 0o777) for path in (stage, *stage.rglob("*")))
        return pour(self, size)

    monkeypatch.setattr(bundle_writer._Hashing, "read", watch)
    before = os.umask(0)
    try:
        assert host.export_to(dest)["changed"]
    finally:
        os.umask(before)
    path = host.folder / dest
    modes.update((item.is_dir(), item.stat().st_mode & 0o777) for item in (path, *path.rglob("*")))
    assert modes == {(True, 0o700), (False, 0o600)}
    assert sorted(os.listdir(host.out)) == [path.name]


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
@pytest.mark.parametrize("planted", ["link", "dangling link", "part", "fifo"])
def test_a_planted_file_at_the_destination_of_a_bundle(host: Host, dest: str, planted: str) -> None:
    host.out.chmod(0o1777)
    path = host.folder / dest
    with acting_as(SERVICE):
        if planted == "part":
            Path(f"{path}.part").symlink_to(host.victim)
        elif planted == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(host.victim if planted == "link" else host.victim / "new")
    result = host.export_to(dest)
    if planted == "part":
        assert not result["failed"], result
    else:
        refused(result, "dest_taken")
    host.untouched()


def test_a_directory_whose_owner_renames_everything(host: Host) -> None:
    """An export into a directory of the service account: what it exchanges is not followed."""
    give(host.out)

    def swap() -> None:
        for item in host.out.glob(".kaido-export-*"):
            item.rename(host.out / "aside")
            item.symlink_to(host.victim)
            item.unlink()
            (host.out / "aside").rename(item)

    with meanwhile(swap):
        for number in range(8):
            result = host.export_to(f"out/bundle{number}{'.tar' if number % 2 else ''}")
            if result["failed"]:
                refused(result, "dest_unwritable", "dest_taken")
            host.untouched()


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_leftovers_of_a_killed_run_go(host: Host, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(bundle_writer._Stage, "move_to", kill)
        patch.setattr(bundle_writer._Stage, "__exit__", lambda *_arguments: None)
        with pytest.raises(Killed):
            host.export_to(dest)
    [left] = os.listdir(host.out)
    planted = host.out / (left[:-4] + "theirs")
    planted.mkdir()
    (planted / "file").write_text("theirs")
    give(planted)
    assert host.export_to(dest)["changed"]
    assert sorted(os.listdir(host.out)) == sorted([planted.name, Path(dest).name])


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_two_exports_to_one_place(host: Host, dest: str) -> None:
    """Both end well, one of them has written it, and it is complete."""
    store = Store(str(host.here))
    written: list[bool] = []
    go = threading.Barrier(4)

    def work() -> None:
        export = bundle_writer.collect(store, [], {})
        go.wait()
        path = str(host.folder / dest)
        written.append(
            bundle_writer.write(export, path, tar=dest.endswith(".tar"), state_dir=str(host.folder / "state"))
        )

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [False, False, False, True]
    assert os.listdir(host.out) == [Path(dest).name]
    assert host.import_from(dest)["changed"]


@pytest.mark.parametrize("more", ["letter", "blobs/letter", "manifests/letter", "releases/v1.2.3/x/letter"])
def test_a_directory_with_more_than_a_bundle_is_not_replaced(host: Host, more: str) -> None:
    host.export_to("out/bundle")
    letter = host.out / "bundle" / more
    letter.parent.mkdir(parents=True, exist_ok=True)
    letter.write_text("dear")
    resum(host.out / "bundle")
    refused(host.export_to("out/bundle", models=["tiny"]), "dest_taken")
    assert letter.read_text() == "dear"


# --- disks and damaged tars


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        (errno.ENOSPC, ("disk_full",)),
        (errno.EROFS, ("dest_unwritable", "store_unwritable")),
        (errno.EIO, ("dest_unwritable", "store_unwritable")),
    ],
)
@pytest.mark.parametrize("call", ["mkdir", "rename", "open"])
@pytest.mark.parametrize("tool", ["export", "import"])
def test_a_file_system_without_extended_attributes(
    host: Host, tool: str, call: str, error: int, codes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.export_to("bundle.tar")
    real = getattr(os, call)

    def fail(path: t.Any, *arguments: t.Any, **options: t.Any) -> t.Any:
        reads = call == "open" and not arguments[0] & os.O_CREAT
        if not reads and {"dir_fd", "src_dir_fd"} & options.keys() and options.get("dir_fd", 0) is not None:
            raise OSError(error, os.strerror(error), path)
        return real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        result = host.export_to("out/other.tar") if tool == "export" else host.import_from("bundle.tar")
    refused(result, *codes)
    assert os.listdir(host.out) == []
    assert host.digests() == {}


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


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_a_file_system_without_owners_and_modes(host: Host, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example a USB drive: all files belong to the user of the mount."""
    real = os.mkdir

    def mkdir(path: t.Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        if dir_fd is not None:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=dir_fd)
            os.fchown(handle, SERVICE.uid, SERVICE.gid)
            os.fchmod(handle, 0o755)
            os.close(handle)

    monkeypatch.setattr(os, "mkdir", mkdir)
    give(host.out)
    assert host.export_to(dest)["changed"]
    assert os.listdir(host.out) == [Path(dest).name]


def test_a_directory_that_is_exchanged_for_one_of_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns the folder can rename what root has there; none of it is emptied."""
    give(host.out)
    kept = host.out / "kept"
    kept.mkdir()
    (kept / "letter").write_text("dear")
    real = os.mkdir

    def mkdir(path: t.Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        if str(path).startswith(".kaido-export-"):
            (host.out / path).rmdir()
            kept.rename(host.out / path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    refused(host.export_to("out/bundle"), "dest_unwritable")
    [left] = host.out.iterdir()
    assert (left / "letter").read_text() == "dear"
