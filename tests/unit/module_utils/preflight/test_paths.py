# SPDX-License-Identifier: GPL-3.0-or-later
"""Which paths a server may have, and their form."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    paths,
)

from tests.unit.module_utils.preflight.trees import HOME
from tests.unit.modules.preflight.hosts import (
    CONVERGED,
    MODELS,
    WANTED,
    examine,
    refusal,
)

# A1: directories that are not for this purpose


@pytest.mark.parametrize("variable", ["models_dir", "install_dir"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/dev/shm/m",
        "/etc",
        "/etc/ollama",
        "/home",
        "/lib",
        "/lib64/x",
        "/opt",
        "/proc",
        "/proc/1",
        "/root",
        "/run",
        "/run/user/0",
        "/sbin",
        "/sys",
        "/tmp",
        "/tmp/models",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/local",
        "/usr/local/bin",
        "/usr/share",
        "/var",
        "/var/lib",
        "/var/log",
        "/var/tmp/x",
        "/var/run",
        "/var/lib/kaido-ollama",
        "/var/cache",
        "models",
        "./models",
        "",
        "~/models",
        "~root/m",
        "/a/../etc",
        "/my models",
        "/a\nb",
        "/a%h",
        "/a;b",
        "/ä",
        "/a'b",
    ],
)
def test_directories_of_the_system_and_malformed_paths(variable: str, path: str) -> None:
    error = refusal(replace(WANTED, **t.cast("dict[str, t.Any]", {variable: paths.normal(path)})), CONVERGED)
    assert error.code == "value_invalid"
    assert error.message.startswith(f"ollama_{variable}: invalid value ")
    assert "expected" in error.message


@pytest.mark.parametrize(
    "path",
    ["/data", "/srv", "/mnt", "/mnt/disk", "/var/cache/ollama", "/run/media/lab/disk", "/home/lab/models", "/m@1"],
)
def test_directories_that_may_be_for_models(path: str) -> None:
    assert "release" not in examine(replace(WANTED, models_dir=path), CONVERGED)


@pytest.mark.parametrize(
    ("models", "install"),
    [
        ("/data/x", "/data/x"),
        ("/data/x/models", "/data/x"),
        ("/data", "/data/x"),
        (MODELS, HOME),
        (MODELS, "/usr/share"),
        (MODELS, HOME + "/.ollama/bin"),
    ],
)
def test_directories_in_each_other(models: str, install: str) -> None:
    assert refusal(replace(WANTED, models_dir=models, install_dir=install)).code == "value_invalid"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/data/models/", "/data/models"),
        ("/data//models///", "/data/models"),
        ("/data/./models/.", "/data/models"),
        ("/", "/"),
        ("", ""),
        ("~/x/", "~/x"),
    ],
)
def test_one_form_of_a_path(path: str, form: str) -> None:
    assert paths.normal(path) == form
