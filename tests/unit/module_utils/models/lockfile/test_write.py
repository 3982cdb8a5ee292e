# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing the lock file from a registry over real HTTP."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.lookup.models_lock import read_lock
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import Name, parse
from ansible_collections.kaido.ollama.plugins.module_utils._models import lockfile
from ansible_collections.kaido.ollama.plugins.module_utils._models.lockfile import declared
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Offer, Source, look_up

from tests.conftest import ROOT
from tests.standin.registry import Registry, make_list, make_model
from tests.unit.module_utils.models.lockfile.world import DAY, HEX, NEXT_DAY, World, gathered
from tests.unit.playbook import ansible


def test_check_apply_check_apply(world: World) -> None:
    models = ["a", {"name": "B:1B".lower(), "aliases": ["default-chat"]}, "A:latest".lower()]
    predicted = world.lock(*models, check=True)
    assert not world.path.exists()
    done = world.lock(*models)
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["before"] == ""
    assert done["diff"]["after"] == world.path.read_text()
    assert done["models"]["b:1b"]["digest"] == world.digests["b:1b"]
    written = yaml.safe_load(world.path.read_text())
    assert written == done["models"]
    assert list(written) == ["a:latest", "b:1b"], "once each, and no alias"
    assert written["a:latest"]["date"] == DAY
    assert written["a:latest"]["size"] > 40_000
    for check in (True, False):
        again = world.lock(*models, check=check, today=NEXT_DAY)
        assert (again["changed"], again["moves"]) == (False, [])
        assert again["diff"]["before"] == again["diff"]["after"]


def test_a_tag_that_moved_is_shown_and_dated(world: World) -> None:
    world.lock("a", "b:1b")
    new = world.publish("a", 9)
    predicted = world.lock("a", "b:1b", check=True, today=NEXT_DAY)
    done = world.lock("a", "b:1b", today=NEXT_DAY)
    assert predicted["diff"] == done["diff"]
    assert done["moves"] == [f"a:latest moved from {world.digests['a'][:19]} of {DAY} to {new[:19]}"]
    assert world.digests["a"] in done["diff"]["before"]
    assert new in done["diff"]["after"]
    lock = read_lock(str(world.path))
    assert (lock["a:latest"].digest, lock["a:latest"].date, lock["b:1b"].date) == (new, NEXT_DAY, DAY)


def test_models_come_and_go(world: World) -> None:
    world.lock("a")
    done = world.lock("b:1b", {"name": "a", "state": "absent"})
    assert done["moves"] == ["a:latest is no longer declared", f"b:1b is new: {world.digests['b:1b'][:19]}"]
    assert list(read_lock(str(world.path))) == ["b:1b"]
    world.lock()
    assert read_lock(str(world.path)) == {}


def test_the_lock_contains_digests_for_every_server_version(world: World) -> None:
    """Of a list of variants it is the one that a server chooses: a server before 0.40 is given only that."""
    world.publish("v-ggml", 1, runner="ggml")
    chosen = world.publish("v-llama", 2, runner="llamacpp")
    listed = "sha256:" + make_list(world.upstream_dir, "multi", {"ggml": "v-ggml", "llamacpp": "v-llama"})
    done = world.lock("multi")
    assert done["models"]["multi:latest"]["digest"] == chosen != listed
    assert done["warnings"] == []
    assert sorted(world.asked) == [("multi:latest", False), ("multi:latest", True)]


def test_content_that_depends_on_the_server_version_is_reported(world: World, monkeypatch: t.Any) -> None:
    def odd(source: Source, name: Name, *, lists: bool, **_options: t.Any) -> Offer:
        return look_up(Source(world.upstream.host, insecure=True), parse("b:1b" if lists else "a"), lists=lists)

    monkeypatch.setattr(lockfile, "look_up", odd)
    done = world.lock("a")
    assert done["models"]["a:latest"]["digest"] == world.digests["a"]
    assert world.digests["b:1b"] in done["warnings"][0]


def test_all_failures_are_reported_and_the_file_is_unchanged(world: World) -> None:
    world.lock("a")
    before = world.path.read_text()
    with pytest.raises(OllamaError) as info:
        world.lock("a", "nope", "nix:1")
    assert info.value.code == "tag_missing"
    assert "nope" in info.value.message
    assert "nix:1" in info.value.message
    assert world.path.read_text() == before
    assert sorted(os.listdir(world.path.parent)) == ["models.lock.yml", "upstream"]


def test_a_pin_has_to_be_on_offer(world: World) -> None:
    assert world.lock({"name": "a", "digest": world.digests["a"]})["changed"]
    with pytest.raises(OllamaError) as info:
        world.lock({"name": "a", "digest": HEX})
    assert info.value.code == "digest_not_offered"
    assert HEX in info.value.message
    assert world.digests["a"] in info.value.message


def test_the_hint_about_a_proxy_names_the_variable_of_the_controller(world: World) -> None:
    with pytest.raises(OllamaError) as info:
        world.lock("127.0.0.1:9/library/a")
    assert "ollama_lock_registry_environment" in info.value.message
    assert "ollama_settings" not in info.value.message


def test_mirrors_are_queried_where_upstream_does_not_answer(world: World, tmp_path: Path) -> None:
    with Registry(world.upstream_dir) as mirror:
        world.upstream.misbehave("", status=503)
        with pytest.raises(OllamaError) as info:
            world.lock("a")
        assert info.value.code == "registry_unreachable"
        with pytest.raises(OllamaError, match="ollama_mirrors_trusted") as info:
            world.lock("a", mirrors=[f"http://{mirror.host}"])
        assert info.value.code == "mirror_unverified"
        done = world.lock("a", mirrors=[f"http://{mirror.host}"], mirrors_trusted=True)
        assert done["models"]["a:latest"]["digest"] == world.digests["a"]
        assert mirror.host in done["warnings"][0]
        assert "503" in done["warnings"][0]


def test_an_unwritable_file_is_reported(world: World) -> None:
    world.path = world.path.parent / "nowhere" / "models.lock.yml"
    with pytest.raises(OllamaError) as info:
        world.lock("a")
    assert info.value.code == "lockfile_unwritable"
    assert str(world.path) in info.value.message


def test_hosts_with_different_pins_are_reported() -> None:
    a, b = "sha256:" + HEX, "sha256:" + "cd" * 32
    assert list(declared(["x", {"name": "x", "digest": a}, {"name": "X"}]).values()) == [a]
    with pytest.raises(
        OllamaError, match=r"ollama_models\[1\].digest: x:latest is pinned to .* but ollama_models\[0\] pins it to"
    ):
        declared([{"name": "x", "digest": a}, {"name": "x", "digest": b}])


def test_only_new_models_are_locked(world: World) -> None:
    world.lock("a")
    before = read_lock(str(world.path))["a:latest"]
    moved = world.publish("a", 9)
    hosts = {"hecate": ["a", "b:1b"], "dev1": [{"name": "A:LATEST"}]}
    options: dict[str, t.Any] = {"models": None, "hosts": hosts, "today": NEXT_DAY, "only_new": True}
    predicted, done = world.lock(check=True, **options), world.lock(**options)
    assert predicted["diff"] == done["diff"]
    lock = read_lock(str(world.path))
    assert lock["a:latest"] == before
    assert (lock["b:1b"].digest, lock["b:1b"].date) == (world.digests["b:1b"], NEXT_DAY)
    assert done["moves"] == [f"b:1b is new: {world.digests['b:1b'][:19]}"]
    assert done["held"] == [
        f"a:latest stays at {before.digest[:19]} of {DAY}: the tag has moved to {moved[:19]}"
        " (hecate: ollama_models[0], dev1: ollama_models[0])"
    ]
    assert not world.lock(**options)["changed"]


def test_a_failed_look_up_of_a_locked_model_does_not_prevent_new_entries(world: World) -> None:
    world.lock("a")
    world.upstream.misbehave("library/a/", status=404)
    done = world.lock("a", "b:1b", only_new=True)
    assert sorted(read_lock(str(world.path))) == ["a:latest", "b:1b"]
    assert done["held"][0].startswith("a:latest stays at ")
    assert done["held"][0].endswith("(ollama_models[0])")


@pytest.mark.parametrize("spellings", [("B:1B", "b:1b"), ("b:1b", "B:1b"), ("library/B:1B", "b:1b")])
def test_names_have_no_case(world: World, spellings: tuple[str, str]) -> None:
    """One entry pins all hosts, however each of them spells the name."""
    first, second = spellings
    # The registry of this test has case.
    for spelling in spellings:
        world.publish(spelling.rpartition("/")[2], 1)
    done = world.lock(models=None, hosts={"gpu1": [first], "gpu2": [second]})
    locked = read_lock(str(world.path))
    assert len(locked) == 1
    name, row = next(iter(locked.items()))
    for spelling in spellings:
        assert gathered(None, world.path.parent, [spelling]) == {name: row.digest}
    again = world.lock(models=None, hosts={"gpu2": [second], "gpu1": [first]}, today=NEXT_DAY)
    assert (again["moves"], again["models"].popitem()[1]["date"]) == ([], DAY), done


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ({"a": ["x"], "b": ["x", {"name": "y y"}]}, "b: ollama_models[1].name: "),
        ({"a": ["x", {"nam": "y"}]}, "a: ollama_models[1]: "),
        ({"a": "x"}, "a: ollama_models: invalid value 'x'; expected a list of models"),
        ({"a": None}, "a: ollama_models: invalid value None; expected a list of models"),
        ({"a": ["x", 5]}, "a: ollama_models[1]: "),
        (
            {"a": [{"name": "x", "digest": HEX}], "b": ["z", {"name": "X", "digest": "cd" * 32}]},
            f"b: ollama_models[1].digest: x:latest is pinned to sha256:{'cd' * 32}, but a: ollama_models[0] pins it to",
        ),
        ({"a": ["nope"], "b": [{"name": "a", "digest": HEX}]}, "nope"),
    ],
)
def test_an_invalid_declaration_is_named_by_host_and_index(world: World, hosts: dict[str, t.Any], text: str) -> None:
    with pytest.raises(OllamaError) as info:
        world.lock(models=None, hosts=hosts)
    assert info.value.message.startswith(text)
    assert not world.path.exists()


def test_the_declaration_that_keeps_a_model_is_named(world: World) -> None:
    with pytest.raises(OllamaError) as info:
        world.lock(models=None, hosts={"hecate": ["a"], "dev1": ["b:1b", {"name": "a", "digest": HEX}]})
    assert info.value.code == "digest_not_offered"
    assert info.value.message.endswith("(hecate: ollama_models[0], dev1: ollama_models[1].digest)")


def test_the_playbook_writes_beside_the_inventory(tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    make_model(upstream, "a", size=40_000)
    make_model(upstream, "b:1b", size=40_000, seed=1)
    with Registry(upstream) as registry:
        names = [f"{registry.host}/library/{name}" for name in ("a:latest", "b:1b")]
        hosts = {
            "one": {"ollama_models": [names[0], {"name": names[1], "state": "absent"}]},
            "two": {"ollama_models": names},
            "three": {},
        }
        inventory = tmp_path / "inventory" / "hosts.yml"
        inventory.parent.mkdir()
        inventory.write_text(json.dumps({"ollama_servers": {"hosts": hosts}}))
        # No model registry with a certificate can be reached from here.
        text = (ROOT / "playbooks" / "lock.yml").read_text()
        name = "kaido.ollama.model_lock:\n"
        assert text.count(name) == 1
        playbook = tmp_path / "lock.yml"
        playbook.write_text(text.replace(name, name + "        insecure: true\n"))
        lock = inventory.parent / "models.lock.yml"

        def run(program: str, *arguments: str | Path, ok: bool = True) -> str:
            done = ansible(program, "-i", inventory, *arguments)
            assert (done.status == 0) is ok, done.output
            return done.stdout

        def play(*more: str) -> str:
            return run("ansible-playbook", playbook, "--diff", *more)

        # The hosts do not exist: nothing may connect to them.
        output = play("--limit", "one", "--check")
        assert "+  digest: sha256:" in output
        assert not lock.exists()
        output = play("--limit", "one")
        assert set(read_lock(str(lock))) == set(names)
        assert "changed=1" in output
        assert "changed=0" in play()
        locked = "msg={{ lookup('kaido.ollama.models_lock', none, models=ollama_models)[ollama_models[1]] }}"
        output = run("ansible", "two", "-m", "ansible.builtin.debug", "-a", locked)
        assert read_lock(str(lock))[names[1]].digest in output
        lock.write_text("a: [\n")
        output = run("ansible", "two", "-m", "ansible.builtin.debug", "-a", locked, ok=False)
        # ansible-core 2.16 wraps the message.
        assert f"{lock}: it is not YAML in line 2" in " ".join(output.split())
