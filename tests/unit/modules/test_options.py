# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong values for each option of each module: one line with a code, never a traceback, and nothing is changed."""

from __future__ import annotations

import contextlib
import importlib
import types
import typing as t
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.conftest import RunModule

LONG = "x" * 70_000
TEXTS: list[t.Any] = [
    "",
    " ",
    "x\ny",
    "x\0y",
    "\x1b[31m",
    "é\u202e",
    LONG,
    "../x",
    "ftp://x",
    "http://[",
    "-1",
    "$HOME",
]
PATHS: list[t.Any] = [
    "",
    "relative/x",
    "/x\0y",
    "/x\ny",
    "/é\u202e",
    "/" + LONG,
    "~nobody-has-this-name/x",
    "/dev/null/x",
]
NUMBERS: list[t.Any] = [-1, 0, 10**30, "nan", "inf", "-inf", "1e400", "abc", "", [], {}]
VALUES: dict[str, list[t.Any]] = {
    "str": TEXTS,
    "path": PATHS,
    "int": NUMBERS,
    "float": NUMBERS,
    "bool": ["maybe", "", 7, [], {}],
    "list": ["a,b", [""], [None], [{}], [[]], ["x\0y"], ["x\ny"], [LONG], [1e308], [{"name": None}], {"a": 1}, 7],
    "dict": ["k=v", "{", [], [[]], {"": ""}, {"x": None}, {"a\0": "b\n"}, {"x": {"y": []}}, {"x": -1}, 7],
    "raw": ["", "x\0y", -1, [], [None], {}, {"": {}}, 1e308],
}
NOT_FINITE: list[t.Any] = [float("inf"), float("-inf"), float("nan"), "inf", "nan"]
# Values that cannot be converted to a type, and what is expected. ansible-core ends with an exception of its own for
# some of them.
WRONG_TYPES: dict[str, tuple[str, list[t.Any]]] = {
    "int": ("a whole number", [*NOT_FINITE, ".inf", "abc", "1.5", [], [1], {}, {"a": 1}]),
    "float": ("a number", [10**400, ".inf", "abc", [], [1], {}, {"a": 1}]),
    "bool": ("true or false", [*NOT_FINITE, 7, "maybe", [], [True], {}, {"a": 1}]),
    "list": ("a list", [{}, {"a": 1}]),
    "dict": ("a mapping", [*NOT_FINITE, 10**400, 7, 1.5, True, "x", "{", [], [1], ["a"], [{"a": 1}]]),
}
# Options without which a module does not run.
NEEDED: dict[str, dict[str, t.Any]] = {
    "gateway_backend": {"server": "h", "state": "ready"},
    "gateway_certificate": {"names": ["h"]},
    "model": {"models": ["a"]},
    "model_benchmark": {"models": ["a"]},
    "model_build": {"name": "a", "from": "b"},
    "model_export": {"dest": "/kaido-unit-test/bundle"},
    "model_import": {"src": "/kaido-unit-test/bundle"},
    "model_loaded": {"name": "a"},
    "model_probe": {"name": "a"},
    "preflight": {"version": "0.35.1", "unit": "[Service]"},
    "release": {"version": "0.35.1"},
    "service_absent": {"names": ["mirror"]},
    "store_move": {"source": "/kaido-unit-test/a", "target": "/kaido-unit-test/b", "step": "fill"},
}
QUICK = {
    "api_url": "http://127.0.0.1:1",
    "startup_timeout": 0,
    "timeout": 1,
    "retries": 0,
    "base_url": "http://127.0.0.1:1",
}


def specification(module: types.ModuleType) -> dict[str, t.Any]:
    """Return the options of a module, as its main() declares them."""
    found: dict[str, t.Any] = {}

    def declare(argument_spec: dict[str, t.Any], **_options: t.Any) -> t.NoReturn:
        found.update(argument_spec)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(module, "Module", declare)
        module.main()
    return found


def module_named(name: str) -> types.ModuleType:
    return importlib.import_module(f"ansible_collections.kaido.ollama.plugins.modules.{name}")


NAMES = [
    path.stem
    for path in sorted((ROOT / "plugins" / "modules").glob("*.py"))
    if hasattr(module_named(path.stem), "Module")
]


@pytest.mark.parametrize("name", NAMES)
def test_wrong_values_are_one_line(name: str, run_module: RunModule, tmp_path: Path) -> None:
    """In check mode: the tests may run as root."""
    module = module_named(name)
    spec = specification(module)
    base = {**NEEDED.get(name, {}), **{key: value for key, value in QUICK.items() if key in spec}}
    for key in ("models_dir", "state_dir", "install_dir", "bin_dir", "home", "directory", "download_dir"):
        if key in spec:
            base[key] = str(tmp_path / key)
    wrong = []
    for option, declared in spec.items():
        for value in VALUES[declared.get("type", "str")]:
            result = run_module(module, {**base, option: value}, check=True)
            line = str(result.get("msg", ""))
            code = result.get("failure", {}).get("code")
            if result.get("changed") and result["failed"]:
                wrong.append((option, value, "changed"))
            if result["failed"] and not code:
                wrong.append((option, value, "no code"))
            if code == "internal_error" or "Traceback" in line or len(line.splitlines()) > 1:
                wrong.append((option, str(value)[:30], line[:200]))
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_negative_numbers_are_refused(name: str, run_module: RunModule) -> None:
    module = module_named(name)
    numbers = [option for option, declared in specification(module).items() if declared.get("type") in ("int", "float")]
    for option in numbers:
        result = run_module(module, {**NEEDED.get(name, {}), option: -2}, check=True)
        if option != "seed":
            assert result["failure"]["code"] == "value_invalid"
            assert result["msg"].startswith(f"{option}: invalid value -2")
            assert result["msg"].endswith("; expected a number of 0 or more")


@pytest.mark.parametrize("name", NAMES)
def test_wrong_types_are_refused(name: str, run_module: RunModule) -> None:
    """In lists and in suboptions, too."""
    module = module_named(name)
    for option, value, place, expected in wrong_types(specification(module)):
        result = run_module(module, {**NEEDED.get(name, {}), option: value}, check=True)
        assert result["failure"] == {"code": "value_invalid"}, (option, value)
        assert result["msg"].startswith(f"{place}: invalid value "), result["msg"]
        assert result["msg"].endswith(f"; expected {expected}"), result["msg"]


def wrong_types(spec: dict[str, t.Any]) -> t.Iterator[tuple[str, t.Any, str, str]]:
    """Yield for each wrong value of each option: the option, its value, the place of the wrong part, the expected."""
    for option, declared in spec.items():
        kind = declared.get("type", "str")
        expected, values = WRONG_TYPES.get(kind, ("", []))
        yield from ((option, value, option, expected) for value in values)
        if kind == "list":
            expected, values = WRONG_TYPES.get(declared.get("elements", "raw"), ("", []))
            yield from ((option, [value], f"{option}[0]", expected) for value in values)
        elif declared.get("options"):
            yield option, "{1: 2}", option, "a mapping whose keys are text"
            for _option, value, place, expected in wrong_types(declared["options"]):
                yield option, {place.partition("[")[0]: value}, f"{option}.{place}", expected


def test_the_values_of_secrets_are_not_shown(run_module: RunModule) -> None:
    for name in NAMES:
        module = module_named(name)
        for option, declared in specification(module).items():
            for value in (["opensesame"], {"opensesame": "opensesame"}):
                if declared.get("no_log"):
                    result = run_module(module, {**NEEDED.get(name, {}), option: value}, check=True)
                    assert "opensesame" not in str(result)


def test_other_invalid_options_have_a_code_and_one_line(run_module: RunModule) -> None:
    module = module_named("model")
    for arguments, text in (
        ({"modles": ["a"]}, "modles: unknown option; did you mean models?"),
        ({"models": ["a"], "zzz": 1}, "zzz: unknown option; expected one of aliases, allow_cloud, "),
        ({"models": ["a"], "state": "a\nb"}, "state: invalid value 'a\\nb'; expected one of present, latest, absent"),
        ({"models": ["a"], "server": {"versoin": "1"}}, "server.versoin: unknown option; did you mean version?"),
        ({}, "one of the following is required"),
        ({"name": "a", "models": ["a"]}, "mutually exclusive"),
    ):
        result = run_module(module, arguments)
        assert result["failure"] == {"code": "value_invalid"}
        assert text in result["msg"]
        assert "\n" not in result["msg"]
