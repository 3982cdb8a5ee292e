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
from ansible_collections.kaido.ollama.plugins.module_utils import _model
from ansible_collections.kaido.ollama.plugins.module_utils._errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._store import Store, StoreWriter
from ansible_collections.kaido.ollama.plugins.modules import model, model_info, model_verify

from tests.unit.conftest import RunModule

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
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
def _world(tmp_path: Path) -> t.Iterator[Path]:
    """A directory that the service account can reach, with a victim of root's in it."""
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    victim = tmp_path / "victim"
    (victim / "library" / "tiny").mkdir(parents=True)
    for name in ("latest", "q8", "library/tiny/latest", f"sha256-{'0' * 64}"):
        (victim / name).write_text(f"{SECRET} of root")
        (victim / name).chmod(0o600)
    before = snapshot(victim)
    yield tmp_path
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
    **{name: replaced(lambda path, text=text: path.write_text(text)) for name, text in CONTENTS.items()},
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
    """Every directory and file of a store, one after the other, is replaced by its owner."""

    def refuse(source: object, name: object, **options: object) -> t.NoReturn:
        raise OllamaError("registry_refused", f"{name}: the registry answered 401")

    def expire(number: int, frame: object) -> t.NoReturn:
        raise AssertionError("it hangs")

    monkeypatch.setattr(_model, "look_up", refuse)
    monkeypatch.setattr(signal, "signal", signal.signal)
    before = snapshot(world / "victim")
    places = [".", f"blobs/{PARTIAL}"]
    # Module model_info asks the server only.
    for path in FIXTURES.glob(f"{fixture}/**/*") if operation != "info" else ():
        if attack not in CONTENTS or (path.is_file() and path.stat().st_size < 5000):
            places.append(str(path.relative_to(FIXTURES / fixture)))
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
            signal.alarm(60)
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
