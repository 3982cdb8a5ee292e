# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps between a host and its driver plan: apt's sources, packages, files, keys."""

from __future__ import annotations

import json
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import driver_files, driver_state
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.tree import Tree
from ansible_collections.kaido.ollama.plugins.modules import gpu_info

from tests.unit.modules.test_gpu_info import FIXTURES, unpack

KERNEL = "6.12.117+deb13-amd64"
PACKAGES = (
    f"linux-headers-{KERNEL}",
    "linux-headers-amd64",
    "nvidia-kernel-dkms",
    "libcuda1",
    "nvidia-smi",
    "nvidia-persistenced",
)
# Made for this test; its secret part was deleted.
KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawMjEhYJKwYBBAHaRw8BAQdAosDhqCuKo/fZ4yGu94vRbA3vFKvZhZyTceLa
ccyFDPu0FWthaWRvLm9sbGFtYSB0ZXN0IGtleYiQBBMWCAA4FiEEalU0d11TbTNY
AdZT905qKkiYkBMFAmsDIxICGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQ
905qKkiYkBMOnQD/Qjom+ZN87JTpIiC5Q9Oj+D11pLRoK9SGQB72CFpVNokBAOCU
GOHtGRdEwwdLssvL2b1QS5LZZbesBp+pgRpo+C4HuDgEawMjEhIKKwYBBAGXVQEF
AQEHQOVAl1+tHvnzcpluNn+VcT4eU9FHrs13RpB0emB4D/IKAwEIB4h4BBgWCAAg
FiEEalU0d11TbTNYAdZT905qKkiYkBMFAmsDIxICGwwACgkQ905qKkiYkBMcSQD/
WF4oq8ZxgshBfbvL5qzASur262UnV9YP188I0ISvaroBAMlXBO2kwJaHCooR2jsD
9w+ROc/iX0DVn0R6o3NC0rkK
=8Ha0
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "6A5534775D536D335801D653F74E6A2A48989013"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Debian 13 with an RTX 4090 that nouveau drives, and one-line sources."""
    tree = dict(FIXTURES["nvidia_nouveau"]["tree"])
    tree["/etc/os-release"] = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'
    tree["/proc/sys/kernel/osrelease"] = KERNEL + "\n"
    tree["/etc/apt/sources.list"] = "deb http://deb.debian.org/debian trixie main\n"
    tree["/var/lib/dpkg/status"] = "Package: bash\nStatus: install ok installed\n"
    return unpack(tree, tmp_path)


Gathered = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def gathered(run_module: t.Any, root: Path) -> Gathered:
    def plan(**options: t.Any) -> dict[str, t.Any]:
        result = run_module(gpu_info, {"root": str(root), "plan": options})
        assert not result["failed"], result["msg"]
        shown: dict[str, t.Any] = result["plan"]
        return shown

    return plan


def install(root: Path, status: str = "install ok installed", module: bool = True) -> None:
    """Write the state that apt and dkms leave."""
    text = "".join(f"Package: {name}\nStatus: {status}\nVersion: 550.163.01-2\n\n" for name in PACKAGES)
    (root / "var/lib/dpkg/status").write_text(text)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "nvidia-persistenced.service").touch()
    dkms = root / "var/lib/dkms/nvidia-current"
    (dkms / "550.163.01").mkdir(parents=True, exist_ok=True)
    if module:
        (dkms / f"550.163.01/{KERNEL}/x86_64/module").mkdir(parents=True)
        (dkms / f"kernel-{KERNEL}-x86_64").symlink_to(f"550.163.01/{KERNEL}/x86_64")
        path = root / f"lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko.xz"
        path.parent.mkdir(parents=True)
        path.touch()


def write(root: Path, plan: dict[str, t.Any]) -> None:
    """Write the files as the role does."""
    for file in plan["files"]:
        path = root / file["path"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"])
        path.chmod(int(file["mode"], 8))


def test_a_fresh_host_lacks_every_step_and_a_complete_one_none(gathered: Gathered, root: Path) -> None:
    plan = gathered()
    assert plan["todo"] == ["files", "packages", "build", "services"]
    assert tuple(plan["packages"]) == PACKAGES
    write(root, plan)
    install(root)
    after = gathered()
    assert (after["todo"], after["files"], after["reasons"]) == ([], [], {})
    assert after["next_record"]["files"] == [file["path"] for file in plan["files"]]
    assert (plan["new_packages"], after["new_packages"]) == (list(PACKAGES), [])


def test_a_file_with_another_mode_or_content_is_replaced(gathered: Gathered, root: Path) -> None:
    write(root, gathered())
    install(root)
    (root / "usr/lib/systemd/system-sleep/kaido-gpu-driver").chmod(0o644)
    assert gathered()["todo"] == ["files"]
    assert [file["path"] for file in gathered()["files"]] == ["/usr/lib/systemd/system-sleep/kaido-gpu-driver"]


@pytest.mark.parametrize(
    ("status", "step"), [("install ok half-configured", "packages"), ("deinstall ok config-files", "packages")]
)
def test_a_package_that_is_not_configured_is_missing(gathered: Gathered, root: Path, status: str, step: str) -> None:
    write(root, gathered())
    install(root, status)
    assert gathered()["todo"] == [step]


def test_packages_without_a_module_are_not_enough(gathered: Gathered, root: Path) -> None:
    """The state after apt without headers, which succeeds."""
    write(root, gathered())
    install(root, module=False)
    assert gathered()["todo"] == ["build"]
    assert gathered()["reasons"]["build"] == f"there is no module for kernel {KERNEL}"


def test_a_file_that_dkms_does_not_list_is_not_enough(gathered: Gathered, root: Path) -> None:
    write(root, gathered())
    install(root)
    (root / f"var/lib/dkms/nvidia-current/kernel-{KERNEL}-x86_64").unlink()
    assert gathered()["todo"] == ["build"]


def test_a_new_kernel_lacks_headers_and_module(gathered: Gathered, root: Path) -> None:
    write(root, gathered())
    install(root)
    plan = gathered(kernel="6.12.200+deb13-amd64")
    assert plan["todo"] == ["packages", "build"]
    assert plan["image"] is True


def test_holds_are_compared_with_dpkg(gathered: Gathered, root: Path) -> None:
    write(root, gathered())
    install(root)
    assert gathered(hold=True)["todo"] == ["hold"]
    install(root, "hold ok installed", module=False)
    (root / "var/lib/kaido-ollama").mkdir(parents=True)
    (root / driver_state.RECORD.lstrip("/")).write_text(json.dumps({"files": [], "held": [*PACKAGES[2:]]}))
    headers = "".join(f"Package: {name}\nStatus: install ok installed\n\n" for name in PACKAGES[:2])
    rest = "".join(f"Package: {name}\nStatus: hold ok installed\n\n" for name in PACKAGES[2:])
    (root / "var/lib/dpkg/status").write_text(headers + rest)
    assert gathered(hold=True)["todo"] == []
    assert gathered()["todo"] == ["hold"]


def test_files_of_an_earlier_plan_are_stale(gathered: Gathered, root: Path) -> None:
    write(root, gathered())
    install(root)
    (root / "var/lib/kaido-ollama").mkdir(parents=True)
    old = ["/etc/apt/preferences.d/kaido-gpu-driver", "/etc/modules-load.d/kaido-gpu-driver.conf"]
    (root / driver_state.RECORD.lstrip("/")).write_text(json.dumps({"files": old}))
    plan = gathered()
    assert (plan["todo"], plan["stale"]) == (["files"], old[:1])


def test_removal_follows_the_state_file(gathered: Gathered, root: Path) -> None:
    assert gathered(state="absent")["todo"] == []
    (root / "var/lib/kaido-ollama").mkdir(parents=True)
    done = {"family": "deb", "packages": ["nvidia-kernel-dkms"], "files": [], "held": []}
    (root / driver_state.RECORD.lstrip("/")).write_text(json.dumps(done))
    plan = gathered(state="absent")
    assert (plan["todo"], plan["record"]) == (["remove"], done)


def test_a_module_that_can_be_loaded_is_a_step(run_module: t.Any, tmp_path: Path) -> None:
    tree = FIXTURES["nvidia_uvm_not_loaded"]["tree"]
    plan = run_module(gpu_info, {"root": str(unpack(tree, tmp_path)), "plan": {"source": "distribution"}})["plan"]
    assert plan["todo"][-1] == "load"


def test_a_working_host_lacks_only_the_boot_files(run_module: t.Any, tmp_path: Path) -> None:
    tree = FIXTURES["nvidia_single_healthy"]["tree"]
    plan = run_module(gpu_info, {"root": str(unpack(tree, tmp_path)), "plan": {}})["plan"]
    assert (plan["source"], plan["todo"]) == ("present", ["files"])


@pytest.mark.parametrize("scenario", ["no_gpu", "vm_virtio_gpu", "bmc_vga_only", "wsl2_nvidia", "jetson_orin"])
def test_a_host_without_a_supported_gpu_lacks_no_step(run_module: t.Any, tmp_path: Path, scenario: str) -> None:
    plan = run_module(gpu_info, {"root": str(unpack(FIXTURES[scenario]["tree"], tmp_path)), "plan": {}})["plan"]
    assert (plan["vendor"], plan["todo"], plan["packages"]) == ("none", [], [])


def test_an_invalid_value_fails_with_its_code(run_module: t.Any, root: Path) -> None:
    result = run_module(gpu_info, {"root": str(root), "plan": {"branch": "535"}})
    assert result["failure"]["code"] == "gpu_branch_too_old"


@pytest.mark.parametrize(
    ("path", "text", "foreign"),
    [
        ("etc/apt/sources.list.d/cuda.list", "deb https://developer.download.nvidia.com/compute/cuda/repos/x/ /", True),
        (
            "etc/apt/sources.list.d/cuda.list",
            "#deb https://developer.download.nvidia.com/compute/cuda/repos/x/ /",
            False,
        ),
        (
            "etc/apt/sources.list.d/cuda.sources",
            "Types: deb\nURIs: https://developer.download.nvidia.com/compute/cuda/repos/x/\nEnabled: no\n",
            False,
        ),
        ("etc/apt/sources.list.d/p.list", "deb http://ppa.launchpad.net/graphics-drivers/ppa/ubuntu noble main", True),
        ("etc/apt/sources.list.d/t.list", "deb https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /", False),
        (
            "etc/yum.repos.d/cuda.repo",
            "[a]\nbaseurl=https://developer.download.nvidia.com/compute/cuda/repos/rhel9\nenabled=1\n",
            True,
        ),
        (
            "etc/yum.repos.d/cuda.repo",
            "[a]\nbaseurl=https://developer.download.nvidia.com/compute/cuda/repos/rhel9\nenabled=0\n[b]\nenabled=1\n",
            False,
        ),
        (
            "etc/apt/sources.list.d/kaido-gpu-driver.sources",
            "URIs: https://developer.download.nvidia.com/compute/cuda/repos/x/",
            False,
        ),
    ],
)
def test_another_source_of_the_driver_is_a_conflict(
    run_module: t.Any, root: Path, path: str, text: str, foreign: bool
) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    result = run_module(gpu_info, {"root": str(root), "plan": {}})
    assert result["failed"] is foreign
    if foreign:
        assert result["failure"]["code"] == "gpu_repository_conflict"
        assert f"/{path} configures another source" in result["msg"]


def test_rhel_without_epel_has_no_dkms(run_module: t.Any, root: Path) -> None:
    (root / "etc/os-release").write_text('ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.8"\n')
    plan = {"source": "nvidia", "accept_mok": True, "kernel": "5.14.0-687.51.1.el9_8.x86_64"}
    assert run_module(gpu_info, {"root": str(root), "plan": plan})["failure"]["code"] == "gpu_epel_missing"
    (root / "etc/yum.repos.d").mkdir()
    (root / "etc/yum.repos.d/epel.repo").write_text("[epel]\nenabled=1\n")
    assert "epel" in run_module(gpu_info, {"root": str(root), "plan": plan})["plan"]["enablerepo"]


def test_both_formats_of_apts_sources_are_parsed(tmp_path: Path) -> None:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(
        "# deb http://old/debian trixie main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a/debian trixie main contrib # c\n"
        "deb-src http://a/debian trixie main\n"
        "deb https://apt.postgresql.org/pub/repos/apt trixie-pgdg main\n"
        "deb http://a/debian trixie-backports main\n"
    )
    (folder / "debian.sources").write_text(
        "Types: deb deb-src\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie trixie-updates\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "# off\nTypes: deb\nURIs: http://b/debian\nSuites: trixie\nComponents: main\nEnabled: no\n"
    )
    (folder / "docker.sources").write_text(
        "Types: deb\nURIs: https://download.docker.com/linux/debian\nSuites: trixie\nComponents: stable\n"
    )
    found = list(driver_state._archive(Tree(str(tmp_path)), "trixie"))
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    mirror = "mirror+file:///etc/apt/mirrors/debian.list"
    docker = "https://download.docker.com/linux/debian"
    assert [source for source in found if source.uri != docker] == [
        driver_files.AptSource("http://a/debian", "trixie", ("main", "contrib"), "/k.gpg"),
        driver_files.AptSource(mirror, "trixie", ("main",), keyring),
        driver_files.AptSource(mirror, "trixie-updates", ("main",), keyring),
    ]


def test_a_key_with_another_fingerprint_is_replaced(gathered: Gathered, root: Path) -> None:
    plan = gathered(source="nvidia", key_fingerprint=FINGERPRINT)
    assert plan["todo"][0] == "key"
    path = root / plan["key"]["path"].lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(KEY)
    assert "key" not in gathered(source="nvidia", key_fingerprint=FINGERPRINT)["todo"]
    assert "key" in gathered(source="nvidia")["todo"]


def test_services_are_stopped_during_a_suspend(tmp_path: Path) -> None:
    """Run the real script with programs that record their arguments."""
    [script] = [file for file in driver_files.boot(["ollama.service", "idle.service"]) if "sleep" in file.path]
    log = tmp_path / "log"
    for name in ("systemctl", "rmmod", "modprobe", "nvidia-modprobe"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\ncase "$*" in *is-active*idle*) exit 3;; *is-active*) exit 0;; esac\necho {name} "$@" >>{log}\n'
        )
        program.chmod(0o755)
    for step in ("pre", "post"):
        subprocess.run(
            ["sh", "-c", script.content.replace("/run/", f"{tmp_path}/"), "sleep", step],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            check=True,
        )
    assert log.read_text().splitlines() == [
        "systemctl stop ollama.service",
        "rmmod nvidia_uvm",
        "modprobe nvidia-uvm",
        "nvidia-modprobe -u -c 0",
        "systemctl start ollama.service",
    ]
