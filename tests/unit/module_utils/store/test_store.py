# SPDX-License-Identifier: GPL-3.0-or-later
"""The model store on disk: stores that real servers wrote, and what can go wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._store import layout
from ansible_collections.kaido.ollama.plugins.module_utils._store.audit import audit
from ansible_collections.kaido.ollama.plugins.module_utils._store.files import hash_file
from ansible_collections.kaido.ollama.plugins.module_utils._store.layout import parse_manifest
from ansible_collections.kaido.ollama.plugins.module_utils._store.partials import partials_of
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
TINY = "sha256:955b7d0ce6491dde9bb72dc68240c1a84efb00c3d30e0601df71aae366078427"
WEIGHTS = "sha256:a909f554de2d9f495deb26ab065ecc27aa053c2ba9b004cad87101aaf0bfc917"
Q8 = "sha256:e04039b2c9f3cbeba2a6fff922cd616394d1b9b84eb1c5431e7fc0b271e0485e"
LIST = "sha256:d7913f5fa07d4a9df8c5f3378f77278eda0889b2fd34be0556fd8c828f4ee3ca"


@pytest.fixture(params=["store-v1", "store-v2"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A copy of a store that a real server wrote."""
    shutil.copytree(FIXTURES / request.param, tmp_path / "models", symlinks=True)
    return Store(str(tmp_path / "models"))


@pytest.fixture
def memory(store: Store, tmp_path: Path) -> Memory:
    return Memory.of(store, str(tmp_path / "state"))


def blobs(store: Store) -> list[layout.Blob]:
    return [blob for entry in store.entries() for blob in entry.blobs]


def rewrite(store: Store, digest: str, body: bytes) -> None:
    path = Path(store.blob_path(digest))
    path.write_bytes(body)


def test_a_real_store_is_read_completely(store: Store) -> None:
    found = {str(entry.name): entry for entry in store.entries()}
    assert found["tiny:latest"].digest == TINY
    assert found["tiny:latest"].size == 475413
    assert found["kaido/tiny2:q8"].digest == Q8
    assert not [entry.problem for entry in found.values() if entry.problem]


def test_a_real_store_is_intact(store: Store, memory: Memory) -> None:
    result = audit(store, blobs(store), memory)
    assert result.damage == {}
    assert result.hashed_blobs == len({blob.digest for blob in blobs(store)})


def test_a_list_has_the_properties_of_its_preferred_variant(tmp_path: Path) -> None:
    entry = Store(str(FIXTURES / "store-v2")).find(parse("multi"))
    assert entry is not None
    assert entry.digest == Q8
    assert {LIST, TINY, Q8} == entry.digests
    assert {LIST, Q8} <= {blob.digest for blob in entry.blobs}


def test_a_server_before_0_40_does_not_see_the_newer_tree() -> None:
    assert Store(str(FIXTURES / "store-v2"), generation=1).entries() == []


def test_names_are_found_whatever_their_case(store: Store) -> None:
    entry = store.find(parse("KAIDO/Tiny2:Q8"))
    assert entry is not None
    assert entry.digest == Q8
    assert store.find(parse("kaido/tiny2:q")) is None
    assert store.find(parse("tiny2:q8")) is None


def test_an_unchanged_store_is_not_read_again(store: Store, memory: Memory, tmp_path: Path) -> None:
    audit(store, blobs(store), memory)
    memory.save()
    again = audit(store, blobs(store), Memory.of(store, str(tmp_path / "state")))
    assert (again.hashed_blobs, again.hashed_bytes) == (0, 0)


def test_a_blob_removed_during_the_survey_is_missing(store: Store, memory: Memory) -> None:
    """During a pull the server removes what it finds wrong."""

    class Racing(Store):
        def hash_blob(self, digest: str) -> tuple[str, list[int]]:
            os.unlink(self.blob_path(digest))
            return super().hash_blob(digest)

    [first, *_others] = blobs(store)
    result = audit(Racing(store.root), [first], memory)
    assert [damage.kind for damage in result.damage.values()] == ["missing"]


def test_full_reads_recorded_blobs_again(store: Store, memory: Memory) -> None:
    audit(store, blobs(store), memory)
    assert audit(store, blobs(store), memory, mode="full").hashed_blobs > 0


def test_none_reads_nothing(store: Store, memory: Memory) -> None:
    assert audit(store, blobs(store), memory, mode="none").hashed_bytes == 0


def flip_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))


DAMAGES: list[tuple[str, t.Callable[[Path], object]]] = [
    ("content", flip_bit),
    ("content", lambda path: path.write_bytes(bytes(path.stat().st_size))),
    ("short", lambda path: os.truncate(path, 1000)),
    ("short", lambda path: os.truncate(path, 0)),
    ("long", lambda path: path.write_bytes(path.read_bytes() + b"x")),
    ("missing", lambda path: path.unlink()),
]


@pytest.mark.parametrize(("kind", "change"), DAMAGES)
def test_damage_is_found_and_named(store: Store, memory: Memory, kind: str, change: t.Callable[[Path], object]) -> None:
    audit(store, blobs(store), memory)
    change(Path(store.blob_path(WEIGHTS)))
    damage = audit(store, blobs(store), memory).damage
    assert [(digest, item.kind) for digest, item in damage.items()] == [(WEIGHTS, kind)]
    assert WEIGHTS[:19] in str(damage[WEIGHTS])


def test_damage_that_keeps_size_and_time_is_found(store: Store, memory: Memory) -> None:
    path = Path(store.blob_path(WEIGHTS))
    audit(store, blobs(store), memory)
    before = path.stat()
    flip_bit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(audit(store, blobs(store), memory).damage) == [WEIGHTS]


def test_damage_is_reported_until_it_is_repaired(store: Store, memory: Memory) -> None:
    path = Path(store.blob_path(WEIGHTS))
    good = path.read_bytes()
    flip_bit(path)
    for _attempt in range(2):
        assert list(audit(store, blobs(store), memory).damage) == [WEIGHTS]
    path.write_bytes(good)
    assert audit(store, blobs(store), memory).damage == {}


def test_a_state_file_that_others_can_write_is_not_trusted(store: Store, memory: Memory, tmp_path: Path) -> None:
    audit(store, blobs(store), memory)
    memory.save()
    os.chmod(memory.path, 0o666)
    assert Memory.of(store, str(tmp_path / "state")).verified == {}


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"verified": 3, "origins": {}, "pending": []}', "\x00"])
def test_a_damaged_state_file_is_ignored(store: Store, memory: Memory, tmp_path: Path, body: str) -> None:
    audit(store, blobs(store), memory)
    memory.save()
    Path(memory.path).write_text(body)
    fresh = Memory.of(store, str(tmp_path / "state"))
    assert (fresh.verified, fresh.origins, fresh.pending) == ({}, {}, [])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"layers": []}', b'{"layers": [{"digest": "sha256:../../x", "size": 1}]}']
)
def test_an_unreadable_manifest_is_a_problem_of_its_tag_only(store: Store, body: bytes) -> None:
    entry = store.find(parse("tiny"))
    assert entry is not None
    os.unlink(entry.path)
    Path(entry.path).write_bytes(body)
    found = {str(item.name): item.problem for item in store.entries()}
    assert (found["tiny:latest"] or "").startswith("unreadable manifest: ")
    assert found["kaido/tiny2:q8"] is None


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_manifest_that_is_no_file_does_not_hang(store: Store, make: t.Callable[[str], object]) -> None:
    entry = store.find(parse("tiny"))
    assert entry is not None
    os.unlink(entry.path)
    make(entry.path)
    again = store.find(parse("tiny"))
    assert again is not None
    assert (again.problem or "").startswith("unreadable manifest: ")


def test_a_manifest_blob_with_wrong_content_is_named(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "store-v2", tmp_path / "models", symlinks=True)
    store = Store(str(tmp_path / "models"))
    rewrite(store, TINY, Path(store.blob_path(TINY)).read_bytes().replace(b"475232", b"475233"))
    entry = store.find(parse("tiny"))
    assert entry is not None
    assert "does not match its name" in (entry.problem or "")
    assert entry.digest == TINY


def test_a_link_without_its_manifest_is_a_problem(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "store-v2", tmp_path / "models", symlinks=True)
    store = Store(str(tmp_path / "models"))
    os.unlink(store.blob_path(TINY))
    entry = store.find(parse("tiny"))
    assert entry is not None
    assert entry.problem == "unreadable manifest: its blob is missing"
    assert entry.digest == TINY


def test_shadow_tags_of_converted_models_are_not_models(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "store-v1", tmp_path / "models")
    library = tmp_path / "models/manifests/registry.ollama.ai/library"
    (library / "llamacpp").mkdir()
    shutil.copy(library / "tiny/latest", library / "llamacpp" / ("ab" * 32))
    assert [str(entry.name) for entry in Store(str(tmp_path / "models")).entries()] == ["kaido/tiny2:q8", "tiny:latest"]


def test_orphans_are_what_no_tag_needs(store: Store) -> None:
    before = store.orphans(store.entries())
    Path(store.root, "blobs", "random.txt").write_text("hello")
    Path(store.root, "blobs", "sha256-" + "0" * 64).write_bytes(b"xyz")
    found = [item for item in store.orphans(store.entries()) if item not in before]
    assert found == [{"file": "random.txt", "size": 5}, {"file": "sha256-" + "0" * 64, "size": 3}]


def test_a_real_server_left_one_manifest_that_no_tag_needs() -> None:
    store = Store(str(FIXTURES / "store-v2"))
    assert [item["file"][:19] for item in store.orphans(store.entries())] == ["sha256-5a33ee05fd6c"]


def test_partial_files_record_their_progress(store: Store) -> None:
    name = "sha256-" + "1" * 64
    Path(store.root, "blobs", name + "-partial").write_bytes(b"")
    for part, line in enumerate((FIXTURES / "v0.33" / "partial_parts.txt").read_text().splitlines()):
        Path(store.root, "blobs", f"{name}-partial-{part}").write_text(line.split(": ", 1)[1])
    [found] = partials_of(store)
    assert found["digest"] == "sha256:" + "1" * 64
    assert found["completed"] == 16777216 + 16776960 + 16780800
    assert len(found["files"]) == 4
    assert not [item for item in store.orphans(store.entries()) if "partial" in item["file"]]


def test_a_blob_path_stays_in_the_store(store: Store) -> None:
    for digest in ("sha256:../../etc/passwd", "sha256:" + "a" * 63, "../x", ""):
        with pytest.raises(ValueError, match="not a digest"):
            store.blob_path(digest)


def test_hashing_needs_little_memory_and_is_correct(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    body = os.urandom(3 << 20)
    path.write_bytes(body)
    assert hash_file(str(path)) == "sha256:" + hashlib.sha256(body).hexdigest()
    assert hash_file(str(tmp_path / "nothing")) == ""


def outcome(body: bytes) -> OllamaError | None:
    """Parse and return the error; any other exception is a defect."""
    try:
        parse_manifest(body)
    except OllamaError as exc:
        return exc
    return None


@given(st.binary(max_size=400))
def test_any_bytes_are_a_manifest_or_one_clear_error(body: bytes) -> None:
    error = outcome(body)
    assert error is None or (error.code == "manifest_invalid" and "\n" not in error.message)


@given(st.data())
def test_a_truncated_manifest_is_never_accepted(data: st.DataObject) -> None:
    body = (FIXTURES / "store-v1/manifests/registry.ollama.ai/library/tiny/latest").read_bytes()
    cut = data.draw(st.integers(0, len(body) - 1))
    try:
        parsed = parse_manifest(body[:cut])
    except OllamaError:
        return
    assert isinstance(parsed, layout.Manifest)
    assert parsed.digest != TINY


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["config", "layers", "manifests", "digest", "size", "mediaType"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_manifest_or_one_clear_error(value: object) -> None:
    error = outcome(json.dumps(value).encode())
    assert error is None or error.code == "manifest_invalid"
