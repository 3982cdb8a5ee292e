# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the lock file: by the lookup and by module model."""

from __future__ import annotations

import os
import random
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleLookupError
from ansible_collections.kaido.ollama.plugins.action.model_lock import write_lock
from ansible_collections.kaido.ollama.plugins.lookup.models_lock import read_lock
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models.lockfile import Locked, parse_lock, render
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.modules import model

from tests import standin
from tests.standin.registry import make_list
from tests.unit.module_utils.models.lockfile.world import DAY, HEX, World, gathered

# Ten lines that are 2 ** 10 names when they are written out, and so on.
_BOMB = "".join(f"y{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True))


GOOD = f'"a:latest":\n  digest: sha256:{HEX}\n  size: 5\n  date: "{DAY}"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid content (nothing); expected a mapping"),
        ("- a\n", "invalid content (list); expected a mapping"),
        ("a: [\n", "it is not YAML in line"),
        ("<<<<<<< HEAD\n" + GOOD, "it is not YAML in line"),
        ("\x00", "it is not YAML"),
        (GOOD.replace(HEX, HEX[:-1]), "a:latest.digest: invalid digest 'sha256:aba"),
        (GOOD.replace(HEX, HEX[:-1] + "x"), "invalid digest"),
        (GOOD.replace("size: 5", "size: big"), "a:latest: invalid size 'big'; expected a number of bytes"),
        (GOOD.replace("size: 5", "size: true"), "a:latest: invalid size True"),
        (GOOD.replace(DAY, "yesterday"), "a:latest: invalid date 'yesterday'"),
        (GOOD.replace("size:", "bytes:"), "a:latest: invalid value ['bytes', 'date', 'digest']; expected"),
        (GOOD + "  pinned: true\n", "expected exactly the keys digest, size, date"),
        ("a: sha256:x\n", "a:latest: invalid value 'sha256:x'; expected exactly"),
        ("a b: {}\n", "invalid name 'a b'"),
        ("1:30: {}\n", "invalid name"),
        (GOOD + GOOD.replace("a:latest", "a"), "a:latest: duplicate entry"),
        ("[" * 5000, "it is too deep"),
        ("a: " + "[" * 5000 + "]" * 5000, "it is too deep"),
        ("a: " + "{b: " * 300 + "}" * 300, "a:latest: "),
        ("x: &a [a, b]\n" + _BOMB, "expected exactly the keys"),
        ("x: &a [a, b]\n" + _BOMB + "  \n" + GOOD.replace("sha256:" + HEX, "*j"), "expected exactly the keys"),
        (GOOD.replace(f'"{DAY}"', "2026-13-45"), "unreadable characters or values"),
        (GOOD.replace("size: 5", "size: " + "9" * 5000), "it is"),
        (GOOD.replace("size: 5", "size: 0x" + "f" * 5000), "it is not a lock file"),
        (GOOD.replace("size: 5", "size: .inf"), "invalid size inf"),
        (GOOD.replace(f'"{DAY}"', "[1]"), "invalid date [1]"),
        (GOOD.replace("sha256:" + HEX, "[x]"), "invalid digest ['x']"),
        ("? [a]\n: b\n", "it is not YAML"),
        ("&a a: *a\nb: &b [*b]\n", "expected exactly the keys"),
        ("!!python/object:os.system {}\n", "it is not YAML"),
        ("a: !!int x\n", "it is not YAML"),
        ("x" * (5 << 20), "it is larger than 4 MiB"),
    ],
)
def test_a_damaged_lock_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "models.lock.yml"
    path.write_text(text)
    with pytest.raises(OllamaError) as info:
        read_lock(str(path))
    assert info.value.code == "lockfile_invalid"
    assert words in info.value.message
    assert info.value.message.startswith(f"{path}: ")
    assert "kaido.ollama.lock" in info.value.message
    assert "\n" not in info.value.message
    with pytest.raises(OllamaError):
        write_lock(
            {"models": [], "path": str(path), "mirrors": [], "mirrors_trusted": False, "insecure": False},
            today=DAY,
            check_mode=False,
        )
    assert path.read_text() == text, "a damaged lock is not overwritten: somebody has to look"


def test_mutated_locks_end_in_one_coded_line(tmp_path: Path) -> None:
    dice = random.Random(20261126)
    pieces = [
        "[",
        "{",
        "&a ",
        "*a",
        "? ",
        ": ",
        "\n",
        "\t",
        "- ",
        "!!set ",
        "!!timestamp x",
        "!!binary x",
        "0o7",
        "~",
        "'",
    ]
    path = tmp_path / "models.lock.yml"
    outcomes = set()
    for _number in range(600):
        text = render({name: Locked("sha256:" + HEX, 7, DAY) for name in ("a:latest", "b:1")})
        for _time in range(dice.choice([1, 2, 4])):
            start = dice.randrange(len(text))
            text = text[:start] + dice.choice(pieces) * dice.choice([1, 1, 2000]) + text[start + dice.randrange(3) :]
        path.write_text(text)
        try:
            read_lock(str(path))
            outcomes.add("read")
        except OllamaError as exc:
            outcomes.add(exc.code if "\n" not in exc.message else exc.message)
    assert outcomes == {"read", "lockfile_invalid"}


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_a_lock_that_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "models.lock.yml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(AnsibleLookupError, match="cannot be read: "):
        gathered(None, tmp_path)
    with pytest.raises(AnsibleLookupError, match="expected the path of a lock file or its content"):
        gathered([1], tmp_path)


def test_what_is_written_is_read() -> None:
    lock = {"1:30": Locked("sha256:" + HEX, 7, DAY), "hf.co/u/r:Q4_K_M": Locked("sha256:" + HEX, 8, DAY)}
    assert parse_lock(yaml.safe_load(render(lock)), what="x") == lock
    assert parse_lock(yaml.safe_load(render({})), what="x") == {}


def test_the_lookup_finds_the_file_beside_the_inventory(tmp_path: Path) -> None:
    assert gathered(None, tmp_path) == {}
    assert gathered("", tmp_path) == {}
    path = tmp_path / "models.lock.yml"
    path.write_text(GOOD)
    locked = {"a:latest": f"sha256:{HEX}"}
    assert gathered(None, tmp_path, ["a"]) == locked
    assert gathered(str(path), Path("/nowhere"), ["A".lower()]) == locked
    assert gathered(yaml.safe_load(GOOD), Path("/nowhere")) == locked
    assert gathered({}, tmp_path, ["b"]) == {}, "an empty mapping switches the lock off"
    with pytest.raises(AnsibleLookupError, match=r"other\.yml: cannot be read: No such file"):
        gathered(str(tmp_path / "other.yml"), tmp_path)


def test_a_declared_model_without_a_line_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "models.lock.yml").write_text(GOOD)
    with pytest.raises(AnsibleLookupError, match=r"no entry for b:latest, c:1"):
        gathered(None, tmp_path, ["b", "a", "c:1", {"name": "d", "state": "absent"}, {"name": "e", "digest": HEX}])


@pytest.mark.parametrize("version", ["0.35.1", "0.40.2"])
def test_hosts_get_what_is_locked(world: World, tmp_path: Path, run_module: t.Any, version: str) -> None:
    """Also for a list of variants, and after a server of 0.40 has converted the model by itself."""
    world.publish("v", 1, runner="ggml")
    if version >= "0.40":
        make_list(world.upstream_dir, "multi", {"ggml": "v"})
    else:
        world.publish("multi", 1, runner="ggml")
    world.lock("a", "multi")
    lock = {name: row.digest for name, row in read_lock(str(world.path)).items()}
    env = {"STANDIN_UPSTREAM": f"http://{world.upstream.host}", "STANDIN_TIME_SCALE": "0.01", "STANDIN_MIGRATE": "1"}
    (tmp_path / "models").mkdir()
    with standin.running(version, tmp_path / "models", env) as server:
        places = {"models_dir": str(tmp_path / "models"), "state_dir": str(tmp_path / "state")}
        params = {"api_url": server.url, "models": ["a", "multi"], "lock": lock, **places}
        done = run_module(model, params)
        assert (done["failed"], done["changed"]) == (False, True), done
        for name in ("a", "multi"):
            Client(server.url).generate({"model": name}, timeout=10)
        assert not run_module(model, params)["changed"]
        assert not run_module(model, params, check=True)["changed"]
        # The tag moves; the lock keeps the digest. A digest that is no longer offered is reported.
        moved = world.publish("a", 9)
        assert not run_module(model, {**params, "models": [{"name": "a", "state": "latest"}]})["changed"]
        Client(server.url).delete(parse("a"))
        stale = run_module(model, params)
        assert stale["failure"]["code"] == "digest_not_offered"
        assert lock["a:latest"][7:19] in stale["msg"]
        assert moved[7:19] in stale["msg"]
        world.lock("a", "multi")
        fresh = {name: row.digest for name, row in read_lock(str(world.path)).items()}
        assert not run_module(model, {**params, "lock": fresh})["failed"]
