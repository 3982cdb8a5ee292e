# SPDX-License-Identifier: GPL-3.0-or-later
"""One case for each recorded exchange: the same request, and a response that differs only where it must."""

from __future__ import annotations

import re
import typing as t

import pytest

from tests.standin.registry import Registry

from . import replay
from .target import NAMESPACE, Target

_LISTS = ("tags", "removed_blob_tags", "damaged_same_size_tags", "broken_manifest_tags", "show", "v1_models")
_NAMES = [name for name in replay.load(1) if name not in replay.ELSEWHERE]
_WITH_STORE = [name for name, exchange in replay.load(1).items() if exchange.store_after]


@pytest.fixture(scope="session")
def replayed(target: Target, recorded_registry: Registry, runs: bool) -> replay.Replay:
    return replay.Replay(target, recorded_registry, runs)


def _asked(replayed: replay.Replay, name: str) -> None:
    if name in replayed.skipped:
        pytest.skip(replayed.skipped[name])


def _without_progress(lines: list[t.Any]) -> list[t.Any]:
    return [line for line in lines if not re.match(r"pulling [0-9a-f]{12}", str(line.get("status")))]


@pytest.mark.parametrize("name", _NAMES)
def test_status_and_headers(replayed: replay.Replay, name: str) -> None:
    _asked(replayed, name)
    recorded, reply = replayed.recorded[name], replayed.replies[name]
    if name == "embed" and reply.status == 200:
        pytest.skip("this server's runner computes embeddings; the recorded one was started without")
    assert (reply.status, reply.content_type) == (recorded.status, recorded.content_type)
    if not name.startswith(_LISTS):  # a list's length, and so its coding, depends on what else the server has
        assert ("chunked" in reply.headers.get("transfer-encoding", "")) == recorded.chunked
    same_text = recorded.content_length and reply.lines == recorded.lines and recorded.method != "HEAD"
    if same_text or name == "root_head":
        assert reply.headers["content-length"] == recorded.content_length


@pytest.mark.parametrize("name", [name for name in _NAMES if replay.load(1)[name].lines])
def test_body(replayed: replay.Replay, name: str) -> None:
    _asked(replayed, name)
    answered, expected = replayed.answered(name), replayed.expected(name)
    if name == "version":
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", answered[0]["version"])
    elif name == "embed" and replayed.replies[name].status == 200:
        pytest.skip("this server's runner computes embeddings; the recorded one was started without")
    elif name in ("pull_fresh", "removed_blob_pull"):  # the time of a layer is not asserted
        assert _without_progress(answered) == _without_progress(expected)
    elif name == "generate_stream":
        assert [set(line) for line in answered[:-1]] == [set(expected[0])] * (len(answered) - 1)
        assert answered[-1] == {**expected[-1], "response": answered[-1]["response"]}
    elif name == "generate_nostream":
        assert answered == [{**line, "response": "text"} for line in expected]
    elif name == "removed_blob_generate" and replayed.target.generation == 1:
        # 404 while the server remembers what the model could do, 400 once it does not
        assert re.search(r"not found, try pulling it first|does not support generate", answered[0]["error"])
    elif name == "create_from_files":  # a server before 0.34 rewrites the file, so the layers' digests are its own
        assert [line["status"].split(" sha256:")[0] for line in answered] == [
            line["status"].split(" sha256:")[0] for line in expected
        ]
    else:
        assert answered == expected


@pytest.mark.parametrize("name", _WITH_STORE)
def test_store_afterwards(replayed: replay.Replay, name: str) -> None:
    """Every recorded blob and manifest exists; other content of the store is ignored."""
    _asked(replayed, name)
    if replayed.target.models_dir is None:
        pytest.skip("needs --models-dir")
    after = replayed.recorded[name].store_after
    assert after
    found = replayed.files[name]
    for path, recorded in after.items():
        ours = replayed.ours(path).replace("mirror.test%3A11480", replayed.registry.host.replace(":", "%3A"))
        if ours.startswith("manifests"):
            tree, host, _namespace, model, tag = ours.split("/")
            if host in ("registry.ollama.ai", "ollama.com"):
                ours = f"{tree}/{host}/{NAMESPACE}/{model}/{tag}"
            assert ours in found
            if "/made/" not in ours and "/helper/" not in ours:
                assert found[ours].items() <= {"mode": "0o644", **recorded}.items()
        elif replayed.ours(path) == path and path in _stable_blobs(replayed, after):
            assert found[path] == {"size": recorded["size"], "mode": recorded["mode"]}


def _stable_blobs(replayed: replay.Replay, after: dict[str, t.Any]) -> set[str]:
    """Return the blobs that contain no name and no upload of this run."""
    stable = set()
    for path, recorded in after.items():
        own = "made.gguf" in recorded.get("text", "") or "tiny:latest" in recorded.get("text", "")
        config_of_own = recorded.get("size") == 488
        noted_at_load = '"runner":"ggml"' in recorded.get("text", "")
        if path.startswith("blobs/") and not own and not config_of_own and not noted_at_load:
            stable.add(path)
    return stable
