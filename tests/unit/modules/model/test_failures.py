# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid input, unreachable registries, servers that cannot be used, and the codes of failures."""

from __future__ import annotations

import json
import re
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Source, look_up
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import classify
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model

from tests.standin.registry import FIXTURES, make_model
from tests.unit.modules.model.world import HEX, World, damage

# --- bad input: one line, before anything changes

BAD: list[tuple[dict[str, t.Any], str, str]] = [
    ({"models": ["bad name!!"]}, "name_invalid", "models[0].name"),
    ({"models": ["a", {"name": "x:"}]}, "name_invalid", "models[1].name"),
    ({"models": [{"nme": "a"}]}, "model_invalid", "models[0]"),
    ({"models": [{"name": "a", "tag": "x"}]}, "model_invalid", "'tag'"),
    ({"models": [{"name": "a", "state": "there"}]}, "model_invalid", "models[0].state"),
    ({"models": [{"name": "a", "aliases": "x"}]}, "model_invalid", "models[0].aliases"),
    ({"models": [7]}, "model_invalid", "models[0]"),
    ({"models": ["a", "A:latest"]}, "model_duplicate", "models[1]"),
    ({"models": ["a", {"name": "b", "aliases": ["a"]}]}, "model_duplicate", "models[1]"),
    ({"name": "a", "digest": "sha256:12"}, "digest_invalid", "models[0].digest"),
    ({"name": "a", "mirrors": ["hecate:11480"]}, "url_invalid", "'hecate:11480'"),
    ({"name": "a", "mirrors": ["http://hecate:x"]}, "url_invalid", "'http://hecate:x'"),
    ({"name": "a", "mirrors": ["http://u:p@hecate"]}, "url_invalid", "mirrors"),
    ({"name": "gpt-oss:20b-cloud"}, "model_in_cloud", "allow_cloud"),
    ({"name": "a", "parallel": 0}, "value_invalid", "parallel: invalid value 0"),
    ({"name": "a", "stall_timeout": 0}, "value_invalid", "stall_timeout"),
    ({"name": "a", "keep": ["x y"]}, "name_invalid", "keep"),
    ({"models": ["a"], "lock": {"a": "latest"}}, "digest_invalid", "lock: a"),
    ({"models": ["a"], "lock": {"a b": HEX}}, "name_invalid", "lock"),
    ({"name": "a", "api_url": "localhost:11434"}, "url_invalid", "api_url"),
]


@pytest.mark.parametrize(("params", "code", "named"), BAD)
def test_invalid_input_is_one_line(
    run_module: t.Any, tmp_path: Path, params: dict[str, t.Any], code: str, named: str
) -> None:
    defaults = {
        "api_url": "http://127.0.0.1:1",
        "models_dir": str(tmp_path),
        "state_dir": str(tmp_path),
        "startup_timeout": 0,
    }
    result = run_module(model, {**defaults, **params})
    assert result["failed"]
    assert result["failure"]["code"] == code
    assert named in result["msg"]
    assert "\n" not in result["msg"]


def test_a_missing_tag_is_one_line(world: World) -> None:
    result = world.run(models=["a", "nope:1b"])
    assert result["failure"]["code"] == "tag_missing"
    assert "nope:1b" in result["msg"]
    assert "\n" not in result["msg"]


def test_a_refused_tag_does_not_affect_the_others(world: World) -> None:
    """As hf.co refuses a tag of several files: with a sentence, which the user has to read."""
    sentence = "This quantization is split into several files and cannot be pulled: use another one"
    world.upstream.misbehave("b/manifests/1b", status=400, body=json.dumps({"error": sentence}).encode())
    predicted = world.run(models=["a", "b:1b", "kaido/c:q8"], check=True)
    result = world.run(models=["a", "b:1b", "kaido/c:q8"])
    assert predicted["failure"]["code"] == result["failure"]["code"] == "tag_refused"
    assert "b:1b" in result["msg"]
    assert sentence in result["msg"]
    assert sorted(world.tags()) == ["a:latest", "kaido/c:q8"]
    assert [row["name"] for row in predicted["models"]] == ["a:latest", "kaido/c:q8"]
    assert [row["name"] for row in result["models"]] == ["a:latest", "kaido/c:q8"]


def test_unreachable_registries_are_left_to_the_server(without_registries: World) -> None:
    result = without_registries.run(models=["a", "b:1b"])
    assert not result["failed"], result
    assert sorted(without_registries.tags()) == ["a:latest", "b:1b"]
    assert any("left to the server" in text and "https_proxy" in text for text in result["warnings"])
    assert not without_registries.run(models=["a", "b:1b"])["changed"]


def test_the_server_compares_latest_where_only_it_reaches_the_registry(without_registries: World) -> None:
    assert not without_registries.run(name="a")["failed"]
    for check in (True, False):
        same = without_registries.run(name="a", state="latest", check=check)
        assert (same["failed"], same["changed"]) == (False, False), same
        assert any("left to the server" in text for text in same["warnings"])
    new = "sha256:" + make_model(without_registries.upstream_dir, "a", size=41_000, seed=9)
    moved = without_registries.run(name="a", state="latest")
    assert (moved["failed"], moved["changed"]) == (False, True), moved
    assert without_registries.tags() == {"a:latest": new}
    without_registries.upstream.misbehave("", status=503)
    failed = without_registries.run(name="a", state="latest")
    assert failed["failure"]["code"] == "registry_unreachable"
    assert without_registries.tags() == {"a:latest": new}


def test_a_pin_is_not_left_to_the_server(without_registries: World) -> None:
    result = without_registries.run(name="a", digest=HEX)
    assert result["failure"]["code"] == "registry_unreachable"
    assert without_registries.tags() == {}


def test_the_options_environment_is_used_for_look_ups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[t.Any] = []

    def asked(_source: Source, name: t.Any, **options: t.Any) -> t.Any:
        seen.append(options)
        return look_up(Source(world.upstream.host, insecure=True), name, **options)

    monkeypatch.setattr(sources_module, "look_up", asked)
    proxy = "http://u:secret@proxy.lan:3128"
    result = world.run(name="a", registry_environment={"HTTPS_PROXY": proxy}, deadline=60.0)
    assert seen[0]["environment"]["HTTPS_PROXY"] == proxy
    assert seen[0]["until"] < time.monotonic() + 60
    assert "secret" not in json.dumps(result)


def test_a_registry_that_is_down_is_one_line(world: World) -> None:
    result = world.run(name="127.0.0.1:1/library/tiny", insecure=True)
    assert result["failure"]["code"] == "registry_unreachable"
    assert "127.0.0.1:1" in result["msg"]
    assert "\n" not in result["msg"]


def test_too_little_disk_is_reported_before_pulling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "free_bytes", lambda self: 10_000)
    for check in (True, False):
        result = world.run(name="a", check=check)
        assert result["failure"]["code"] == "disk_full"
        assert "40.2 kB" in result["msg"]
        assert "10.0 kB" in result["msg"]
    assert world.upstream.sent("/blobs/") == 0


def test_room_that_a_pull_writes_over_counts_as_free(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(name="a")
    weights = world.blob("model")
    damage(weights, "flip_bit")
    monkeypatch.setattr(Store, "free_bytes", lambda self: 1000)
    assert world.run(name="a")["changed"], "a damaged blob makes the room for the right one"
    # A full disk leaves bytes that the server does not count as fetched.
    world.run(name="a", state="absent")
    weights.with_name(weights.name + "-partial").write_bytes(bytes(40_000))
    part = {"N": 0, "Offset": 0, "Size": 40_000, "Completed": 0}
    weights.with_name(weights.name + "-partial-0").write_text(json.dumps(part))
    done = world.run(name="a")
    assert not done["failed"], done
    assert done["bytes_missing"] > 40_000


@pytest.mark.parametrize("content", ["", '{"N": 0, "Off', "\0" * 50, "[]", "[" * 100_000])
def test_a_partial_download_that_a_power_cut_has_damaged_is_removed(world: World, content: str) -> None:
    """The server reads the progress of a part first, and no pull of this blob succeeds."""
    world.run(name="a")
    weights = world.blob("model")
    world.run(name="a", state="absent")
    weights.with_name(weights.name + "-partial").write_bytes(bytes(40_000))
    weights.with_name(weights.name + "-partial-0").write_text(content)
    other = weights.with_name(f"sha256-{'9' * 64}-partial-0")
    other.write_text("")
    done = world.run(name="a")
    assert not done["failed"], done
    assert [row for row in done["models"][0]["actions"] if row.startswith("removed the damaged partial download")]
    assert weights.exists()
    assert other.exists(), "it belongs to another model"
    assert not weights.with_name(weights.name + "-partial-0").exists()


def test_no_server_is_one_line(run_module: t.Any, tmp_path: Path) -> None:
    params = {
        "name": "a",
        "api_url": "http://127.0.0.1:1",
        "models_dir": str(tmp_path),
        "state_dir": str(tmp_path),
        "startup_timeout": 0.3,
    }
    result = run_module(model, params)
    assert result["failure"]["code"] == "server_unreachable"
    assert "http://127.0.0.1:1" in result["msg"]


def test_a_different_store_is_detected(world: World, tmp_path: Path) -> None:
    world.run(name="a")
    (tmp_path / "other").mkdir()
    result = world.run(name="a", models_dir=str(tmp_path / "other"))
    assert result["failure"]["code"] == "store_mismatch"


def test_a_different_version_is_detected(world: World) -> None:
    result = world.run(models=[], server={"version": "0.1.0"})
    assert result["failure"]["code"] == "version_mismatch"
    assert world.server.version in result["msg"]


def test_check_mode_works_before_there_is_a_server(world: World, tmp_path: Path) -> None:
    result = world.run(models=["a"], api_url="http://127.0.0.1:1", models_dir=str(tmp_path / "none"), check=True)
    assert not result["failed"], result
    assert result["diff"]["after"] == {"a:latest": world.digests["a"]}
    assert result["server_version"] is None


# --- the words of servers

TEXTS = [
    ("pull model manifest: file does not exist", "tag_missing"),
    ("pull model manifest: 500: oops", "registry_unreachable"),
    ("503: busy", "registry_unreachable"),  # about a blob: nothing stands before the status
    ('Get "https://x/v2/a/b/blobs/sha256:4121": connection reset', "registry_unreachable"),  # a digest, no status
    ("403: <html>no</html>", "registry_refused"),
    ('Get "https://x/v2/": stopped after 10 redirects', "registry_unsuitable"),
    ('pull model manifest: Get "https://x/v2/": dial tcp: lookup x: no such host', "registry_unreachable"),
    ("http: no Location header in response", "registry_unsuitable"),
    ("blocked redirect to a different host", "registry_unsuitable"),
    ("digest mismatch, file must be downloaded again: want sha256:aa, got sha256:bb", "digest_mismatch"),
    ("write /x: no space left on device", "disk_full"),
    ("pull model manifest: 412: this model requires a newer version of Ollama", "server_too_old"),
    ("context deadline exceeded", "registry_unreachable"),
    ("context canceled", "connection_lost"),
    ("max retries exceeded: context canceled", "connection_lost"),
    ('Get "https://x/v2/": http: server gave HTTP response to HTTPS client', "registry_is_http"),
    ('Get "https://x/v2/": tls: first record does not look like a TLS handshake', "registry_is_http"),
    ('Get "https://x/v2/": tls: failed to verify certificate: x509: unknown authority', "tls_failed"),
    ("something new", "server_error"),
]
# The errors of real servers about each fault of a registry, as codes of the module.
FAULTS = {
    "wrong bytes, once": "digest_mismatch",
    "wrong bytes, always": "digest_mismatch",
    "still, always": "registry_unreachable",
    "busy about a blob, once": "registry_unreachable",
    "busy about the manifest": "registry_unreachable",
    "a wrong size": "digest_mismatch",
    "a blob that leads to itself": "registry_unsuitable",
    "a blob without a Location": "registry_unsuitable",
    "a manifest that leads to itself": "registry_unsuitable",
    "no such tag": "tag_missing",
    "a page for a manifest": "manifest_invalid",
}


@pytest.mark.parametrize("recording", ["v0.33", "v0.40"])
def test_errors_of_real_servers_about_registry_faults_have_codes(recording: str) -> None:
    cases = json.loads((FIXTURES / "faults" / f"{recording}.json").read_text())
    message = [(case["name"], case["last"]["error"]) for case in cases if "error" in case["last"]]
    assert {name: classify(text) for name, text in message} == FAULTS


@pytest.mark.parametrize(("text", "code"), TEXTS)
def test_errors_of_the_server_have_stable_codes(text: str, code: str) -> None:
    assert classify(text) == code


def test_every_code_is_documented() -> None:
    utils = Path(sources_module.__file__).parents[1]
    files = [*(utils / "_models").glob("*.py"), *(utils / "_store").glob("*.py"), utils / "_core" / "name.py"]
    files += [utils / "_server" / "api.py", utils / "_server" / "argspec.py", utils / "_core" / "http.py"]
    other_modules = {"findings.py", "verification.py", "lockfile.py", "job.py"}
    sources = "".join(path.read_text() for path in files if path.name not in other_modules)
    codes = set(re.findall(r'OllamaError\(\s*"([a-z_]+)"', sources)) | {code for _text, code in TEXTS}
    internal = {"response_invalid", "dest_taken", "dest_unwritable"}
    documented = set(re.findall(r"V\(([a-z_]+)\)", model.DOCUMENTATION))
    assert codes - internal <= documented
    assert OllamaError("x", "y").to_fail_json()["failure"]["code"] == "x"
