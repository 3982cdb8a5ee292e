# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for any server (`--url`), or the stand-in with both generations of the store."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import pytest

from tests import standin
from tests.standin.registry import Registry

from .target import NAMESPACE, Target

STAND_INS = ("0.35.1", "0.40.2")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--url", help="base URL of a running server; without it the stand-in is tried in both generations")
    group.addoption("--models-dir", help="the server's model store, if this machine can read and write it")
    group.addoption("--registry-host", help="address of this machine as the server sees it (127.0.0.1)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        given = metafunc.config.getoption("url", None)
        metafunc.parametrize("target", [given] if given else STAND_INS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> t.Iterator[Target]:
    config = request.config
    url = config.getoption("url", None)
    if url:
        directory = config.getoption("models_dir", None)
        found = Target(url.rstrip("/"), pathlib.Path(directory) if directory else None)
        found.forget(f"{NAMESPACE}/")
        yield found
        found.forget(f"{NAMESPACE}/")
        return
    with standin.running(request.param, env={"STANDIN_TIME_SCALE": "0.01"}) as server:
        yield Target(server.url, pathlib.Path(server.models_dir))


@contextlib.contextmanager
def _registry(config: pytest.Config, store_dir: pathlib.Path) -> t.Iterator[Registry]:
    public = config.getoption("registry_host", None)
    with Registry(store_dir, "0.0.0.0" if public else "127.0.0.1", public=public or "127.0.0.1") as served:
        yield served


@pytest.fixture
def registry(request: pytest.FixtureRequest, target: Target, tmp_path: pathlib.Path) -> t.Iterator[Registry]:
    """Yield an empty registry for each case; models pulled from it are removed afterwards."""
    with _registry(request.config, tmp_path / "registry") as served:
        yield served
        target.forget(served.host)
        target.forget(f"{NAMESPACE}/")


@pytest.fixture(scope="session")
def recorded_registry(request: pytest.FixtureRequest) -> t.Iterator[Registry]:
    """Return the registry of the recordings: nginx over store-v1, for servers of both generations."""
    with _registry(request.config, pathlib.Path(__file__).parent.parent / "fixtures" / "store-v1") as served:
        yield served


@pytest.fixture
def needs_store(target: Target) -> None:
    if target.models_dir is None:
        pytest.skip("needs --models-dir: the case looks at or damages files of the store")


@pytest.fixture(scope="session")
def runs(target: Target, recorded_registry: Registry) -> bool:
    """Return whether the server can run a model; an installation without llama-server answers everything else."""
    name = f"{recorded_registry.host}/kaido/tiny2:q8"
    target.pulled(name)
    reply = target.call("POST", "/api/generate", {"model": name, "prompt": "x", "stream": False, "keep_alive": 0})
    target.delete(name)
    return reply.status == 200


@pytest.fixture
def needs_runner(runs: bool) -> None:
    if not runs:
        pytest.skip("needs a server that can run models: a generate on an intact one failed")
