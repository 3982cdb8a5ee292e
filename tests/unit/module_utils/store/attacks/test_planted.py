# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module on a store in which each kind of file is replaced by each kind of attack."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.modules import (
    model,
    model_info,
    model_verify,
)

from tests.unit.conftest import RunModule
from tests.unit.module_utils.store.attacks.server import Server
from tests.unit.module_utils.store.attacks.store import FIXTURES, SECRET, SERVICE, give_to_service, snapshot

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
