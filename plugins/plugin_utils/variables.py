# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the variables of an inventory against the argument specifications of the roles of this collection.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import reprlib
import typing as t

import yaml
from ansible.module_utils.parsing.convert_bool import boolean

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.text import message
from ..module_utils._service.fleet import CLIENTS, GATEWAYS, SERVERS

ROLES = os.path.join(os.path.dirname(__file__), "..", "..", "roles")
# The role whose argument specification has an entry point for each playbook.
PLAYBOOK_ROLE = "ollama"
PREFIXES = ("ollama_", "gpu_driver_")
_WRONG_PREFIX = re.compile(r"\A(ollama|gpu_driver)[.]")
# The prefix of other software, which is not a misspelled prefix of this collection.
_OTHERS = "llama_"
IGNORED = "ollama_ignored_variables"
# Variables that the roles and playbooks set, and that a fact cache may contain.
RESULTS = frozenset(
    {
        "ollama_bundle_seen",
        "ollama_listening",
        "ollama_lock",
        "ollama_report",
        "ollama_report_failure",
        "ollama_host_info",
        "ollama_verify",
        "gpu_driver_changed",
        "ollama_benchmark_result",
        "gpu_driver_report",
    }
)
# The tags of the playbooks and of their roles.
TAGS = frozenset(
    {
        "gpu_driver",
        "ollama",
        *(f"ollama_{name}" for name in ("server", "models", "mirror", "gateway", "client", "monitoring", "benchmark")),
        *(f"ollama_{name}" for name in ("servers", "gateways", "clients", "export", "import", "lock", "report")),
        *(f"ollama_{name}" for name in ("stop", "uninstall", "update", "verify")),
    }
)
Spec = t.Mapping[str, t.Any]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.lru_cache(maxsize=1)
def specifications() -> dict[str, dict[str, Spec]]:
    """Return the options of each entry point by role."""
    found: dict[str, dict[str, Spec]] = {}
    for role in sorted(os.listdir(ROLES)):
        path = os.path.join(ROLES, role, "meta", "argument_specs.yml")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                entries = yaml.load(file, Loader=_Loader)["argument_specs"]
            found[role] = {name: entry.get("options") or {} for name, entry in entries.items()}
    return found


def plain(value: t.Any) -> t.Any:
    """Return a value in which vaulted values of Ansible are decrypted to texts."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if hasattr(value, "__ENCRYPTED__") else value


def known_variables() -> set[str]:
    """Return all variables that a user can set."""
    return {name for entries in specifications().values() for options in entries.values() for name in options}


def unknown_variables(names: t.Iterable[str], ignored: t.Collection[str] = ()) -> dict[str, str | None]:
    """Return the unknown variables with a prefix of this collection, each with the most similar known one.

    A name with a misspelled prefix counts as unknown if it is very similar to a known variable.
    """
    known = known_variables()
    internal = tuple({f"{role}__" for role in specifications()} | {"ollama_bundle__", "ollama_update__"})
    found: dict[str, str | None] = {}
    for name in sorted(set(names) - known - RESULTS - set(ignored)):
        # On the command line a name may have any character.
        text = _WRONG_PREFIX.sub(r"\1_", name.strip("\"' ")).replace("-", "_")
        if text.startswith(PREFIXES) and not name.startswith(internal):
            found[name] = _similar(text, known, 0.75)
        elif _has_misspelled_prefix(text) and (similar := _similar(text, known, 0.9)):
            found[name] = similar
    return found


def _has_misspelled_prefix(name: str) -> bool:
    heads = (name.partition("_")[0] + "_", name[: len("gpu_driver_")])
    return not name.startswith((*PREFIXES, _OTHERS)) and any(
        difflib.SequenceMatcher(None, head.lower(), prefix).ratio() >= 0.8
        for head, prefix in zip(heads, PREFIXES, strict=True)
    )


def _similar(name: str, known: t.Collection[str], cutoff: float) -> str | None:
    variable, dot, key = name.partition(".")
    if dot and variable in known:
        return f'{{"{variable}": {{"{key}": ...}}}}'
    return next(iter(difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=cutoff)), None)


def check_names(hosts: t.Mapping[str, t.Iterable[str]], ignored: t.Collection[str] = ()) -> None:
    """Refuse unknown variables.

    :param hosts: the names of the variables by host.
    :raises OllamaError: ``variable_unknown``, with a sentence for each variable and one of its hosts.
    """
    first: dict[str, str] = {}
    similar: dict[str, str | None] = {}
    for host, names in sorted(hosts.items()):
        for name, suggestion in unknown_variables(names, ignored).items():
            first.setdefault(name, host)
            similar[name] = suggestion
    if first:
        texts = [
            f"{name}: unknown variable of host {host}" + (f"; did you mean {similar[name]}?" if similar[name] else "")
            for name, host in sorted(first.items())
        ]
        hint = "" if all(similar.values()) else f"; list variables of your own in {IGNORED}"
        raise OllamaError("variable_unknown", ". ".join(texts) + hint)


def misspelled_groups(groups: t.Collection[str], folder: str) -> list[str]:
    """Return one sentence for each group, or file of a group's variables, that resembles a group of this collection.

    :param folder: the directory of the inventory; empty if there is none.
    """
    try:
        files = sorted(os.listdir(os.path.join(folder, "group_vars"))) if folder else []
    except OSError:
        files = []
    places = {f"group_vars/{file}": file.partition(".")[0] for file in files} | {
        f"group {name}": name for name in groups
    }
    found = []
    for place, name in sorted(places.items()):
        similar = difflib.get_close_matches(name.lower().replace("-", "_"), (SERVERS, GATEWAYS, CLIENTS), 1, 0.95)
        # A group of one's own beside the real one is no mistake.
        if similar and name not in (SERVERS, GATEWAYS, CLIENTS) and not {name, similar[0]} <= {*groups}:
            found.append(f"{place}: not used by this collection; did you mean {similar[0]}?")
    return found


def check_arguments(rest: t.Any) -> None:
    """Refuse what Ansible ignores of the arguments of ``-e``; raises ``value_invalid``.

    :param rest: the variable in which Ansible keeps a text of ``-e`` without ``=``.
    """
    if rest:
        # The rest of a value with a space may be secret.
        name = re.match(r"[\w.-]*", str(rest))
        shown = name.group() if name and name.group().startswith(PREFIXES) else "(not shown)"
        raise OllamaError("value_invalid", f"-e: invalid text {shown}; expected NAME=VALUE with quotes around spaces")


def check_tags(names: t.Iterable[str]) -> None:
    """Refuse misspelled tags, with which a run would do nothing or not skip the intended tasks.

    :raises OllamaError: ``tag_unknown``.
    """
    for name in names:
        similar = next(iter(difflib.get_close_matches(name.lower(), sorted(TAGS), n=1, cutoff=0.8)), None)
        if name not in TAGS and (similar or name.startswith(PREFIXES)):
            hint = f"did you mean {similar}?" if similar else f"expected one of {', '.join(sorted(TAGS))}"
            raise OllamaError("tag_unknown", f"{name}: unknown tag; {hint}")


def check_values(playbook: str, values: t.Mapping[str, t.Any]) -> None:
    """Refuse invalid values of the variables of a playbook.

    :raises OllamaError: ``value_invalid``.
    """
    options = specifications()[PLAYBOOK_ROLE].get(playbook, {})
    problems = []
    for name, option in options.items():
        if name in values and "default" in option and values[name] == option["default"]:
            continue
        if values.get(name) is None:
            if option.get("required"):
                problems.append(f"{name}: not set; expected {expected(option)}")
        elif not _is_valid(values[name], option):
            problems.append(
                f"{name}: invalid value {reprlib.repr(values[name])}; expected {expected(option)}"
                + json_hint(name, option.get("type", "str"), values[name])
            )
        elif not _has_form(name, values[name]):
            problems.append(f"{name}: invalid value {reprlib.repr(values[name])}; expected {_FORMS[name][1]}")
    if problems:
        raise OllamaError("value_invalid", ". ".join(problems))


def json_hint(name: str, kind: str, value: t.Any) -> str:
    """Return a hint on how to set a list or mapping on the command line, where -e NAME=VALUE sets a string."""
    forms = {"list": "[...]", "dict": "{...}"}
    return (
        f"; on the command line use -e '{{\"{name}\": {forms[kind]}}}'"
        if isinstance(value, str) and kind in forms
        else ""
    )


def _has_form(name: str, value: t.Any) -> bool:
    return name not in _FORMS or re.match(_FORMS[name][0], str(value).strip(), re.IGNORECASE) is not None


def _is_valid(value: t.Any, option: Spec) -> bool:
    if option.get("choices") and value not in option["choices"]:
        return False
    kind = option.get("type", "str")
    if kind == "list":
        items = {"type": option.get("elements", "raw")}
        return isinstance(value, list) and all(_is_valid(item, items) for item in value)
    return kind == "raw" or _KINDS[kind](value)


def expected(option: Spec) -> str:
    """Return a description of the expected values of an option."""
    if option.get("choices"):
        return "one of " + ", ".join(map(str, option["choices"]))
    kind = option.get("type", "str")
    return f"a list of {_NAMES[option.get('elements', 'raw')]}" if kind == "list" else _WORDS[kind]


def _is_boolean(value: t.Any) -> bool:
    try:
        boolean(value, strict=True)
    except TypeError:
        return False
    return True


def _is_number(value: t.Any, convert: t.Callable[[t.Any], float]) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        return 0 <= convert(value) < float("inf")
    except (OverflowError, ValueError):
        return False


def _is_text(value: t.Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


_KINDS: dict[str, t.Callable[[t.Any], bool]] = {
    "bool": _is_boolean,
    "dict": lambda value: isinstance(value, dict),
    "float": lambda value: _is_number(value, float),
    "int": lambda value: _is_number(value, lambda item: int(str(item))),
    "path": _is_text,
    "str": _is_text,
}
_WORDS = {
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number of 0 or more",
    "int": "a whole number of 0 or more",
    "path": "a path",
    "raw": "a value",
    "str": "text that is not empty",
}
_NAMES = {"raw": "values", "str": "strings", "path": "paths", "int": "whole numbers", "dict": "mappings"}


# The patterns and descriptions of values with a specific form, by variable.
_FORMS = {"ollama_bundle_checksum": (r"(sha256:)?[0-9a-f]{64}\Z", "sha256: and 64 hexadecimal digits")}


def unresolved(name: str, exc: Exception) -> str:
    """Return the message about a variable whose template cannot be resolved."""
    reason = message(str(getattr(exc, "message", None) or exc).partition("\n")[0])
    # The prompt templates of models use the same braces. The second text is that of ansible-core before 2.19.
    is_syntax = any(text in reason.lower() for text in ("syntax", "templating string"))
    hint = "; mark a text that Ansible must not evaluate with !unsafe" if is_syntax else ""
    return f"{name}: the template cannot be resolved: {reason}{hint}"
