# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A call of the module model. Preflight calls `unchanged` in its own process.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .._core.errors import OllamaError
from .._core.name import parse
from .._core.options import check_input
from .._core.progress import DETACH, PROGRESS_FILE, WAITING, Progress
from .._gpu import memory as gpu_memory
from .._server.api import client, newer_than
from .._server.argspec import API, REGISTRY, STORE, registry_environment
from .._service.server_checks import ExpectedServer, check_server, observed
from .._store.findings import doubt
from .._store.state import Memory, exclusive, memory_path
from .._store.store import Store
from .._store.verification import last_verified
from .converge import converge
from .declaration import DeclaredModel, parse_models
from .duration import parse_timeout
from .job import new_progress_file, remove_ended
from .registry import parse_mirror
from .session import Options, Session

# Seconds. The download of a model of 400 GB over a slow connection takes hours.
_LONGEST_WAIT = 24 * 3600.0

SPEC: dict[str, t.Any] = {
    "models": {"type": "list", "elements": "raw"},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "latest", "absent"], "default": "present"},
    "digest": {"type": "str"},
    "aliases": {"type": "list", "elements": "str"},
    "lock": {"type": "dict"},
    "mirrors": {"type": "list", "elements": "str", "default": []},
    "source": {"type": "path"},
    "mirrors_trusted": {"type": "bool", "default": False},
    "insecure": {"type": "bool", "default": False},
    "verify": {"type": "str", "choices": ["changed", "full", "none"], "default": "changed"},
    "exclusive": {"type": "bool", "default": False},
    "keep": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "parallel": {"type": "int", "default": 1},
    "stall_timeout": {"type": "float", "default": 90.0},
    "deadline": {"type": "float", "default": 0.0},
    "allow_cloud": {"type": "bool", "default": False},
    "startup_timeout": {"type": "float", "default": 30.0},
    "build_timeout": {"type": "float", "default": 600.0},
    "load_timeout": {"type": "str", "default": "5m"},
    "server": {
        "type": "dict",
        "options": {
            "version": {"type": "str"},
            "address": {"type": "str"},
            "unit": {"type": "str"},
            "vram": {"type": "int", "default": 0},
            "gpu_settings": {"type": "dict", "default": {}},
        },
    },
    **API,
    **REGISTRY,
    **STORE,
}


CONFLICTS = [
    ("models", "name"),
    ("models", "digest"),
    ("models", "aliases"),
    ("source", "mirrors"),
    ("source", "mirrors_trusted"),
    ("source", "insecure"),
]
REQUIRED = [("models", "name")]


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Validate the options, bring the models to their states and return the module's result.

    :raises OllamaError: the errors of `converge`, and those of invalid options.
    """
    declared, options = _parse(params)
    path = memory_path(Store(params["models_dir"]), params["state_dir"])
    if check_mode:
        return _converge(params, declared, options, Progress(), check_mode=True)
    progress = Progress(os.environ.get(PROGRESS_FILE))
    try:
        progress.note(WAITING)
        with exclusive(path, seconds=0 if options.detach else params["deadline"] or _LONGEST_WAIT) as alone:
            progress.note("")
            if not alone and not options.detach:
                raise OllamaError("lock_held", f"another run is still working on {params['models_dir']}")
            if alone:
                remove_ended(path)
                result = _converge(params, declared, options, progress, check_mode=False)
            else:
                result = {"changed": False, "pending": True, "waiting": WAITING, "removals": []}
        return {**result, "progress_file": new_progress_file(path)} if "pending" in result else result
    finally:
        progress.finish()


def unchanged(given: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any] | None:
    """Return the result of a call that changes nothing; None if the call would change something or fail.

    Verified files are recorded, so that a later call of the module does not read them again.

    :param given: the options of the module.
    :param check_mode: whether a result with predicted changes is returned as well.
    """
    validator = ArgumentSpecValidator(SPEC, mutually_exclusive=CONFLICTS, required_one_of=REQUIRED)
    try:
        check_input(SPEC, given)
        validated = validator.validate(dict(given))
        if validated.error_messages:
            return None
        # The module waits for a server that does not answer immediately.
        params = {**validated.validated_parameters, "startup_timeout": 0.0}
        declared, options = _parse(params)
        if check_mode:
            return _converge(params, declared, options, Progress(), check_mode=True)
        options = replace(options, unchanged=True)
        with exclusive(memory_path(Store(params["models_dir"]), params["state_dir"]), seconds=0) as alone:
            result = _converge(params, declared, options, Progress(), check_mode=False) if alone else {"pending": True}
    except (OllamaError, OSError):
        return None
    return None if "pending" in result else result


def _parse(params: t.Mapping[str, t.Any]) -> tuple[list[DeclaredModel], Options]:
    """Return the declared models and the options for reaching their states.

    :raises OllamaError: for invalid values.
    """
    for option, least in (
        ("parallel", 1),
        ("stall_timeout", 1),
        ("deadline", 0),
        ("startup_timeout", 0),
        ("build_timeout", 1),
    ):
        if params[option] < least:
            raise OllamaError("value_invalid", f"{option}: invalid value {params[option]}; expected {least} or more")
    server = params["server"] or {}
    if server.get("vram", 0) < 0:
        raise OllamaError("value_invalid", f"server.vram: invalid value {server['vram']}; expected 0 or more")
    # An empty name is an error, not a missing option.
    one = {"name": params["name"] or " ", "digest": params["digest"], "aliases": params["aliases"]}
    declared = parse_models(
        [one] if params["name"] is not None else params["models"],
        state=params["state"],
        allow_cloud=params["allow_cloud"],
        locked=params["lock"],
    )
    bundle = params["source"]
    if bundle:
        declared = [model if model.source or model.recipe else replace(model, source=bundle) for model in declared]
    options = Options(
        mirrors=tuple(parse_mirror(url) for url in params["mirrors"]),
        mirrors_trusted=params["mirrors_trusted"],
        insecure=params["insecure"],
        verify=params["verify"],
        stall_timeout=params["stall_timeout"],
        deadline=params["deadline"],
        parallel=params["parallel"],
        exclusive=params["exclusive"],
        keep=tuple(parse(name, allow_cloud=True, what="keep") for name in params["keep"]),
        detach=DETACH in os.environ,
        all_or_nothing=bool(bundle),
        build_timeout=params["build_timeout"],
        load_timeout=parse_timeout(params["load_timeout"], what="load_timeout"),
        unit=server.get("unit"),
        # The previous call has returned the warning.
        vram=0 if PROGRESS_FILE in os.environ else server.get("vram", 0),
        gpu_settings=gpu_memory.settings(server.get("gpu_settings") or {}),
        environment=registry_environment(params),
    )
    return declared, options


def _converge(
    params: t.Mapping[str, t.Any],
    declared: list[DeclaredModel],
    options: Options,
    progress: Progress,
    *,
    check_mode: bool,
) -> dict[str, t.Any]:
    given = params["server"] or {}
    expected = ExpectedServer(given.get("version"), given.get("address"), given.get("unit"))
    server = client(params)
    version = check_server(server, expected, wait=params["startup_timeout"], check_mode=check_mode)
    lists = newer_than(version or expected.version or "0", (0, 40))
    memory = Memory.of(Store(params["models_dir"]), params["state_dir"])
    doubt(memory)
    session = Session(
        server,
        _store(params, lists, check_mode=check_mode),
        memory,
        options,
        lists=lists,
        version=version,
        progress=progress,
    )
    result = converge(session, declared, check_mode=check_mode)
    for item, row in zip(declared, result.get("models", [])):
        entry = session.store.find(item.name) if session.store else None
        row["verified_at"] = last_verified(session.store, memory, entry) if session.store and entry else None
    seen = observed(expected)
    if expected.address and "models" in result:
        seen["ansible_facts"]["ollama_report"] = {
            "version": version,
            "address": expected.address,
            "compute": seen["compute"],
            "verify": params["verify"],
            "models": result["models"],
            "removed": result.get("removed", []),
            "undeclared": result.get("undeclared", 0),
        }
    return dict(result, server_version=version, **seen)


def _store(params: t.Mapping[str, t.Any], lists: bool, *, check_mode: bool) -> Store | None:
    """Return the store, or None if it is not readable and not required.

    :raises OllamaError: ``store_unreadable`` if it is required.
    """
    store = Store(params["models_dir"], generation=2 if lists else 1)
    if store.readable:
        return store
    if params["verify"] != "none" and not check_mode:
        raise OllamaError(
            "store_unreadable",
            f"models_dir: cannot read {store.root}; expected OLLAMA_MODELS of the server with become, or verify: none",
        )
    return None
