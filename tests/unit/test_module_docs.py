# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module has examples that run in check mode, and a sample of each return value."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import typing as t
from inspect import signature
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests import standin
from tests.conftest import ROOT
from tests.unit.conftest import RunModule
from tests.unit.test_examples import MODULES, module_documentation, tasks

TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool,
    "dict": dict,
    "float": (int, float),
    "int": int,
    "list": list,
    "str": str,
}
# Action plugins that never start the module: tests/unit/action and the playbook tests run them.
ACTIONS = {"check_variables", "fail", "model_lock", "report"}
PARAMETRIZE = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
# Failures that show only that this machine is not the host of the example.
OTHER_HOST = {
    "account_missing",
    "address_mismatch",
    "bundle_unreadable",
    "certificate_unreadable",
    "checksum_unknown",
    "dest_unwritable",
    "file_unreadable",
    "gpu_driver_unavailable",
    "gpu_platform_unsupported",
    "gpu_system_unsupported",
    "haproxy_unreachable",
    "init_unsupported",
    "model_missing",
    "registry_unreachable",
    "root_required",
    "server_unreachable",
    "store_unreadable",
    "textfile_directory_missing",
}
VARIABLES: dict[str, t.Any] = {
    "groups": {"ollama_gateways": ["hecate"], "ollama_servers": ["big1"]},
    "inventory_hostname": "big1",
    "item": "hecate",
    "ollama__checksums": {"0.35.1": {"ollama-linux-amd64.tar.zst": "9" * 64}},
    "ollama_mirror__files": {"/etc/systemd/system/ollama-mirror.service": {"content": "[Unit]\n"}},
    "ollama_models": ["llama3.2:3b"],
    "ollama_monitoring__files": {"/etc/kaido-ollama/monitoring.json": "{}"},
    "rocm_checksum": "8" * 64,
    "vault_benchmark_token": "secret",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[standin.Running]:
    """A server with models of the names in the examples."""
    store = tmp_path_factory.mktemp("store") / "models"
    shutil.copytree(ROOT / "tests" / "fixtures" / "store-v1", store, symlinks=True)
    library = store / "manifests" / "registry.ollama.ai" / "library"
    for name in ("llama3.2/3b", "nomic-embed-text/latest", "nomic-embed-text/v1.5", "qwen2.5-coder/32b"):
        (library / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(library / "tiny" / "latest", library / name)
    with standin.running("0.35.1", store) as running:
        yield running


@PARAMETRIZE
def test_a_module_has_four_examples(path: Path, tmp_path: Path) -> None:
    calls = [task for task in example_tasks(path, tmp_path) if f"kaido.ollama.{path.stem}" in task]
    assert 4 <= len(calls) <= 6


@PARAMETRIZE
def test_each_return_value_has_a_sample(path: Path) -> None:
    returned = yaml.safe_load(module_documentation(path, "RETURN"))
    codes = (ROOT / "docs" / "failure-codes.md").read_text()
    assert f"| `{returned['failure']['sample']['code']}` |" in codes
    for name, value in returned.items():
        assert "sample" in value, name
        check_sample(name, value, value["sample"])


def check_sample(name: str, value: dict[str, t.Any], sample: t.Any) -> None:
    """Compare a sample with the documented type, and with the documented keys at each level."""
    if sample is None:
        assert "null" in str(value["description"]), name
        return
    assert isinstance(sample, TYPES[value["type"]]), name
    rows: t.Any = sample if value["type"] == "list" else [sample]
    for row in rows:
        if "contains" in value:
            assert set(row) == set(value["contains"]), name
            for key, part in value["contains"].items():
                if row[key] is not None:
                    check_sample(f"{name}.{key}", part, row[key])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_examples_have_no_merge_keys(path: Path) -> None:
    """Ansible warns of each key that replaces a merged one, in ansible-doc and in ansible-test."""
    assert "<<:" not in module_documentation(path, "EXAMPLES")


def example_tasks(path: Path, directory: Path) -> list[dict[str, t.Any]]:
    """Read the examples of a module as Ansible reads a file of tasks."""
    file = directory / "tasks.yml"
    # Without ansible-playbook's collection loader, lookups are found by their short names only.
    file.write_text(module_documentation(path, "EXAMPLES").replace("lookup('ansible.builtin.", "lookup('"))
    # From ansible-core 2.19 on, only trusted texts are templates.
    trust: dict[str, t.Any] = (
        {"trusted_as_template": True}
        if "trusted_as_template" in signature(DataLoader.load_from_file).parameters
        else {}
    )
    return list(tasks(DataLoader().load_from_file(str(file), **trust)))


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem not in ACTIONS], ids=lambda path: path.stem)
def test_the_examples_run_in_check_mode(
    path: Path,
    run_module: RunModule,
    server: standin.Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the address of the server and its store are added, unless the example has its own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # The Python of the tests may be in a home directory, where no unit can start it.
    monkeypatch.setattr(sys, "_base_executable", "/usr/bin/python3")
    (tmp_path / "chat.tmpl").write_text("{{ .Prompt }}")
    (tmp_path / "ollama.service.j2").write_text("[Service]\nExecStart=/opt/ollama/current/bin/ollama serve\n")
    loader = DataLoader()
    loader.set_basedir(str(tmp_path))
    templar = Templar(loader, variables={**VARIABLES, "inventory_dir": str(tmp_path)})
    fragments = module_documentation(path, "DOCUMENTATION")
    defaults = {"state_dir": str(tmp_path / "state"), "models_dir": os.fspath(server.models_dir)}
    given = {name: value for name, value in defaults.items() if "kaido.ollama.api.store" in fragments}
    if "kaido.ollama.api\n" in fragments:
        given["api_url"] = server.url
    module = importlib.import_module(f"ansible_collections.kaido.ollama.plugins.modules.{path.stem}")
    for task in example_tasks(path, tmp_path):
        if f"kaido.ollama.{path.stem}" in task:
            arguments = templar.template(task[f"kaido.ollama.{path.stem}"]) or {}
            arguments = json.loads(json.dumps(arguments, default=str))
            result = run_module(module, {**given, **arguments}, check=True)
            code = (result.get("failure") or {}).get("code")
            assert not result["failed"] or code in OTHER_HOST, (task["name"], result.get("msg"))
