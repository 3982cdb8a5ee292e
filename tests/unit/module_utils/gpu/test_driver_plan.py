"""Which driver a host gets, or why none: one row for each combination that was a trap for somebody."""

from __future__ import annotations

import fnmatch
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import cards as cards_module
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import driver_files, driver_plan, driver_systems
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_plan import Card, Target, Wish, plan

K40, M40, P40, V100 = "10de:1024", "10de:17fd", "10de:1b38", "10de:1db4"
T4, A100, RTX3090, H100, RTX4090 = "10de:1eb8", "10de:20b0", "10de:2204", "10de:2330", "10de:2684"
RTX5090, B300, FUTURE = "10de:2b85", "10de:3182", "10de:3a00"
RX6800, RX7900, RX7800, MI300, STRIX, RAPHAEL = (
    "1002:73bf",
    "1002:744c",
    "1002:747e",
    "1002:74a1",
    "1002:1586",
    "1002:164e",
)
MIRROR = tuple(
    driver_files.Source(f"http://deb.debian.org/debian{suffix}", suite, ("main",), "/usr/share/keyrings/d.gpg")
    for suffix, suite in (("", "trixie"), ("-security", "trixie-security"))
)
DEBIAN12 = Target("debian", "12", "6.1.0-56-amd64", codename="bookworm", archive=MIRROR)
DEBIAN12_BPO = replace(DEBIAN12, kernel="6.12.95+deb12-amd64")
DEBIAN13 = Target("debian", "13", "6.12.117+deb13-amd64", codename="trixie", archive=MIRROR)
DEBIAN13_BPO = replace(DEBIAN13, kernel="7.3.4+deb13-amd64")
DEBIAN13_OLD = replace(DEBIAN13, kernel="6.12.48+deb13-amd64")
FORKY = Target("debian", "", "7.2.12+deb14-amd64", codename="forky")
UBUNTU = Target("ubuntu", "24.04", "6.8.0-88-generic", ("debian",))
UBUNTU26 = Target("ubuntu", "26.04", "7.0.0-31-generic", ("debian",))
ROCKY8 = Target("rocky", "8.10", "4.18.0-553.el8_10.x86_64", ("rhel", "centos", "fedora"))
ROCKY9 = Target("rocky", "9.8", "5.14.0-687.51.1.el9_8.x86_64", ("rhel", "centos", "fedora"))
RHEL9 = Target("rhel", "9.8", "5.14.0-687.51.1.el9_8.x86_64", ("fedora",))
ALMA10 = Target("almalinux", "10.1", "6.12.0-124.el10_1.x86_64", ("rhel", "centos", "fedora"))
FEDORA42 = Target("fedora", "42", "6.17.4-200.fc42.x86_64")
ARCH = Target("arch", "", "6.17.5-arch1-1")
SB = {"secure_boot": True}


def on(target: Target, *cards: str, **more: t.Any) -> Target:
    vendors = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
    integrated = {STRIX, RAPHAEL}
    return replace(
        target, cards=tuple(Card(vendors[card[:4]], card, integrated=card in integrated) for card in cards), **more
    )


# target, wish -> source, branch, modules, and the package that holds the module
PLANS: list[tuple[Target, dict[str, t.Any], tuple[str, int | None, str | None], str]] = [
    # Debian 13: its own 550 on its own kernel, NVIDIA's repository for what 550 does not know
    (on(DEBIAN13, RTX4090), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, T4), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, H100), {"vendor": "nvidia"}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, V100), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, V100, RTX4090), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, RTX5090), {}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, B300), {}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, RTX4090, RTX5090), {}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13_BPO, RTX4090), {}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, RTX4090), {"source": "nvidia"}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, A100), {"branch": "595"}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, A100), {"branch": "615"}, ("nvidia", 615, "open"), "nvidia-kernel-open-dkms"),
    (
        on(DEBIAN13, A100),
        {"branch": "610", "modules": "proprietary"},
        ("nvidia", 610, "proprietary"),
        "nvidia-kernel-dkms",
    ),
    (on(DEBIAN13_OLD, RTX4090), {"modules": "open"}, ("distribution", 550, "open"), "nvidia-open-kernel-dkms"),
    # On the current kernel Debian's open modules do not build, NVIDIA's do
    (on(DEBIAN13, RTX4090), {"modules": "open"}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, FUTURE), {}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    # Debian 12: its own 535 never
    (on(DEBIAN12, RTX4090), {}, ("nvidia", 580, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN12, P40), {}, ("nvidia", 580, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN12, M40), {}, ("nvidia", 580, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN12, P40, RTX4090), {}, ("nvidia", 580, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN12_BPO, RTX3090), {}, ("nvidia", 580, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN12, RTX5090), {"branch": "570"}, ("nvidia", 570, "open"), "nvidia-kernel-open-dkms"),
    # Ubuntu: signed modules of its archive, with Secure Boot or without
    (on(UBUNTU, RTX4090), {}, ("distribution", 580, "open"), "linux-modules-nvidia-580-server-open-generic"),
    (on(UBUNTU, RTX4090, **SB), {}, ("distribution", 580, "open"), "linux-modules-nvidia-580-server-open-generic"),
    (on(UBUNTU, P40), {}, ("distribution", 580, "proprietary"), "linux-modules-nvidia-580-server-generic"),
    (on(UBUNTU, RTX5090), {"branch": "595"}, ("distribution", 595, "open"), "nvidia-utils-595-server"),
    (on(UBUNTU26, RTX5090), {}, ("distribution", 580, "open"), "linux-modules-nvidia-580-server-open-generic"),
    (on(UBUNTU, RTX4090), {"source": "nvidia"}, ("nvidia", 580, "open"), "nvidia-dkms-580-open"),
    (on(UBUNTU, RTX4090), {"source": "nvidia", "branch": "595"}, ("nvidia", 595, "open"), "nvidia-dkms-open"),
    (on(UBUNTU, RTX4090), {"branch": "615"}, ("nvidia", 615, "open"), "nvidia-dkms-open"),
    # RHEL and its kin, Fedora
    (on(ROCKY8, RTX4090), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(ROCKY9, RTX4090), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(ROCKY9, V100), {}, ("nvidia", 580, "proprietary"), "kmod-nvidia-latest-dkms"),
    (on(RHEL9, RTX4090, epel=True), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(ALMA10, RTX4090), {"key_fingerprint": "AB" * 20}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(FEDORA42, RTX5090), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    # NVSwitches
    (on(DEBIAN13, H100, nvswitches=4), {}, ("nvidia", 595, "open"), "nvidia-fabricmanager"),
    (on(UBUNTU, H100, nvswitches=4), {}, ("distribution", 580, "open"), "nvidia-fabricmanager-580"),
    (on(ROCKY9, H100, nvswitches=4), {}, ("nvidia", 580, "open"), "nvidia-fabricmanager"),
    # Secure Boot, accepted or prepared
    (on(DEBIAN13, RTX4090, **SB), {"accept_mok": True}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, RTX4090, key_enrolled=True, **SB), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    # AMD: the driver is in the kernel
    (on(DEBIAN13, RX7900), {}, ("distribution", None, None), "firmware-amd-graphics"),
    (on(DEBIAN13, RX7800), {}, ("distribution", None, None), "firmware-amd-graphics"),
    (on(DEBIAN12, RX6800), {}, ("distribution", None, None), "firmware-amd-graphics"),
    (on(UBUNTU26, STRIX), {}, ("distribution", None, None), "linux-firmware"),
    (on(ALMA10, MI300), {}, ("distribution", None, None), "amd-gpu-firmware"),
    (on(DEBIAN13, MI300), {"amdgpu_dkms": "31.50"}, ("amd", None, None), "amdgpu-dkms"),
    (on(DEBIAN13_OLD, MI300), {"amdgpu_dkms": "30.30"}, ("amd", None, None), "amdgpu-dkms"),
    # Both: the integrated one of a desktop processor is not what the host was bought for
    (on(UBUNTU, RAPHAEL, RTX4090), {}, ("distribution", 580, "open"), "nvidia-headless-no-dkms-580-server-open"),
    (on(UBUNTU, RX7900, RTX4090), {"vendor": "amd"}, ("distribution", None, None), "linux-firmware"),
]
# An image that is built in a container, for another kernel and for cards that are elsewhere
IMAGE = {"kernel": "6.12.117+deb13-amd64", "cards": (RTX4090,)}
PLANS.append(
    (
        replace(DEBIAN13, kernel="6.18.44", platform="container"),
        IMAGE,
        ("distribution", 550, "proprietary"),
        "nvidia-kernel-dkms",
    )
)

REFUSALS: list[tuple[Target, dict[str, t.Any], str, str]] = [
    # bad input
    (on(DEBIAN13, RTX4090), {"branch": "581"}, "branch_unknown", "'581' is no known branch; allowed are auto, 550"),
    (on(DEBIAN13, RTX4090), {"branch": "latest"}, "branch_unknown", "'latest' is no known branch"),
    (on(DEBIAN12, RTX4090), {"branch": "535"}, "branch_too_old", "535 is too old, Ollama would use the CPU"),
    (DEBIAN13, {"cards": ("2684",)}, "card", "'2684' is no PCI id; allowed is for example 10de:2684"),
    (on(DEBIAN13, RX7900), {"vendor": "nvidia"}, "vendor_missing", "has no such GPU (it has 1002:744c)"),
    (DEBIAN13, {"vendor": "amd"}, "vendor_missing", "(it has none at all); allowed are auto and none"),
    (on(FEDORA42, RTX4090), {"source": "distribution"}, "source", "allowed are auto and nvidia"),
    (on(ROCKY9, RTX4090), {"hold": True}, "hold", "gpu_driver_hold: true is not there for RHEL 9"),
    (on(RHEL9, RTX4090), {}, "epel", "set EPEL up on this host"),
    (on(UBUNTU, RTX4090), {"source": "distribution", "branch": "570"}, "no_driver", "has 580, 595, not 570"),
    (on(RHEL9, RX7900), {"amdgpu_dkms": "31.50"}, "epel", "set EPEL up on this host"),
    # Debian
    (on(DEBIAN12, RTX4090), {"source": "distribution"}, "no_driver", "has only 535, and these cards need 550 or newer"),
    (on(DEBIAN12, P40), {"source": "distribution"}, "no_driver", "has only 535, and these cards need 570 to 580"),
    (on(DEBIAN13, P40), {}, "no_driver", "has only 550, and these cards need 570 to 580"),
    (on(DEBIAN13, M40), {}, "no_driver", "that still has branch 580 (Debian 12, Ubuntu)"),
    (on(DEBIAN13, RTX4090), {"branch": "580"}, "no_driver", "has 590, 595, 610, 615, 620, not 580"),
    (on(DEBIAN13_BPO, RTX4090), {"source": "distribution"}, "no_driver", "550, which does not build on kernels after"),
    (on(DEBIAN13_BPO, V100), {}, "no_driver", "does not build on kernels after 6.12 (this is 7.3.4)"),
    (
        on(DEBIAN13, RTX4090),
        {"source": "distribution", "modules": "open"},
        "no_driver",
        "does not build with open modules on kernel 6.12.97 and later",
    ),
    (on(DEBIAN13, RTX5090), {"source": "distribution"}, "no_driver", "has only 550, and these cards need 570"),
    (on(FORKY, RTX4090), {}, "system", "has no plan for debian without a version"),
    # cards
    (on(DEBIAN12, K40), {}, "card_too_old", "of generation Kepler or older, which Ollama cannot use"),
    (on(DEBIAN12, K40, RTX4090), {}, "card_too_old", "10de:1024 is of generation Kepler"),
    (
        on(UBUNTU, V100, RTX5090),
        {},
        "cards_conflict",
        "no driver runs all of these: 10de:1db4 (Volta) needs branch 550",
    ),
    (on(UBUNTU, P40, RTX5090), {}, "cards_conflict", "Take one out, or give it to vfio-pci"),
    # modules
    (on(DEBIAN12, P40), {"modules": "open"}, "no_driver", "has no open modules of branch 580 for these cards"),
    (on(DEBIAN12, RTX5090), {"modules": "proprietary"}, "no_driver", "has no proprietary modules of branch 580"),
    (
        on(DEBIAN13, RTX4090),
        {"branch": "615", "modules": "proprietary"},
        "no_driver",
        "has no proprietary modules of branch 615",
    ),
    (on(DEBIAN12, P40), {"branch": "595"}, "no_driver", "has 595, but these cards need 570 to 580"),
    # Secure Boot
    (on(DEBIAN13, RTX4090, **SB), {}, "no_driver", "Secure Boot is on: it would be rejected until a person enrols"),
    (on(UBUNTU, RTX4090, **SB), {"source": "nvidia"}, "no_driver", "which gpu_driver_accept_mok: true accepts"),
    (on(ROCKY9, RTX4090, **SB), {}, "no_driver", "Secure Boot is on"),
    # hosts
    (on(DEBIAN13, RTX4090, platform="container"), {"vendor": "nvidia"}, "platform", "run this role on the host"),
    (on(UBUNTU, RTX4090, platform="wsl2"), {"vendor": "nvidia"}, "platform", "WSL2 uses the Windows driver"),
    (on(UBUNTU, RTX4090, platform="jetson"), {"vendor": "nvidia"}, "platform", "comes with its Linux (L4T)"),
    (on(UBUNTU, H100, platform="dgx"), {"vendor": "nvidia"}, "platform", "DGX OS brings and manages its driver"),
    (on(ARCH, RTX4090), {}, "system", "no plan for arch without a version; allowed are Debian 12, Debian 13"),
    (
        on(DEBIAN13, H100, nvswitches=4),
        {"source": "distribution"},
        "no_driver",
        "has no nvidia-fabricmanager, which the NVSwitches of this machine need",
    ),
    # what is there already
    (on(UBUNTU, RTX4090, installer=True), {}, "foreign_install", "run nvidia-uninstall first"),
    (
        on(DEBIAN13, RTX4090, foreign=("/etc/apt/sources.list.d/cuda.list",)),
        {},
        "repository_conflict",
        "/etc/apt/sources.list.d/cuda.list configures another source",
    ),
    (on(ALMA10, RTX4090), {}, "key_unknown", "(CDF6BA43.pub) is not known to this release"),
    # AMD
    (on(DEBIAN12, RX7800), {}, "firmware", "1002:747e is newer than the firmware and kernel of Debian 12"),
    (on(DEBIAN13, MI300), {"amdgpu_dkms": "30.30"}, "amdgpu_kernel", "30.30 does not build on kernel 6.12.117"),
    (on(DEBIAN13, MI300), {"amdgpu_dkms": "7.2"}, "amdgpu_version", "'7.2' is no known version; allowed are 30.30"),
    (on(UBUNTU26, STRIX), {"amdgpu_dkms": "31.50"}, "amdgpu_integrated", "with the kernel's own driver only"),
    (on(ROCKY8, MI300), {"amdgpu_dkms": "31.50"}, "amdgpu_system", "AMD has no repository for RHEL 8"),
    (on(DEBIAN13, MI300, **SB), {"amdgpu_dkms": "31.50"}, "secure_boot", "or leave it empty"),
]

NOTHING: list[tuple[Target, dict[str, t.Any], str]] = [
    (DEBIAN13, {}, "no GPU of NVIDIA or AMD"),
    (on(DEBIAN13, RTX4090), {"vendor": "none"}, ""),
    (on(DEBIAN13, "8086:56a0"), {}, "no GPU of NVIDIA or AMD"),
    (on(DEBIAN13, RTX4090, platform="container"), {}, "a container uses its host's driver"),
    (on(UBUNTU, RTX4090, platform="wsl2"), {}, "WSL2 uses the Windows driver"),
    (on(UBUNTU, H100, platform="dgx"), {}, "DGX OS brings"),
]


def named(value: t.Any) -> str | None:
    if isinstance(value, Target):
        return "-".join([value.os_id + value.os_version, *(card.pci_id for card in value.cards)])
    return str(value) if isinstance(value, dict | tuple) else None


def test_the_table_is_long_enough() -> None:
    assert len(PLANS) + len(REFUSALS) >= 40


@pytest.mark.parametrize(("target", "wish", "chosen", "package"), PLANS, ids=named)
def test_a_host_gets_a_plan(
    target: Target, wish: dict[str, t.Any], chosen: tuple[str, int | None, str | None], package: str
) -> None:
    result = plan(Wish(**wish), target)
    assert (result.source, result.branch, result.modules) == chosen
    assert package in result.packages
    assert set(result.headers) <= set(result.packages)
    assert result.dkms == any("headers" in name or "devel" in name for name in result.headers)


@pytest.mark.parametrize(("target", "wish", "code", "says"), REFUSALS, ids=named)
def test_a_host_is_refused_with_the_way_out(target: Target, wish: dict[str, t.Any], code: str, says: str) -> None:
    with pytest.raises(OllamaError) as caught:
        plan(Wish(**wish), target)
    assert caught.value.code == f"gpu_{code}"
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    way_out = (
        "allowed",
        "Ways out",
        "set gpu_driver_vendor",
        "Take one out",
        "run nvidia-uninstall",
        "give its 40",
        "accepts",
    )
    assert any(words in caught.value.message for words in way_out)


@pytest.mark.parametrize(("target", "wish", "note"), NOTHING, ids=named)
def test_a_host_is_left_alone(target: Target, wish: dict[str, t.Any], note: str) -> None:
    result = plan(Wish(**wish), target)
    assert (result.vendor, result.packages, result.files) == ("none", [], [])
    assert note in "; ".join(result.notes)


def test_a_driver_that_works_is_left_as_it_is_unless_something_is_asked_for() -> None:
    target = on(UBUNTU, RTX4090, works=True, installer=True, foreign=("/etc/apt/sources.list.d/cuda.list",))
    result = plan(Wish(), target)
    assert (result.source, result.packages) == ("present", [])
    assert {file.path for file in result.files} >= {"/etc/modules-load.d/kaido-gpu-driver.conf"}
    with pytest.raises(OllamaError):
        plan(Wish(branch="580"), target)
    assert plan(Wish(), replace(target, installer=False, foreign=(), ours=True)).source == "distribution"


@pytest.mark.parametrize(
    ("device", "generation", "capability"),
    [
        (0x133F, "Kepler or older", "3.7"),
        (0x1340, "Maxwell", "5.2"),
        (0x1D7F, "Pascal", "6.1"),
        (0x1D81, "Volta", "7.0"),
        (0x1DF6, "Volta", "7.0"),
        (0x1E02, "Turing", "7.5"),
        (0x28F8, "Ada", "8.9"),
        (0x2901, "Blackwell", "10.0"),
        (0x2FFF, "Blackwell", "12.0"),
        (0x31C2, "Blackwell Ultra or newer", "10.3"),
    ],
)
def test_the_edges_of_the_generations(device: int, generation: str, capability: str) -> None:
    assert cards_module.nvidia(device)[:2] == (generation, capability)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (DEBIAN13, ["linux-headers-6.12.117+deb13-amd64", "linux-headers-amd64"]),
        (
            replace(DEBIAN13, kernel="6.12.117+deb13-cloud-amd64"),
            ["linux-headers-6.12.117+deb13-cloud-amd64", "linux-headers-cloud-amd64"],
        ),
        (
            replace(DEBIAN13, kernel="6.12.117+deb13-rt-amd64"),
            ["linux-headers-6.12.117+deb13-rt-amd64", "linux-headers-rt-amd64"],
        ),
        (replace(DEBIAN12, kernel="6.1.0-56-arm64"), ["linux-headers-6.1.0-56-arm64", "linux-headers-arm64"]),
        (UBUNTU, ["linux-headers-6.8.0-88-generic", "linux-headers-generic"]),
        (
            replace(UBUNTU, packages=frozenset({"linux-image-generic-hwe-24.04", "linux-image-6.8.0-88-generic"})),
            ["linux-headers-6.8.0-88-generic", "linux-headers-generic-hwe-24.04"],
        ),
        (replace(UBUNTU, kernel="6.8.0-1021-aws"), ["linux-headers-6.8.0-1021-aws", "linux-headers-aws"]),
        (ROCKY8, ["kernel-devel-4.18.0-553.el8_10.x86_64", "kernel-headers"]),
        (ROCKY9, ["kernel-devel-matched", "kernel-headers"]),
        (
            replace(ROCKY9, kernel="5.14.0-687.el9.aarch64+64k", machine="aarch64"),
            ["kernel-64k-devel-matched", "kernel-headers"],
        ),
        (replace(ROCKY9, kernel="5.15.0-1.el9uek.x86_64"), ["kernel-uek-devel-5.15.0-1.el9uek.x86_64"]),
    ],
    ids=named,
)
def test_headers_are_those_of_the_kernel_that_will_run(target: Target, expected: list[str]) -> None:
    system = driver_systems.find(target.os_id, target.os_like, target.os_version)
    assert system
    assert driver_systems.headers(system, target.kernel, target.packages) == expected


@pytest.mark.parametrize(("target", "builder"), [(ROCKY8, "powertools"), (ROCKY9, "crb"), (RHEL9, "crb")])
def test_the_repositories_that_dkms_comes_from(target: Target, builder: str) -> None:
    """RHEL's is named otherwise than that of its kin, and not as those of its debug and source packages."""
    found = plan(Wish(), on(target, RTX4090, epel=True)).enablerepo
    assert found[:2] == ["epel", builder]
    number = target.os_version.split(".")[0]
    names = [f"codeready-builder-for-rhel-{number}-x86_64{kind}-rpms" for kind in ("", "-debug", "-source")]
    assert fnmatch.filter(names, found[2]) == names[:1]


def files(target: Target, **wish: t.Any) -> dict[str, str]:
    return {file.path: file.content for file in plan(Wish(**wish), target).files}


def test_debians_components_are_added_beside_the_hosts_own_entries() -> None:
    content = files(on(DEBIAN13, RTX4090))[driver_files.APT_SOURCES]
    first, second = content.split("\n\n")
    assert first.splitlines()[1:] == [
        "Types: deb",
        "URIs: http://deb.debian.org/debian",
        "Suites: trixie",
        "Components: contrib non-free non-free-firmware",
        "Signed-By: /usr/share/keyrings/d.gpg",
    ]
    assert "trixie-security" in second
    half = tuple(source._replace(components=("main", "contrib", "non-free-firmware")) for source in MIRROR)
    assert "Components: non-free\n" in files(on(DEBIAN13, RTX4090, archive=half))[driver_files.APT_SOURCES]
    full = tuple(s._replace(components=("main", "contrib", "non-free", "non-free-firmware")) for s in MIRROR)
    assert driver_files.APT_SOURCES not in files(on(DEBIAN13, RTX4090, archive=full))
    assert "Components: non-free-firmware\n" in files(on(DEBIAN13, RX7900))[driver_files.APT_SOURCES]


def test_nvidias_repository_comes_with_pinned_key_and_branch() -> None:
    result = plan(Wish(), on(DEBIAN12, RTX4090))
    content = {file.path: file.content for file in result.files}
    assert (
        "URIs: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/\nSuites: /\nSigned-By: "
        in (content[driver_files.APT_SOURCES])
    )
    pin = content["/etc/apt/preferences.d/kaido-gpu-driver"]
    assert "Package: *\nPin: release l=NVIDIA CUDA\nPin-Priority: 1\n" in pin
    assert "Pin: version 580.*\nPin-Priority: 1001\n" in pin
    assert result.key
    assert result.key.fingerprint == "EB693B3035CD5710E231E123A4B469963BF863CC"
    assert result.key.url.endswith("/debian12/x86_64/3bf863cc.pub")
    assert "blacklist nouveau" in content[driver_files.NOUVEAU]
    arm = plan(Wish(), on(DEBIAN12, RTX4090, machine="aarch64"))
    assert arm.key
    assert "/debian12/sbsa/" in arm.key.url


def test_rpm_systems_keep_the_branch_by_stream_or_by_file() -> None:
    streams = files(on(ROCKY9, RTX4090))
    assert "stream=580-open\n" in streams["/etc/dnf/modules.d/nvidia-driver.module"]
    assert "stream=580-dkms\n" in files(on(ROCKY9, V100))["/etc/dnf/modules.d/nvidia-driver.module"]
    assert "includepkgs" not in streams[driver_files.YUM_REPOSITORY]
    assert "gpgcheck=1\n" in streams[driver_files.YUM_REPOSITORY]
    assert "includepkgs=*-580.* *:580.*\n" in files(on(FEDORA42, RTX4090))[driver_files.YUM_REPOSITORY]


def test_debians_packages_keep_nouveau_away_themselves() -> None:
    assert driver_files.NOUVEAU not in files(on(DEBIAN13, RTX4090))


def test_amds_repository_is_an_ubuntus_on_debian() -> None:
    content = files(on(DEBIAN13, MI300), amdgpu_dkms="31.50")
    amd = content["/etc/apt/sources.list.d/kaido-gpu-driver-amd.sources"]
    assert "URIs: https://repo.radeon.com/amdgpu/31.50/ubuntu\nSuites: noble\nComponents: main\n" in amd
    assert "non-free-firmware" in content[driver_files.APT_SOURCES]


def test_what_else_a_person_should_know_is_in_the_notes() -> None:
    assert "mokutil --import" in "; ".join(plan(Wish(accept_mok=True), on(DEBIAN13, RTX4090, **SB)).notes)
    assert plan(Wish(), on(UBUNTU, RAPHAEL, RTX4090)).notes == ["GPUs of amd are left as they are"]
    assert driver_plan.plan(Wish(), on(DEBIAN13, RTX4090)).notes == []
