# SPDX-License-Identifier: GPL-3.0-or-later
"""Module gpu_info on copies of the files of hosts: each fixture is one kind of host with its expected result."""

from __future__ import annotations

import base64
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import facts, support
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import tree as tree_module
from ansible_collections.kaido.ollama.plugins.modules import gpu_info

from tests.conftest import ROOT

FIXTURES = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "tests/fixtures/gpu").glob("*.json"))}
# A part of the reason of the last unusable GPU of each kind of host.
WHY = {
    "nvidia_nouveau": "NVIDIA's driver is not installed (nouveau is bound to it)",
    "nvidia_installed_reboot_pending": "nouveau is in use: reboot",
    "nvidia_dkms_added_only": "has no module for kernel 6.12.117+deb13-amd64: install its headers",
    "nvidia_unbound_datacenter": "NVIDIA's driver is not installed (no driver is bound to it)",
    "nvidia_mismatch": "the kernel has driver 580.119.02 loaded, but 580.126.18 is installed",
    "nvidia_pascal_550_too_old": "requires 570 or newer with compute capability 6.1",
    "nvidia_bookworm_535_too_old": "driver 535.309.01 is too old: Ollama 0.35.1 requires 550 or newer",
    "nvidia_uvm_not_loaded": "module nvidia-uvm is not loaded: modprobe nvidia-uvm",
    "nvidia_vfio_passthrough_host": "reserved for a virtual machine (vfio-pci)",
    "nvidia_hgx_nvswitch": "nvidia-fabricmanager is not installed",
    "amd_no_firmware": "usually its firmware is missing (Debian: firmware-amd-graphics)",
    "amd_igpu_plus_nvidia": "it is an integrated GPU, which Ollama ignores by default",
    "intel_arc": "Ollama supports GPUs of Intel through Vulkan only, and there is no Vulkan driver",
    "nvidia_lxc_guest_no_userspace": "libraries of exactly version 580.95.05, as the host's driver",
    "nvidia_secureboot_enabled": "NVIDIA's driver is not installed (nouveau is bound to it)",
}


def unpack(tree: dict[str, t.Any], root: Path) -> Path:
    """Write the tree of a fixture below root."""
    for name, content in tree.items():
        if name.startswith("cmd:"):
            continue
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif "symlink" in content:
            path.symlink_to(content["symlink"])
        elif "dir" in content:
            path.mkdir(exist_ok=True)
        elif "b64" in content:
            path.write_bytes(base64.b64decode(content["b64"]))
        else:
            path.write_text("")
            path.chmod(int(content["chardev"]["mode"], 8))
    return root


def commands(tree: dict[str, t.Any]) -> tree_module.Run:
    """Return the recorded output of programs."""

    def run(argv: t.Sequence[str]) -> tuple[int, str] | None:
        answer = tree.get("cmd:" + " ".join(argv))
        return None if answer is None or answer["rc"] == 127 else (answer["rc"], answer["stdout"])

    return run


@pytest.fixture(params=sorted(FIXTURES))
def scenario(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_reason_belongs_to_a_fixture() -> None:
    assert set(WHY) <= set(FIXTURES)


def test_each_kind_of_host_has_its_verdict(run_module: t.Any, tmp_path: Path, scenario: str) -> None:
    expected, tree = FIXTURES[scenario]["expected"], FIXTURES[scenario]["tree"]
    result = run_module(gpu_info, {"root": str(unpack(tree, tmp_path))})
    assert (result["failed"], result["changed"]) == (False, False), result.get("msg")
    gpus, nvidia = result["gpus"], result["nvidia"]
    reasons = " ".join(gpu["reason"] or "" for gpu in gpus)
    seen = {
        "vendors": sorted({gpu["vendor"] for gpu in gpus}),
        "count": len(gpus),
        "usable_vendors": sorted({gpu["vendor"] for gpu in gpus if gpu["usable"]}),
        "state": " ".join(sorted({gpu["state"] for gpu in gpus})) or "none",
        "reboot_required": result["reboot_required"],
        "secure_boot": result["secure_boot"],
        "platform": result["platform"],
        "variant": result["variant"],
        "l4t": result["l4t"],
        "nvswitch": nvidia["nvswitches"],
        "driver_version": nvidia["loaded"],
        "loaded_version": nvidia["loaded"],
        "library_version": nvidia["installed"],
        "module_flavour": nvidia["modules"],
        "amdgpu_dkms": result["amdgpu_dkms"],
        "library": gpus[-1]["library"] if gpus else None,
        "gfx": [gpu["gfx_target"] for gpu in gpus if gpu["gfx_target"]],
        "igpu": [gpu["pci_address"] for gpu in gpus if gpu["integrated"]],
        "bound_driver": gpus[0]["driver"] if gpus else None,
        "compute_cap": gpus[0]["compute_capability"] if gpus else None,
    }
    for key, value in expected.items():
        if key == "not_listed":
            assert not {gpu["pci_id"] for gpu in gpus} & set(value)
        elif key == "required_min":
            assert f"{value} or newer" in reasons
        else:
            assert seen[key] == value, key
    assert result["usable"] == any(gpu["usable"] for gpu in gpus)
    if "state" in expected:
        assert result["usable"] == (expected["state"] == "ok")
    sentences = [gpu["reason"] for gpu in gpus if not gpu["usable"]]
    assert all(gpu["reason"] is None for gpu in gpus if gpu["usable"])
    assert bool(sentences) == (scenario in WHY)
    assert not sentences or WHY[scenario] in sentences[-1]
    assert all("\n" not in sentence and not sentence.endswith(".") for sentence in sentences)


def test_the_output_of_programs_adds_details_and_changes_no_verdict(tmp_path: Path, scenario: str) -> None:
    tree = FIXTURES[scenario]["tree"]
    root = str(unpack(tree, tmp_path))
    (_host, alone), (helped, verdicts) = (
        support.examine("0.35.1", None, root, run) for run in (tree_module.no_program, commands(tree))
    )
    assert [(v.state, v.gpu.pci_address) for v in alone] == [(v.state, v.gpu.pci_address) for v in verdicts]
    answer = commands(tree)(["nvidia-smi", facts._SMI_QUERY, "--format=csv,noheader,nounits"])
    if answer and answer[0] == 0:
        rows = [[value.strip() for value in line.split(",")] for line in answer[1].splitlines()]
        shown = [g for g in helped.gpus if g.vendor == "nvidia"]
        assert [[g.name, str((g.vram or 0) >> 20), g.compute_capability] for g in shown] == [
            [row[2], row[5], row[6]] for row in rows
        ]


def test_a_node_that_the_account_cannot_open_is_a_reason(run_module: t.Any, tmp_path: Path) -> None:
    root = unpack(FIXTURES["amd_discrete"]["tree"], tmp_path)
    result = run_module(gpu_info, {"root": str(root), "user": "nobody"})
    [gpu] = result["gpus"]
    assert gpu["state"] == "no_permission"
    assert gpu["reason"] == "the server's account cannot open /dev/kfd, /dev/dri/renderD128"
    assert {node["mode"] for node in result["nodes"] if node["path"] == "/dev/kfd"} == {"0660"}
    assert run_module(gpu_info, {"root": str(root), "user": "not-there-yet"})["usable"] is True


@pytest.mark.parametrize(
    ("account", "mode", "allowed"),
    [
        (tree_module.Account("root", 0, frozenset()), 0o000, True),
        (tree_module.Account("owner", 5, frozenset()), 0o600, True),
        (tree_module.Account("owner", 5, frozenset([7])), 0o060, False),
        (tree_module.Account("member", 6, frozenset([7])), 0o660, True),
        (tree_module.Account("member", 6, frozenset([7])), 0o640, False),
        (tree_module.Account("other", 6, frozenset([8])), 0o660, False),
        (tree_module.Account("other", 6, frozenset([8])), 0o666, True),
    ],
)
def test_access_to_a_file_of_owner_5_and_group_7(account: tree_module.Account, mode: int, allowed: bool) -> None:
    assert account.may_open(mode, 5, 7) is allowed


def test_the_required_driver_depends_on_the_version_of_ollama(run_module: t.Any, tmp_path: Path) -> None:
    root = str(unpack(FIXTURES["nvidia_bookworm_535_too_old"]["tree"], tmp_path))
    assert run_module(gpu_info, {"root": root, "ollama_version": "0.29.5"})["usable"] is True
    assert run_module(gpu_info, {"root": root, "ollama_version": "0.30.0"})["usable"] is False


def test_intel_requires_vulkan(run_module: t.Any, tmp_path: Path) -> None:
    root = unpack(FIXTURES["intel_arc"]["tree"], tmp_path)
    for name in ("usr/lib/x86_64-linux-gnu/libvulkan.so.1", "usr/share/vulkan/icd.d/intel_icd.x86_64.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    result = run_module(gpu_info, {"root": str(root)})
    assert [(gpu["state"], gpu["library"]) for gpu in result["gpus"]] == [("integrated", "vulkan"), ("ok", "vulkan")]


def test_a_gpu_without_its_compute_node_is_not_usable(run_module: t.Any, tmp_path: Path) -> None:
    """A container has the /sys of its host, but only the device nodes that are passed in."""
    root = unpack(FIXTURES["amd_discrete"]["tree"], tmp_path)
    (root / "dev/kfd").unlink()
    [gpu] = run_module(gpu_info, {"root": str(root)})["gpus"]
    assert (gpu["state"], gpu["usable"]) == ("no_compute", False)


def test_an_old_version_of_amdgpu_dkms_is_a_reason(run_module: t.Any, tmp_path: Path) -> None:
    root = unpack(FIXTURES["amd_discrete_dkms"]["tree"], tmp_path)
    (root / "sys/module/amdgpu/version").write_text("6.8.5\n")
    [gpu] = run_module(gpu_info, {"root": str(root)})["gpus"]
    assert gpu["reason"] == "amdgpu 6.8.5 is too old: Ollama 0.35.1 contains ROCm 7, which requires 6.12 or newer"


@pytest.mark.parametrize(("enrolled", "reboot"), [(False, True), (True, False)])
def test_secure_boot_and_a_module_that_is_not_loaded(
    run_module: t.Any, tmp_path: Path, enrolled: bool, reboot: bool
) -> None:
    tree = dict(FIXTURES["nvidia_unbound_datacenter"]["tree"])
    tree["/lib/modules/5.14.0-687.51.1.el9_8.x86_64/extra/nvidia.ko.xz"] = ""
    tree["/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"] = {"b64": "BgAAAAE="}
    tree["/var/lib/dkms/mok.pub"] = "certificate"
    tree["/sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"] = (
        "....certificate..." if enrolled else "....another..."
    )
    result = run_module(gpu_info, {"root": str(unpack(tree, tmp_path))})
    assert result["gpus"][0]["state"] == "installed_not_loaded"
    assert result["reboot_required"] is reboot
    assert ("Secure Boot" in result["gpus"][0]["reason"]) is reboot
    assert ("modprobe nvidia" in result["gpus"][0]["reason"]) is not reboot


PEM = "-----BEGIN CERTIFICATE-----\nY2VydGlmaWNh\ndGU=\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("system", "files", "certificate", "enrolled"),
    [
        ("debian", {"/var/lib/dkms/mok.pub": "certificate"}, "/var/lib/dkms/mok.pub", True),
        ("debian", {"/var/lib/shim-signed/mok/MOK.der": "certificate"}, "/var/lib/dkms/mok.pub", False),
        ("ubuntu", {"/var/lib/shim-signed/mok/MOK.der": "certificate"}, "/var/lib/shim-signed/mok/MOK.der", True),
        ("ubuntu", {}, "/var/lib/shim-signed/mok/MOK.der", False),
        ("ubuntu", {"/var/lib/dkms/mok.pub": "certificate"}, "/var/lib/dkms/mok.pub", True),
        (
            "ubuntu",
            {"/var/lib/shim-signed/mok/MOK.der": "another", "/var/lib/dkms/mok.pub": "certificate"},
            "/var/lib/shim-signed/mok/MOK.der",
            False,
        ),
        (
            "debian",
            {
                "/etc/dkms/framework.conf": '# mok_certificate=/no\nmok_certificate="/etc/a.pem"\n',
                "/etc/a.pem": PEM,
            },
            "/etc/a.pem",
            True,
        ),
        (
            "ubuntu",
            {"/etc/dkms/framework.conf.d/own.conf": "mok_certificate=/etc/keys/a.der\n", "/etc/keys/a.der": "x" * 11},
            "/etc/keys/a.der",
            False,
        ),
        ("debian", {"/var/lib/dkms/mok.pub": "in the second list"}, "/var/lib/dkms/mok.pub", True),
        ("debian", {"/var/lib/dkms/mok.pub": ""}, "/var/lib/dkms/mok.pub", False),
    ],
)
def test_the_enrolled_key_is_the_one_with_which_dkms_signs(
    run_module: t.Any, tmp_path: Path, system: str, files: dict[str, str], certificate: str, enrolled: bool
) -> None:
    tree = dict(FIXTURES["nvidia_unbound_datacenter"]["tree"])
    version, kernel = {"debian": ("13", "6.12.48+deb13-amd64"), "ubuntu": ("24.04", "6.8.0-88-generic")}[system]
    tree["/etc/os-release"] = f'ID={system}\nVERSION_ID="{version}"\n'
    tree["/proc/sys/kernel/osrelease"] = kernel
    efi = "/sys/firmware/efi/efivars"
    tree[f"{efi}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"] = {"b64": "BgAAAAE="}
    tree[f"{efi}/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"] = "....certificate..."
    tree[f"{efi}/MokListRT1-605dab50-e046-4300-abb6-3dd810dd8b23"] = "....in the second list..."
    root = str(unpack({**tree, **files}, tmp_path))
    found = run_module(gpu_info, {"root": root})
    assert (found["mok_certificate"], found["key_enrolled"]) == (certificate, enrolled)
    planned = run_module(gpu_info, {"root": root, "plan": {"source": "nvidia"}})
    assert planned["failed"] is not enrolled
    if not enrolled:
        assert "Secure Boot rejects it until the host's key is enrolled" in planned["msg"]
    accepted = run_module(gpu_info, {"root": root, "plan": {"source": "nvidia", "accept_mok": True}})["plan"]
    assert any(f"mokutil --import {certificate}`" in note for note in accepted["notes"]) is not enrolled


def test_installed_headers_of_another_kernel_are_found(run_module: t.Any, tmp_path: Path) -> None:
    kernel = "6.12.8-x64v3-xanmod1"
    tree = dict(FIXTURES["nvidia_nouveau"]["tree"])
    tree["/proc/sys/kernel/osrelease"] = kernel
    root = unpack(tree, tmp_path)
    asked = {"root": str(root), "plan": {"source": "nvidia"}}
    assert run_module(gpu_info, asked)["failure"]["code"] == "gpu_kernel_headers_unknown"
    build = root / f"lib/modules/{kernel}/build"
    build.parent.mkdir(parents=True, exist_ok=True)
    build.symlink_to(f"/usr/src/linux-headers-{kernel}")
    assert run_module(gpu_info, asked)["failure"]["code"] == "gpu_kernel_headers_unknown"
    (root / f"usr/src/linux-headers-{kernel}").mkdir(parents=True)
    assert run_module(gpu_info, asked)["plan"]["headers"] == []


def test_names_come_from_the_pci_database_if_it_is_installed(run_module: t.Any, tmp_path: Path) -> None:
    root = unpack(FIXTURES["amd_discrete"]["tree"], tmp_path)
    (root / "usr/share/misc").mkdir(parents=True)
    (root / "usr/share/misc/pci.ids").write_text(
        "# c\n1002  AMD\n\t744c  Navi 31 [Radeon RX 7900 XTX]\n\t\t1002 744c  no\n10de  N\n\t744c  x\n"
    )
    assert run_module(gpu_info, {"root": str(root)})["gpus"][0]["name"] == "Navi 31 [Radeon RX 7900 XTX]"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("ollama_version", "latest", "ollama_version: invalid value 'latest'; expected a version such as 0.35.1"),
        ("root", "/nowhere", "root: invalid value '/nowhere'; expected a directory"),
    ],
)
def test_invalid_input_is_one_clear_line(run_module: t.Any, option: str, value: str, message: str) -> None:
    result = run_module(gpu_info, {option: value})
    assert (result["failed"], result["msg"]) == (True, message)
