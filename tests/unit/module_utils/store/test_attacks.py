# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on the model store by the account that owns it: with two real user IDs, so these tests need root."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._store import verification
from ansible_collections.kaido.ollama.plugins.module_utils._store.audit import audit
from ansible_collections.kaido.ollama.plugins.module_utils._store.layout import Blob
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory, exclusive
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.module_utils._store.writer import StoreWriter
from ansible_collections.kaido.ollama.plugins.modules import (
    model,
    model_build,
    model_export,
    model_info,
    model_verify,
)

from tests.conftest import ROOT
from tests.standin.registry import Registry
from tests.unit.conftest import RunModule

FIXTURES = ROOT / "tests" / "fixtures"
SERVICE = 64101
SECRET = "xyzzy-plugh"


def give_to_service(*paths: Path) -> None:
    """Make the service account the owner of trees; links themselves change their owner, not their targets."""
    for path in paths:
        for folder, folders, files in os.walk(path):
            for name in [*folders, *files]:
                os.lchown(os.path.join(folder, name), SERVICE, SERVICE)
        os.lchown(path, SERVICE, SERVICE)


def snapshot(path: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return owner, group, mode and content of everything in a tree."""
    found = {}
    for item in [path, *sorted(path.rglob("*"))]:
        info = item.lstat()
        content = item.read_bytes() if item.is_file() else b""
        found[str(item)] = (info.st_uid, info.st_gid, info.st_mode, content)
    return found


@pytest.fixture(name="world")
def _world(public_path: Path) -> t.Iterator[Path]:
    """A directory that the service account can reach, with a victim of root's in it."""
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    victim = public_path / "victim"
    (victim / "library" / "tiny").mkdir(parents=True)
    for name in ("latest", "q8", "library/tiny/latest", f"sha256-{'0' * 64}"):
        (victim / name).write_text(f"{SECRET} of root")
        (victim / name).chmod(0o600)
    before = snapshot(victim)
    yield public_path
    assert snapshot(victim) == before


@pytest.fixture(name="models_dir", params=["store-v1", "store-v2"])
def _models_dir(request: pytest.FixtureRequest, world: Path) -> Path:
    models = Path(shutil.copytree(FIXTURES / request.param, world / "srv" / "models", symlinks=True))
    for folder in (models, *filter(Path.is_dir, models.rglob("*"))):
        folder.chmod(0o750)
    give_to_service(world / "srv")
    return models


# --- what the writer places


def put(store: Store, member: str, body: bytes = b"body") -> list[int]:
    with StoreWriter(store) as writer:
        return writer.put(member, io.BytesIO(body), hashlib.sha256(body).hexdigest())


def test_what_is_written_belongs_to_the_owner_of_the_store(models_dir: Path) -> None:
    member = "manifests/registry.ollama.ai/library/new/latest"
    fingerprint = put(Store(str(models_dir)), member)
    info = (models_dir / member).stat()
    assert (info.st_uid, info.st_mode & 0o777) == (SERVICE, 0o640)
    assert fingerprint == [info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev, info.st_ctime_ns]
    folder = (models_dir / member).parent.stat()
    assert (folder.st_uid, folder.st_mode & 0o777) == (SERVICE, 0o750)
    assert not [item for item in models_dir.iterdir() if item.name.startswith(".")]


@pytest.mark.parametrize(
    "part", ["registry.ollama.ai", "registry.ollama.ai/library", "registry.ollama.ai/library/tiny"]
)
def test_the_writer_follows_no_link_below_the_trees(world: Path, models_dir: Path, part: str) -> None:
    path = models_dir / "manifests" / part
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(world / "victim")
    give_to_service(models_dir)
    with pytest.raises(OllamaError, match="is a symbolic link; expected a directory of the model store") as caught:
        put(Store(str(models_dir)), "manifests/registry.ollama.ai/library/tiny/latest")
    assert caught.value.code == "store_unsafe"


@pytest.mark.parametrize("top", ["manifests", "manifests-v2", "blobs"])
def test_the_writer_reaches_through_a_linked_tree_only_what_the_owner_can_write(
    world: Path, models_dir: Path, top: str
) -> None:
    shutil.rmtree(models_dir / top, ignore_errors=True)
    (models_dir / top).symlink_to(world / "victim")
    with pytest.raises(PermissionError):
        put(Store(str(models_dir)), f"{top}/latest")


def test_blobs_on_another_disk_work(models_dir: Path) -> None:
    shm = Path("/dev/shm") / f"kaido-{os.getpid()}"
    shutil.copytree(models_dir / "blobs", shm)
    try:
        shutil.rmtree(models_dir / "blobs")
        (models_dir / "blobs").symlink_to(shm)
        give_to_service(shm)
        put(Store(str(models_dir)), "blobs/sha256-new")
        assert (shm / "sha256-new").read_text() == "body"
        assert not [item for item in shm.iterdir() if item.name.startswith(".")]
    finally:
        shutil.rmtree(shm)


def test_a_link_that_is_swapped_in_beside_a_staged_file_is_not_followed(world: Path, models_dir: Path) -> None:
    """The attacker replaces everything in the staging directory while the content is being copied."""
    body = b"body"

    class Source(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            for stage in models_dir.glob(".kaido-import-*"):
                for item in stage.iterdir():
                    item.unlink()
                    item.symlink_to(world / "victim" / "latest")
                    os.lchown(item, SERVICE, SERVICE)
            return super().read(size)

    with StoreWriter(Store(str(models_dir))) as writer:
        writer.put("blobs/sha256-new", Source(body), hashlib.sha256(body).hexdigest())
    assert (models_dir / "blobs" / "sha256-new").is_symlink()


def test_wrong_content_leaves_nothing(models_dir: Path) -> None:
    before = sorted(models_dir.rglob("*"))
    with StoreWriter(Store(str(models_dir))) as writer, pytest.raises(OllamaError, match="changed since"):
        writer.put("blobs/sha256-new", io.BytesIO(b"other"), "0" * 64)
    assert sorted(models_dir.rglob("*")) == before


def test_what_an_interrupted_run_left_is_removed(models_dir: Path) -> None:
    (models_dir / ".kaido-import-old").mkdir()
    (models_dir / ".kaido-import-old" / "file").write_text("half")
    (models_dir / ".kaido-import-link").symlink_to(models_dir.parent)
    give_to_service(models_dir)
    put(Store(str(models_dir)), "blobs/sha256-new")
    assert [item.name for item in models_dir.iterdir() if item.name.startswith(".")] == [".kaido-import-link"]


# --- what the modules read


class Server(http.server.ThreadingHTTPServer):
    """A server that does not touch the store: it lists a model, and refuses pulls and deletions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.answers: dict[str, t.Any] = {
            "/api/version": {"version": "0.35.1"},
            "/api/tags": {"models": [{"name": "tiny:latest", "digest": "0" * 64, "size": 1}]},
            "/api/ps": {"models": []},
            "/api/pull": {"error": "pull model manifest: 401: unauthorized"},
        }


class Answers(http.server.BaseHTTPRequestHandler):
    """The answers of `Server`."""

    def answer(self) -> None:
        answers = t.cast("Server", self.server).answers
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(answers.get(self.path, {"error": "it is broken"})).encode() + b"\n"
        self.send_response(200 if self.path in answers else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(name="server", scope="module")
def _server() -> t.Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


Attack = t.Callable[[Path, Path], None]


def replaced(make: t.Callable[[Path], object]) -> Attack:
    """Return an attack that puts something else in a place of the store."""

    def attack(path: Path, victim: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)
        if path.is_symlink() or path.exists():
            os.lchown(path, SERVICE, SERVICE)

    return attack


def containing(text: str) -> Attack:
    return replaced(lambda path: path.write_text(text))


def linked(target: str) -> Attack:
    def attack(path: Path, victim: Path) -> None:
        replaced(lambda place: place.symlink_to(victim / target))(path, victim)

    return attack


def full_directory(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("x")


def make_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # A path to a socket has at most 108 bytes.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def odd_name(path: Path, victim: Path) -> None:
    os.rename(path, os.fsencode(path.parent) + b"/\xff\x1b[31m" + os.fsencode(path.name))


def unreadable(path: Path, victim: Path) -> None:
    if path.is_symlink():
        path = path.parent / os.readlink(path)
    path.chmod(0)


LAYER = f'{{"layers": [{{"digest": "sha256:{"0" * 64}", "size": %s}}], "Completed": %s}}'
CONTENTS = {
    "empty": "",
    "deep": "[" * 100_000,
    "long number": LAYER % ("9" * 5000, "9" * 5000),
    "huge number": LAYER % ("9" * 400, "9" * 400),
    "infinite": LAYER % ("Infinity", "Infinity"),
    "no number": LAYER % ("NaN", "NaN"),
    "null": LAYER % ("null", "null"),
    "nothing": '{"Completed": null, "layers": null, "manifests": null}',
    "list": "[1]",
}
ATTACKS: dict[str, Attack] = {
    "link to a directory": linked(""),
    "link to a file": linked("latest"),
    "link to the root": linked("/"),
    "link to itself": replaced(lambda path: path.symlink_to(path.name)),
    "fifo": replaced(os.mkfifo),
    "socket": replaced(make_socket),
    "directory": replaced(Path.mkdir),
    "full directory": replaced(full_directory),
    **{name: containing(text) for name, text in CONTENTS.items()},
    "unreadable": unreadable,
    "missing": replaced(lambda path: None),
    "odd name": odd_name,
}
OPERATIONS: dict[str, tuple[t.Any, dict[str, t.Any]]] = {
    "info": (model_info, {}),
    "verify": (model_verify, {"mode": "full", "fail_on": []}),
    "repair": (model_verify, {"repair": True}),
    "present": (model, {"models": ["tiny", "kaido/tiny2:q8", "multi"], "stall_timeout": 1}),
    "absent": (model, {"models": ["tiny", "kaido/tiny2:q8"], "state": "absent"}),
}
PARTIAL = f"sha256-{'5' * 64}-partial-0"


def kind(store: Path, path: Path) -> tuple[str, int, str]:
    """Return the tree, the level and the use of a file of a store; JSON is distinguished by its keys."""
    parts = path.relative_to(store).parts
    if path.is_symlink() or path.is_dir():
        use = "link" if path.is_symlink() else "directory"
    else:
        content = path.read_bytes()
        use = f"JSON {sorted(json.loads(content))}" if content.startswith(b'{"') else f"data {len(content) > 5000}"
    return parts[0], len(parts), use


def places_of(store: Path, attack: str) -> list[str]:
    """Return one place of each kind. Data is only hashed, so that every other content is the same attack on it."""
    places = {kind(store, path): path for path in sorted(store.rglob("*"), reverse=True)}
    parsed = [path for (_tree, _level, use), path in places.items() if use.startswith(("JSON", "link"))]
    chosen = parsed if attack in CONTENTS and attack != "empty" else places.values()
    return [str(path.relative_to(store)) for path in (*chosen, store / "blobs" / PARTIAL)]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("fixture", ["store-v1", "store-v2"])
def test_no_planted_thing_hangs_crashes_discloses_or_destroys(
    world: Path,
    server: Server,
    fixture: str,
    attack: str,
    operation: str,
    run_module: RunModule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each kind of directory and file of a store, one after the other, is replaced by its owner."""

    def refuse(source: object, name: object, **options: object) -> t.NoReturn:
        raise OllamaError("registry_refused", f"{name}: the registry answered 401")

    def expire(number: int, frame: object) -> t.NoReturn:
        raise AssertionError("it hangs")

    monkeypatch.setattr(sources_module, "look_up", refuse)
    monkeypatch.setattr(signal, "signal", signal.signal)
    before = snapshot(world / "victim")
    places = ["."] if attack not in CONTENTS or attack == "empty" else []
    # Module model_info queries only the server.
    places += places_of(FIXTURES / fixture, attack) if operation != "info" else [f"blobs/{PARTIAL}"]
    module, params = OPERATIONS[operation]
    previous = signal.signal(signal.SIGALRM, expire)
    server.answers["/api/version"] = {"version": "0.40.2" if fixture == "store-v2" else "0.35.1"}
    try:
        for number, place in enumerate(places):
            where = f"{attack} at {place}"
            models = Path(shutil.copytree(FIXTURES / fixture, world / str(number) / "models", symlinks=True))
            (models / "blobs" / PARTIAL).write_text('{"Completed": 5}')
            give_to_service(world / str(number))
            ATTACKS[attack](models / place, world / "victim")
            arguments = {"api_url": f"http://127.0.0.1:{server.server_port}", **params}
            if module is not model_info:
                arguments.update(models_dir=str(models), state_dir=str(world / "state"))
            signal.alarm(30)
            result = run_module(module, arguments)
            signal.alarm(0)
            text = json.dumps(result, ensure_ascii=False)
            text.encode()
            assert not result["failed"] or result["failure"]["code"], where
            assert "\\u001b" not in text, where
            assert SECRET not in text, where
            assert "\n" not in result.get("msg", ""), where
            assert snapshot(world / "victim") == before, where
            shutil.rmtree(world / str(number))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


# --- what was carried out against earlier versions


@pytest.fixture(name="arguments")
def _arguments(world: Path, models_dir: Path, server: Server) -> dict[str, t.Any]:
    newer = (models_dir / "manifests-v2").exists()
    server.answers["/api/version"] = {"version": "0.40.2" if newer else "0.35.1"}
    return {
        "api_url": f"http://127.0.0.1:{server.server_port}",
        "models_dir": str(models_dir),
        "state_dir": str(world / "state"),
    }


def tree_of(models_dir: Path) -> Path:
    return next(models_dir.glob("manifests*"))


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("planted", ["host/a/x", "host/a/x/latest"])
def test_c5_no_planted_tag_removes_files_outside_of_the_store(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, planted: str, repair: bool
) -> None:
    """The registry that the planted name belongs to answers 401, so the server pulls it."""
    with Registry(FIXTURES / "store-v1") as registry:
        registry.misbehave("", status=401)
        host = registry.host.replace(":", "%3A") if tree_of(models_dir).name == "manifests-v2" else registry.host
        path = tree_of(models_dir) / planted.replace("host", host)
        path.parent.mkdir(parents=True)
        path.symlink_to(world / "victim" / ("latest" if planted.endswith("latest") else ""))
        give_to_service(models_dir)
        result = run_module(model_verify, {**arguments, "repair": repair, "insecure": True})
    assert result["failed"]
    if planted == "host/a/x":
        assert result["failure"]["code"] == "store_unsafe"
        assert str(path) in result["msg"]
    assert SECRET not in json.dumps(result)


def test_c3_a_bundle_is_not_written_through_a_planted_link(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule
) -> None:
    bundle = world / "bundle"
    exported = {"models_dir": str(FIXTURES / "store-v1"), "dest": str(bundle)}
    assert not run_module(model_export, exported)["failed"]
    path = (
        tree_of(models_dir)
        / ("ollama.com" if "v2" in tree_of(models_dir).name else "registry.ollama.ai")
        / "library/tiny"
    )
    shutil.rmtree(path)
    path.symlink_to(world / "victim" / "library" / "tiny")
    give_to_service(models_dir)
    result = run_module(model, {**arguments, "name": "tiny", "source": str(bundle)})
    assert result["failure"]["code"] == "store_unsafe"
    assert f"{path} is a symbolic link" in result["msg"]


@pytest.mark.parametrize("module", [model, model_verify])
def test_h4_manifests_that_link_to_the_root_are_named(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, module: t.Any
) -> None:
    shutil.rmtree(tree_of(models_dir))
    for name in ("manifests", "manifests-v2"):
        (models_dir / name).symlink_to("/")
    give_to_service(models_dir)
    result = run_module(module, {**arguments, **({"name": "tiny"} if module is model else {})})
    assert result["failure"]["code"] == "store_unsafe"
    assert "is a symbolic link to /, which belongs to another account" in result["msg"]
    assert "remove the link" in result["msg"]


def test_trees_of_the_owner_on_another_disk_are_read(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule
) -> None:
    disk = world / "disk"
    disk.mkdir()
    for name in ("blobs", tree_of(models_dir).name):
        shutil.move(models_dir / name, disk / name)
        (models_dir / name).symlink_to(disk / name)
    for tag in disk.glob("manifests-v2/*/*/*/*"):
        # The relative links of the server lead into the directory beside the tree.
        assert tag.exists()
    give_to_service(disk)
    result = run_module(model_verify, arguments)
    assert not result["failed"], result
    assert "tiny:latest" in [row["name"] for row in result["models"]]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("_MAX_ENTRIES", "too many files; expected 20 or fewer"),
        ("_MAX_BLOBS", "too many blobs in manifests; expected 20 or fewer together"),
        ("_MAX_MANIFESTS", "manifests too large; expected 0 MiB or less together"),
    ],
)
def test_a_store_of_excessive_size_ends(
    models_dir: Path,
    arguments: dict[str, t.Any],
    run_module: RunModule,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    message: str,
) -> None:
    """Manifests of 4 MiB name 40 000 blobs each, of which every one takes memory, and a row where it is missing."""
    monkeypatch.setattr(f"ansible_collections.kaido.ollama.plugins.module_utils._store.files.{limit}", 20)
    name = tree_of(models_dir) / "host/a/b"
    name.mkdir(parents=True)
    layers = [{"digest": f"sha256:{number:064x}", "size": 1} for number in range(30)]
    (name / "latest").write_text(json.dumps({"layers": layers}))
    for number in range(20):
        (tree_of(models_dir) / f"host{number}").mkdir()
    give_to_service(models_dir)
    result = run_module(model_verify, arguments)
    assert result["failure"]["code"] == "store_unsafe"
    assert message in result["msg"]


def test_hash_threads_act_as_the_owner(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule
) -> None:
    """Right content that only root can read, behind a link of the owner's, is no content for the owner's store."""
    shutil.move(models_dir / "blobs", world / "hidden")
    (models_dir / "blobs").symlink_to(world / "hidden")
    for item in (world / "hidden").iterdir():
        os.chown(item, 0, 0)
        item.chmod(0o600)
    os.chown(world / "hidden", 0, 0)
    (world / "hidden").chmod(0o755)
    result = run_module(model_verify, {**arguments, "mode": "full", "fail_on": []})
    assert result["models"]
    for row in result["models"]:
        assert row["problems"], row
        assert all("cannot be read" in text or "Permission denied" in text for text in row["problems"]), row


def test_a_sparse_blob_is_not_read(models_dir: Path) -> None:
    """Sixteen terabytes of zeros would keep a converge busy for hours."""
    store = Store(str(models_dir))
    entry = next(entry for entry in store.entries() if str(entry.name) == "tiny:latest")
    os.truncate(store.blob_path(entry.blobs[-1].digest), 1 << 40)
    blob = Blob(entry.blobs[-1].digest, 1 << 40)
    found = audit(store, [blob], Memory(str(models_dir / "none")))
    assert [damage.kind for damage in found.damage.values()] == ["content"]
    assert found.hashed_bytes == 0


@pytest.mark.parametrize("planted", ["link", "fifo", "linked directory"])
def test_a_build_reads_only_files_that_the_owner_of_the_file_can_read(
    world: Path, arguments: dict[str, t.Any], run_module: RunModule, planted: str
) -> None:
    """The server would be sent a file of root's as weights."""
    folder = world / "srv" / "weights"
    if planted == "linked directory":
        folder.symlink_to(world / "victim")
    else:
        folder.mkdir()
        if planted == "link":
            (folder / "latest").symlink_to(world / "victim" / "latest")
        else:
            os.mkfifo(folder / "latest")
    give_to_service(world / "srv")
    params = {**arguments, "name": "new", "from": str(folder / "latest"), "template": "x"}
    result = run_module(model_build, params)
    assert result["failure"]["code"] == "file_unreadable", result
    assert SECRET not in json.dumps(result)


# --- what the modules remember


def test_an_audit_keeps_what_another_run_writes_meanwhile(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = verification.verify

    def verify(store: Store, *args: t.Any, **options: t.Any) -> t.Any:
        other = Memory.of(store, arguments["state_dir"])
        other.recipes["a"] = {"recipe": "r", "files": {}}
        other.origins["b"] = {"registry": "x", "variant": "y"}
        other.pending.append("c:latest")
        other.verified["sha256:" + "1" * 64] = [1, 2, 3, 4, 5]
        other.save()
        return real(store, *args, **options)

    monkeypatch.setattr(model_verify, "verify", verify)
    result = run_module(model_verify, arguments)
    assert not result["failed"], result
    kept = Memory.of(Store(str(models_dir)), arguments["state_dir"])
    assert kept.recipes["a"]["recipe"] == "r"
    assert kept.origins["b"] == {"registry": "x", "variant": "y"}
    assert kept.pending == ["c:latest"]
    assert len(kept.verified) == result["blobs"] + 1


def test_changes_of_several_runs_wait_for_each_other(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = max((models_dir / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    monkeypatch.setattr(model_verify, "_WAIT", 0.0)
    monkeypatch.setattr(model_verify, "_SAVE_WAIT", 0.0)
    path = Memory.of(Store(str(models_dir)), arguments["state_dir"]).path
    built = {**arguments, "name": "new", "from": "tiny", "system": "x", "timeout": 1}
    with exclusive(path, seconds=0) as alone:
        assert alone
        for module, params in (
            (model_verify, {**arguments, "repair": True}),
            (model, {**arguments, "name": "tiny", "deadline": 1}),
            (model_build, built),
        ):
            assert run_module(module, params)["failure"]["code"] == "lock_held"
        # An audit changes nothing, and reports.
        assert not run_module(model_verify, {**arguments, "fail_on": []})["failed"]
    assert damaged.exists()


STATE = {"verified": {"d": [1, 2, 3, 4, 5]}, "origins": {"m": {"registry": "r"}}, "pending": [], "recipes": {"m": {}}}


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[" * 100_000,
        "null",
        "[]",
        '{"verified": {"d": [Infinity]}}',
        '{"verified": null, "origins": 5, "pending": {"a": 1}, "recipes": []}',
        json.dumps({**STATE, "verified": {"d": [1e999, "x"]}}),
        json.dumps({**STATE, "pending": ["../../x", 5]}),
        json.dumps({**STATE, "recipes": {"tiny": {"files": {"/x": []}}, "m": {}}}),
        "x" * 100,
    ],
)
def test_a_damaged_state_file_is_never_a_crash(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, damage: str
) -> None:
    path = Path(Memory.of(Store(str(models_dir)), arguments["state_dir"]).path)
    path.parent.mkdir()
    path.write_text(damage)
    path.chmod(0o600)
    result = run_module(model_verify, arguments)
    assert not result["failed"], result
    kept = Memory.of(Store(str(models_dir)), arguments["state_dir"])
    assert len(kept.verified) >= result["blobs"]
    assert ("m" in kept.recipes) == ('"m"' in damage), "what can be read is kept"
