# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of servers and registries, mutated: whatever they send, a module ends with one line and a known code.

Each scenario runs once against the stand-in while its answers are recorded, and then again and again on the recorded
answers, one or several of which are mutated. The seed is fixed: a case that fails fails again.
"""

from __future__ import annotations

import copy
import json
import random
import threading
import types
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import http
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import Response
from ansible_collections.kaido.ollama.plugins.module_utils._models import loaded as loaded_module
from ansible_collections.kaido.ollama.plugins.module_utils._models import probe as probe_module
from ansible_collections.kaido.ollama.plugins.module_utils._models import pull as pull_module
from ansible_collections.kaido.ollama.plugins.module_utils._models import registry as registry_module
from ansible_collections.kaido.ollama.plugins.module_utils._models import session as session_module
from ansible_collections.kaido.ollama.plugins.module_utils._server import api
from ansible_collections.kaido.ollama.plugins.modules import model, model_build, model_info, model_loaded, model_probe

from tests import standin
from tests.standin import gguf
from tests.standin.registry import Registry, make_model
from tests.unit.fake_module import Module

Params = dict[str, t.Any]

ODD: list[t.Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    float("inf"),
    10**30,
    "",
    "x",
    "0",
    "\x1b[31m\u202e\ud800\n",
    "x" * 70_000,
    [],
    [None],
    ["x"],
    [[]],
    {},
    {"a": 1},
]
RAW: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"3",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"NaN",
    b"1e999",
    b'{"models":NaN}',
    b"[" * 100_000,
    b'{"models":' * 100_000,
    b'{"size":' + b"9" * 5000 + b"}",
    b"<html>\x1b[2J</html>",
]
STATUSES = (204, 206, 301, 400, 401, 403, 404, 407, 410, 418, 429, 500, 502, 503, 999)
DELETE = object()


class Clock:
    """Time that passes only during waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Streamed:
    """A stream on recorded lines."""

    def __init__(self, answer: Response) -> None:
        self.url, self.status, self.headers = answer.url, answer.status, answer.headers
        self._body = answer.body

    def __enter__(self) -> Streamed:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        return self._body[:size]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body.splitlines(keepends=True))


class Tape:
    """The answers of a scenario: recorded once, then replayed, some of them replaced."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Response]] = []
        self.replaced: dict[int, Response] = {}
        self.recording = True
        self._at = 0
        self._lock = threading.Lock()

    def rewind(self, replaced: dict[int, Response]) -> None:
        self.recording, self.replaced, self._at = False, replaced, 0

    def request(self, method: str, url: str, **options: t.Any) -> Response:
        route = f"{method} {url}"
        with self._lock:
            if self.recording:
                answer = http.request(method, url, **options)
                self.answers.append((route, answer))
                return answer
            # In order as long as the run goes as recorded; then whatever was once answered there.
            at = self._at
            if at >= len(self.answers) or self.answers[at][0] != route:
                at = next((index for index, (known, _a) in enumerate(self.answers) if known == route), -1)
            self._at = at + 1 if at >= 0 else self._at
            if at < 0:
                return Response(url, 404, {}, b'{"error":"not found"}')
            return self.replaced.get(at, self.answers[at][1])

    def open_stream(self, method: str, url: str, **options: t.Any) -> Streamed:
        return Streamed(self.request(method, url, **options))


def places(value: t.Any, path: tuple[t.Any, ...] = ()) -> Iterator[tuple[t.Any, ...]]:
    """Yield the paths of all values in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(value: t.Any, path: tuple[t.Any, ...], new: t.Any) -> t.Any:
    """Return a JSON value with another one in one place."""
    if not path:
        return None if new is DELETE else new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is DELETE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def mutations(answer: Response) -> Iterator[Response]:
    """Yield everything that is done to one answer."""

    def made(body: bytes, status: int = answer.status) -> Response:
        return Response(answer.url, status, dict(answer.headers, location="ftp://u:secret@x\x1b/"), body)

    yield from (made(body) for body in RAW)
    yield from (made(body, status) for status in STATUSES for body in (answer.body, b'{"error":{}}', b'{"errors":[3]}'))
    yield from (made(answer.body[:size]) for size in range(0, len(answer.body), max(1, len(answer.body) // 8)))
    lines = answer.body.splitlines()
    for number, line in enumerate(lines):
        try:
            value = json.loads(line if len(lines) > 1 else answer.body)
        except ValueError:
            continue
        around = lines if len(lines) > 1 else [b""]
        for path in places(value):
            for new in (*ODD, DELETE):
                text = json.dumps(replaced(value, path, new)).encode()
                yield made(b"\n".join([*around[:number], text, *around[number + 1 :]]))


class World:
    """A stand-in with models, a registry with another one, and the tape between them and the modules."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        self.folder = folder
        self.version = version
        self.tape = Tape()
        self.clock = Clock()
        for module in (api, loaded_module, probe_module, pull_module, session_module):
            monkeypatch.setattr(module, "time", self.clock)
        monkeypatch.setattr(registry_module, "time", self.clock)
        monkeypatch.setattr(registry_module, "sleep", self.clock.sleep)
        for module in (api, registry_module):
            monkeypatch.setattr(module, "request", self.tape.request)
        monkeypatch.setattr(api, "open_stream", self.tape.open_stream)
        (folder / "weights.gguf").write_bytes(gguf.tiny(3000, 7, quantized=False))

    def run(self, module: types.ModuleType, params: Params, server: str) -> dict[str, t.Any]:
        defaults = {key: spec.get("default") for key, spec in module.SPEC.items()}
        places = {"api_url": server, "models_dir": str(self.folder / "none"), "state_dir": str(self.folder / "state")}
        fake = Module({**defaults, **{key: value for key, value in places.items() if key in defaults}, **params})
        return fake.finish(t.cast("t.Any", module).run)


Scenario = tuple[types.ModuleType, Callable[[World, str], Params]]
SCENARIOS: dict[str, Scenario] = {
    "info": (model_info, lambda _w, _r: {}),
    "load": (model_loaded, lambda _w, _r: {"models": ["a", "embed"], "keep_alive": "5m", "startup_timeout": 0.0}),
    "unload": (
        model_loaded,
        lambda _w, _r: {"models": ["a"], "state": "unloaded", "startup_timeout": 0.0, "timeout": 1.0},
    ),
    "probe": (
        model_probe,
        lambda _w, _r: (
            {"name": "a", "prompt": "Hi", "min_tokens_per_second": 0.1, "require_gpu": True}
            | {"max_tokens": 4, "startup_timeout": 0.0}
        ),
    ),
    "embed": (model_probe, lambda _w, _r: {"name": "embed", "prompt": "Hi", "startup_timeout": 0.0}),
    "pull": (
        model,
        lambda _w, registry: (
            {"models": [{"name": f"{registry}/library/new", "aliases": ["other"]}, "a"]}
            | {"insecure": True, "verify": "none", "startup_timeout": 0.0, "exclusive": True}
        ),
    ),
    "absent": (
        model,
        lambda _w, _r: {"name": "a", "state": "absent", "verify": "none", "startup_timeout": 0.0},
    ),
    "build": (
        model_build,
        lambda _w, _r: (
            {"name": "mine", "from": "a", "system": "Be brief.", "startup_timeout": 0.0}
            | {"parameters": {"num_ctx": 2048}, "verify": "none"}
        ),
    ),
    "import": (
        model_build,
        lambda w, _r: {"name": "mine", "files": [str(w.folder / "weights.gguf")], "startup_timeout": 0.0},
    ),
}
# Expected failures, and those about a faulty peer. `internal_error` is none of them.
KNOWN = {
    *{code for _pattern, code in api._STREAM_ERRORS},
    *(
        "server_error",
        "response_invalid",
        "server_unreachable",
        "model_missing",
        "redirect_refused",
        "connection_lost",
        "connection_stalled",
    ),
    *(
        "load_failed",
        "server_busy",
        "model_evicted",
        "model_still_loaded",
        "response_empty",
        "model_too_slow",
        "model_on_cpu",
        "model_partly_on_cpu",
    ),
    *(
        "tag_refused",
        "manifest_invalid",
        "model_not_converged",
        "build_failed",
        "deadline_exceeded",
        "server_too_old",
        "disk_full",
    ),
    *(
        "gpu_use_unconfirmed",
        "digest_not_offered",
        "model_damaged",
        "base_missing",
        "file_unreadable",
        "store_mismatch",
    ),
}


@pytest.mark.parametrize("version", ["0.35.1", "0.40.2"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_answer_ends_in_a_traceback(
    name: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, version)
    module, params_of = SCENARIOS[name]
    generation = 2 if version >= "0.40" else 1
    models_dir, registry_dir = tmp_path / "models", tmp_path / "registry"
    make_model(models_dir, "a", generation=generation, seed=1, size=3000)
    make_model(models_dir, "embed", generation=generation, seed=2, size=3000, architecture="bert")
    make_model(registry_dir, "new", seed=3, size=3000)
    with Registry(registry_dir) as registry:
        params = params_of(world, registry.host)
        with standin.running(version, models_dir, {"STANDIN_TIME_SCALE": "0.01"}) as server:
            url = server.url
            result = world.run(module, params, url)
    assert len(world.tape.answers) > 2
    assert not result["failed"] or result["failure"]["code"] in KNOWN, result
    cases = [
        {index: mutated} for index, (_route, answer) in enumerate(world.tape.answers) for mutated in mutations(answer)
    ]
    chance = random.Random(f"{name} {version}")
    cases = chance.sample(cases, min(len(cases), 300))
    singles = [*cases]
    cases += [{**chance.choice(singles), **chance.choice(singles), **chance.choice(singles)} for _case in range(100)]
    for case in cases:
        world.tape.rewind(case)
        result = world.run(module, params, url)
        shown = {
            index: (world.tape.answers[index][0], answer.status, answer.body[:300]) for index, answer in case.items()
        }
        assert not result["failed"] or result["failure"]["code"] in KNOWN, (result, shown)
        text = json.dumps(result, ensure_ascii=False)
        text.encode()
        assert "\x1b" not in text
        assert "Traceback" not in text
        assert "secret" not in text
        assert len(result.get("msg", "").splitlines()) < 2
