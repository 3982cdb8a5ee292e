# SPDX-License-Identifier: GPL-3.0-or-later
"""Role gpu_driver: invalid variables, and the environment of its commands."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.kaido.ollama.plugins.modules import gpu_info

from tests.conftest import ROOT
from tests.unit.modules.test_gpu_info import FIXTURES, unpack

ROLE = ROOT / "roles/gpu_driver"
SPEC = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]

# Values, and a part of the message that follows the name of the variable.
BAD: list[tuple[str, t.Any, str]] = [
    ("vendor", "NVIDIA", "must be one of: auto, nvidia, amd, none, got: NVIDIA"),
    ("vendor", "", "must be one of: auto, nvidia, amd, none"),
    ("vendor", "intel", "must be one of: auto, nvidia, amd, none, got: intel"),
    ("state", "latest", "must be one of: present, absent, got: latest"),
    ("source", "ppa", "must be one of: auto, distribution, nvidia, got: ppa"),
    ("modules", "dkms", "must be one of: auto, open, proprietary, got: dkms"),
    ("reboot", "always", "must be one of: never, when_needed, got: always"),
    ("hold", "perhaps", "is not a valid boolean"),
    ("accept_mok", 2, "is not a valid boolean"),
    ("cards", {"id": "10de:2684"}, "cannot be converted to a list"),
    ("branch", "581", "invalid value '581'; expected auto or one of 550, "),
    ("branch", 535, "invalid value '535'; expected auto or one of 550, "),
    ("branch", "580.95", "invalid value '580.95'; expected auto"),
    ("branch", "-1", "invalid value '-1'; expected auto"),
    ("branch", "", "invalid value ''; expected auto"),
    ("branch", "580\nPin: x", "invalid value '580\\nPin: x'; expected auto"),
    ("branch", "\u0665\u0668\u0660", "expected auto or one of 550"),
    ("kernel", "../../etc", "invalid value '../../etc'; expected the output of uname -r"),
    ("kernel", "6.12/x", "invalid value '6.12/x'; expected the output of uname -r"),
    ("kernel", "6..12", "invalid value '6..12'; expected the output of uname -r"),
    ("kernel", "6.12 --force", "expected the output of uname -r"),
    ("kernel", "-k", "invalid value '-k'; expected the output of uname -r"),
    ("kernel", "6" * 300, "expected the output of uname -r"),
    ("cards", ["2684"], "invalid value '2684'; expected PCI IDs of GPUs"),
    ("cards", ["10de::::::"[:9]], "invalid value '10de:::::'; expected PCI IDs of GPUs"),
    ("cards", ["10de:2684", "1234:5678"], "invalid value '1234:5678'; expected PCI IDs of GPUs"),
    ("cards", ["0000:01:00.0"], "invalid value '0000:01:00.0'; expected PCI IDs of GPUs"),
    ("cards", [""], "invalid value ''; expected PCI IDs of GPUs"),
    ("amdgpu_dkms", 31.5, "invalid value '31.5'; expected an empty string"),
    ("amdgpu_dkms", "latest", "invalid value 'latest'; expected an empty string"),
    ("key_fingerprint", "3BF863CC", "invalid value '3BF863CC'; expected 40 hexadecimal digits"),
    ("key_fingerprint", "Z" * 40, "expected 40 hexadecimal digits"),
    ("key_fingerprint", "AB" * 20 + "\n", "expected 40 hexadecimal digits"),
    ("sleep_services", ['x"; reboot; "'], "expected names of systemd units"),
    ("sleep_services", ["$(reboot)"], "invalid value '$(reboot)'; expected names of systemd units"),
    ("sleep_services", ["a b"], "invalid value 'a b'; expected names of systemd units"),
    ("sleep_services", ["--force"], "invalid value '--force'; expected names of systemd units"),
    ("sleep_services", ["ollama.service\nrm"], "expected names of systemd units"),
]


@pytest.fixture
def validate(run_module: t.Any, tmp_path: Path) -> t.Callable[[dict[str, t.Any]], list[str]]:
    """Return the errors of the role's variables: those of its argument specification, else the module's failure."""
    root = unpack(FIXTURES["nvidia_nouveau"]["tree"], tmp_path)

    def errors(variables: dict[str, t.Any]) -> list[str]:
        checked = ArgumentSpecValidator(SPEC).validate(
            {"gpu_driver_vendor": "auto", **{f"gpu_driver_{name}": value for name, value in variables.items()}}
        )
        if checked.error_messages:
            return list(checked.error_messages)
        values = {name[len("gpu_driver_") :]: value for name, value in checked.validated_parameters.items()}
        del values["reboot"]
        result = run_module(gpu_info, {"root": str(root), "plan": values})
        assert not result.get("changed")
        assert not result["failed"] or result["failure"]["code"].startswith("gpu_")
        return [result["msg"]] if result["failed"] else []

    return errors


def test_the_defaults_are_valid(validate: t.Callable[[dict[str, t.Any]], list[str]]) -> None:
    assert validate({}) == []


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=[f"{row[0]}-{index}" for index, row in enumerate(BAD)])
def test_an_invalid_value_is_one_line_with_its_variable(
    validate: t.Callable[[dict[str, t.Any]], list[str]], name: str, value: t.Any, message: str
) -> None:
    [error] = validate({name: value})
    assert f"gpu_driver_{name}" in error
    assert message in error
    assert "\n" not in error


def test_all_commands_run_in_the_c_locale_with_the_system_directories() -> None:
    """Translated output of apt has no `Candidate:`, and su keeps a PATH without dkms and modprobe."""
    [block] = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    assert block["environment"] == "{{ gpu_driver__environment }}"
    environment = variables["gpu_driver__environment"]
    assert environment["LC_ALL"] == "C"
    assert {"/usr/sbin", "/sbin", "/usr/bin", "/bin"} <= set(environment["PATH"].split(":"))
    text = "".join(path.read_text() for path in (ROLE / "tasks").glob("*.yml"))
    assert text.count("environment:") == 1
    included = set(re.findall(r"(?:include_tasks|import_tasks|file): *(\w+\.yml)", text))
    assert included == {path.name for path in (ROLE / "tasks").glob("*.yml")} - {"main.yml"}
