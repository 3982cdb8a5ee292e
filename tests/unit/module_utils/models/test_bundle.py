# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles: written from both generations of stores, imported into both, and refused if anything is invalid."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle as bundle_module
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle_import
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store.layout import MANIFEST_LIST
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model, model_export, model_import

from tests import standin
from tests.conftest import ROOT
from tests.standin.registry import make_list, make_model
from tests.unit.conftest import RunModule

FIXTURES = ROOT / "tests" / "fixtures"
TINY = "sha256:955b7d0ce6491dde9bb72dc68240c1a84efb00c3d30e0601df71aae366078427"
Q8 = "sha256:e04039b2c9f3cbeba2a6fff922cd616394d1b9b84eb1c5431e7fc0b271e0485e"


class World:
    """Two stores, and the modules between them."""

    def __init__(self, folder: Path, run_module: RunModule) -> None:
        self.folder = folder
        self.here, self.there = folder / "here", folder / "there"
        self._run = run_module
        shutil.copytree(FIXTURES / "store-v1", self.here)
        self.there.mkdir(mode=0o750)

    def export_to(self, dest: str, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        params.setdefault("models_dir", str(self.here))
        return self._run(model_export, {"dest": str(self.folder / dest), **params}, check=check)

    def import_from(self, src: str, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        params = {"src": str(self.folder / src), "models_dir": str(self.there), **params}
        return self._run(model_import, {"state_dir": str(self.folder / "state"), **params}, check=check)

    def have(self, url: str, **params: t.Any) -> dict[str, t.Any]:
        """Run the module model over the second store."""
        params = {"api_url": url, "models_dir": str(self.there), "state_dir": str(self.folder / "state"), **params}
        return self._run(model, params)

    def digests(self) -> dict[str, str]:
        return {str(entry.name): entry.problem or entry.digest for entry in Store(str(self.there)).entries()}

    def written(self) -> list[str]:
        return sorted(str(path.relative_to(self.there)) for path in self.there.rglob("*"))


@pytest.fixture
def world(tmp_path: Path, run_module: RunModule) -> World:
    return World(tmp_path, run_module)


@pytest.mark.parametrize("dest", ["bundle", "bundle.tar"])
def test_drain_and_enable_again(world: World, dest: str) -> None:
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


def pulled_list(store: Path, runners: t.Sequence[str] = ("ggml", "llamacpp"), name: str = "m") -> tuple[str, str]:
    """A list as a server pulls it, of all variants only the last one; returns the digests of both."""
    for seed, runner in enumerate(runners):
        make_model(store, f"{name}-{runner}", size=40_000 + seed, seed=seed, generation=2, runner=runner)
    digest = make_list(store, name, {runner: f"{name}-{runner}" for runner in runners})
    *others, last = (Store(str(store)).find(parse(f"{name}-{runner}")) for runner in runners)
    assert last
    for entry in others:
        assert entry
        for blob in {blob.digest for blob in entry.blobs} - {blob.digest for blob in last.blobs}:
            os.unlink(Store(str(store)).blob_path(blob))
    shutil.rmtree(store / "manifests-v2/ollama.com/library" / f"{name}-{runners[0]}")
    return f"sha256:{digest}", last.digest


@pytest.mark.parametrize("version", ["0.35.1", "0.40.2"])
def test_a_pin_to_a_list_holds_after_the_import(world: World, tmp_path: Path, version: str) -> None:
    """In both generations of stores, with a server that has never seen a registry."""
    listed, child = pulled_list(tmp_path / "new")
    if version >= "0.40":
        (world.there / "manifests-v2").mkdir()
    made = world.export_to("bundle.tar", models=["m"], models_dir=str(tmp_path / "new"))
    assert made["models"] == {"m:latest": child}
    assert made["bytes"] < 90_000, "one variant, not two"
    done = world.import_from("bundle.tar")
    assert done["diff"]["after"] == {"m:latest": child}
    assert done["models"][0]["digest"] == listed
    with standin.running(version, str(world.there)) as server:
        assert [row["digest"] for row in Client(server.url).tags()] == [child[7:]]
        for pin in (listed, child):
            kept = world.have(server.url, name="m", digest=pin)
            assert (kept["failed"], kept["changed"]) == (False, False), kept
    if version >= "0.40":
        tag = world.there / "manifests-v2/ollama.com/library/m/latest"
        assert os.readlink(tag) == f"../../../../blobs/{listed.replace(':', '-')}"
    assert world.import_from("bundle.tar")["changed"] is False


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_a_converted_model_is_exported_with_its_original(world: World, tmp_path: Path, newer: bool) -> None:
    """A server of 0.40 has made a list of it: the registry's digest, which pins have, is the original's."""
    original = "sha256:" + make_model(tmp_path / "new", "m", size=40_000, seed=1, generation=2)
    make_model(tmp_path / "new", "converted", size=40_100, seed=2, generation=2, runner="llamacpp")
    make_list(tmp_path / "new", "m", {"ggml": "m", "llamacpp": "converted"})
    if newer:
        (world.there / "manifests-v2").mkdir()
    made = world.export_to("bundle", models=["m"], models_dir=str(tmp_path / "new"))
    assert made["bytes"] > 80_000
    world.import_from("bundle")
    entry = Store(str(world.there)).find(parse("m"))
    assert entry
    assert original in entry.digests
    assert (entry.digest == made["models"]["m:latest"]) == newer, "older servers get what they can run"
    assert world.import_from("bundle")["changed"] is False


def test_a_model_that_was_converted_after_the_import_stays(world: World, tmp_path: Path) -> None:
    _listed, child = pulled_list(tmp_path / "new", ["ggml"])
    (world.there / "manifests-v2").mkdir()
    world.export_to("bundle", models=["m"], models_dir=str(tmp_path / "new"))
    world.import_from("bundle")
    make_model(world.there, "converted", size=40_100, seed=2, generation=2, runner="llamacpp")
    make_list(world.there, "m", {"ggml": "m", "llamacpp": "converted"})
    now = world.digests()["m:latest"]
    assert now != child
    again = world.import_from("bundle")
    assert (again["changed"], again["diff"]["after"]) == (False, {"m:latest": now})


@pytest.mark.parametrize("harm", ["child", "layer", "nested", "nothing"])
def test_a_list_with_something_missing_is_refused(world: World, tmp_path: Path, harm: str) -> None:
    _listed, child = pulled_list(tmp_path / "new")
    world.export_to("bundle", models=["m"], models_dir=str(tmp_path / "new"))
    bundle = world.folder / "bundle"
    tag = bundle / "manifests/registry.ollama.ai/library/m/latest"
    if harm == "child":
        (bundle / "blobs" / child.replace(":", "-")).unlink()
    elif harm == "layer":
        max((bundle / "blobs").iterdir(), key=lambda path: path.stat().st_size).unlink()
    elif harm == "nested":
        inner = hashlib.sha256(tag.read_bytes()).hexdigest()
        (bundle / f"blobs/sha256-{inner}").write_bytes(tag.read_bytes())
        rows = [{"digest": f"sha256:{inner}", "runner": "llamacpp"}]
        tag.write_text(json.dumps({"mediaType": MANIFEST_LIST, "manifests": rows}))
    else:
        tag.write_text(json.dumps({"mediaType": MANIFEST_LIST, "manifests": []}))
    resum(bundle)
    failed = world.import_from("bundle")
    code = {"nested": "bundle_tampered", "nothing": "manifest_invalid"}.get(harm, "bundle_incomplete")
    assert failed["failure"]["code"] == code
    assert world.written() == []


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


def flip_bit(folder: Path) -> None:
    blob = max((folder / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    body = bytearray(blob.read_bytes())
    body[-1] ^= 1
    blob.write_bytes(body)


def swap_manifest(folder: Path) -> None:
    """Another manifest with matching checksums: only a pinned checksum detects it."""
    (folder / "manifests/registry.ollama.ai/library/tiny/latest").write_bytes(
        (folder / "manifests/registry.ollama.ai/kaido/tiny2/q8").read_bytes()
    )
    resum(folder)


def resum(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n" for p in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


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
