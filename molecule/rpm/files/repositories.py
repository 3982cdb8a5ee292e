# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a lab host resemble a system with its package repositories: repositories.py 9|10 KERNEL NEWER_KERNEL [SIGNER].

With SIGNER, only sign the packages in NVIDIA's repository again, with the key of that name.

The packages are signed stubs, except that nginx, haproxy and zstd contain the programs of Debian in /srv/programs.
"""

from __future__ import annotations

import concurrent.futures
import pathlib
import re
import subprocess
import sys
import typing as t

ROOT = pathlib.Path("/srv/repositories")
KEYS = pathlib.Path("/etc/pki/rpm-gpg")
NUMBER, KERNEL, NEWER, *SIGNER = sys.argv[1:]
ROCKY = "dl.rockylinux.org/os"
BUILDER = "dl.rockylinux.org/crb"
EPEL = "dl.fedoraproject.org/epel"
NVIDIA = f"developer.download.nvidia.com/compute/cuda/repos/rhel{NUMBER}/x86_64"
NVIDIA_KEY = {"9": "D42D0685", "10": "CDF6BA43"}[NUMBER]
BRANCHES = {"580": "580.95.05", "620": "620.20.01"}
REPOSITORY = """[{name}]
name={name}
baseurl=https://{path}
enabled={enabled}
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-{key}
"""
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
# Builds what a real DKMS leaves on the disk, but only where the headers of the kernel are installed.
DKMS = """#!/bin/sh
tree=/var/lib/dkms/nvidia
kernel=$(uname -r)
action=$1
while [ $# -gt 0 ]; do [ "$1" != -k ] || kernel=$2; shift; done
version=$(basename "$(echo /usr/src/nvidia-*)" | cut -d- -f2)
case $action in
autoinstall | install)
  if [ ! -d "/usr/src/kernels/$kernel" ]; then
    echo "Error! Your kernel headers for kernel $kernel cannot be found" >&2
    exit 1
  fi
  mkdir -p "$tree/$version/$kernel/x86_64/module" "/lib/modules/$kernel/extra"
  ln -sfn "$version/$kernel/x86_64" "$tree/kernel-$kernel-x86_64"
  echo stub >"/lib/modules/$kernel/extra/nvidia.ko.xz"
  ;;
remove)
  rm -rf "$tree" /lib/modules/*/extra/nvidia.ko.xz
  ;;
status)
  [ ! -L "$tree/kernel-$kernel-x86_64" ] || echo "nvidia/$version, $kernel, x86_64: installed"
  ;;
esac
"""
KMOD = """%post
dkms add -m nvidia -v {version} -q || :
dkms build -m nvidia -v {version} -q || :
dkms install -m nvidia -v {version} -q --force || :
%preun
dkms remove -m nvidia -v {version} -q --all || :
"""


class Package(t.NamedTuple):
    """A package, with the files that it contains: path -> content, or None for a directory."""

    repository: str
    name: str
    version: str = "1.0"
    release: str = f"1.el{NUMBER}"
    epoch: int = 0
    requires: str = ""
    provides: str = ""
    files: dict[str, str | None] = {}  # noqa: RUF012
    scripts: str = ""
    program: bool = False

    @property
    def arch(self) -> str:
        """The programs of Debian, and what real names of kernel packages end with."""
        return "x86_64" if self.program or self.name.startswith("kernel") else "noarch"

    @property
    def nevra(self) -> str:
        """As the metadata of modules spell it."""
        return f"{self.name}-{self.epoch}:{self.version}-{self.release}.{self.arch}"

    def spec(self) -> str:
        """Return the recipe of the package."""
        lines = [f"Name: {self.name}", f"Epoch: {self.epoch}", f"Version: {self.version}", f"Release: {self.release}"]
        lines += ["Summary: Stub", "License: none", "AutoReqProv: no"]
        lines += ["BuildArch: noarch"] if self.arch == "noarch" else []
        lines += [f"Requires: {self.requires}"] if self.requires else []
        lines += [f"Provides: {self.provides}"] if self.provides else []
        install, listed = [], []
        for path, content in self.files.items():
            mode = "0755" if path.startswith(("/usr/bin", "/usr/sbin")) else "0644"
            if content is None:
                install.append(f"mkdir -p %{{buildroot}}{path}")
            else:
                install.append(f"install -D -m {mode} /dev/stdin %{{buildroot}}{path} <<'END_OF_FILE'\n{content}")
                install.append("END_OF_FILE")
            listed.append(path)
        if self.program:
            install.append(f"mkdir -p %{{buildroot}}/usr && cp -a /srv/programs/{self.name}/usr/. %{{buildroot}}/usr")
            listed.append("/usr")
        parts = ["\n".join(lines), "%description\nStub", "%install", *install, self.scripts, "%files", *listed]
        return "\n".join(parts) + "\n"


def repository(name: str, path: str, key: str, enabled: bool = True) -> dict[str, str | None]:
    """Return the files of a configured repository."""
    text = REPOSITORY.format(name=name, path=path, key=key, enabled=int(enabled))
    return {f"/etc/yum.repos.d/{name}.repo": text}


def kernel(full: str) -> list[Package]:
    """Return the packages of one kernel: itself, its headers, and the one that holds both together."""
    version, release = full.removesuffix(".x86_64").split("-")
    common = {"version": version, "release": release}
    several = {"provides": "installonlypkg(kernel)", **common}
    same = f"{version}-{release}"
    return [
        Package(ROCKY, "kernel-core", files={f"/lib/modules/{full}/vmlinuz": "stub"}, **several),
        Package(ROCKY, "kernel-devel", files={f"/usr/src/kernels/{full}": None}, **several),
        Package(ROCKY, "kernel-devel-matched", requires=f"kernel-core = {same}, kernel-devel = {same}", **common),
        Package(ROCKY, "kernel-headers", **common),
    ]


def driver(version: str, modules: str) -> list[Package]:
    """Return the packages of one branch of NVIDIA's driver."""
    common = {"version": version, "epoch": 3}
    sources = {f"/usr/src/nvidia-{version}/dkms.conf": ""}
    kmod = f"kmod-nvidia-{modules}-dkms"
    same = f"3:{version}"
    return [
        Package(NVIDIA, "nvidia-driver-cuda", requires=f"nvidia-persistenced = {same}, nvidia-modprobe", **common),
        Package(NVIDIA, kmod, requires="dkms", files=sources, scripts=KMOD.format(version=version), **common),
        Package(
            NVIDIA,
            "nvidia-persistenced",
            files={"/usr/lib/systemd/system/nvidia-persistenced.service": UNIT},
            **common,
        ),
        Package(NVIDIA, "nvidia-modprobe", files={"/usr/bin/nvidia-modprobe": "#!/bin/sh\n"}, **common),
    ]


def service(name: str) -> dict[str, str | None]:
    return {f"/usr/lib/systemd/system/{name}.service": UNIT}


PACKAGES = [
    # Debian's shell, which scripts of packages require.
    Package(ROCKY, "bash", provides="/bin/sh"),
    Package(ROCKY, "zstd", program=True),
    Package(ROCKY, "nginx", files=service("nginx"), program=True),
    Package(ROCKY, "haproxy", files=service("haproxy"), program=True),
    Package(ROCKY, "epel-release", files=repository("epel", EPEL, "EPEL")),
    Package(BUILDER, "elfutils-libelf-devel"),
    Package(EPEL, "dkms", requires="elfutils-libelf-devel", files={"/usr/sbin/dkms": DKMS}),
    Package(
        EPEL,
        "golang-github-prometheus-node-exporter",
        files={"/var/lib/prometheus/node-exporter": None, **service("prometheus-node-exporter")},
    ),
    *kernel(KERNEL),
    *kernel(NEWER),
    *(package for version in BRANCHES.values() for package in driver(version, "open")),
]
SIGNERS = {ROCKY: "Rocky", BUILDER: "Rocky", EPEL: "EPEL", NVIDIA: "NVIDIA"}


def run(*command: str, **options: t.Any) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def identify() -> None:
    """Make the system, which resembles version 9, resemble the other version."""
    for name in ("/usr/lib/os-release", "/etc/redhat-release", "/etc/dnf/vars/releasever"):
        path = pathlib.Path(name)
        path.write_text(re.sub(r"9\.8|(?<=platform:el)9|^9$", lambda _match: NUMBER, path.read_text(), flags=re.M))


def make_keys() -> None:
    """Create a key for each vendor, and the public keys as the vendors publish them."""
    KEYS.mkdir(parents=True, exist_ok=True)
    for name in ("Rocky", "EPEL", "NVIDIA", "Stranger"):
        run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", name, "rsa2048", "sign", "never")
        key = run("gpg", "--armor", "--export", name)
        path = ROOT / NVIDIA / f"{NVIDIA_KEY}.pub" if name == "NVIDIA" else KEYS / f"RPM-GPG-KEY-{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    colons = run("gpg", "--with-colons", "--fingerprint", "NVIDIA").splitlines()
    pathlib.Path("/srv/fingerprint").write_text(next(line.split(":")[9] for line in colons if line.startswith("fpr")))


def build(package: Package) -> None:
    """Build and sign one package."""
    spec = ROOT / f"{package.name}-{package.version}-{package.release}.spec"
    spec.write_text(package.spec())
    folder = ROOT / package.repository
    # rpmbuild fails if another one creates the same directory at that moment.
    top = pathlib.Path("/srv/build") / spec.stem
    top.mkdir(parents=True)
    options = (
        f"_topdir {top}",
        f"_rpmdir {folder}",
        "debug_package %{nil}",
        "__os_install_post %{nil}",
        "_build_id_links none",
    )
    run("rpmbuild", "--quiet", "-bb", *(f"--define={option}" for option in options), str(spec))
    spec.unlink()


def modules() -> str:
    """Return the metadata of NVIDIA's module: one stream for each branch, and another one by default."""
    text = ""
    for branch, version in BRANCHES.items():
        text += f"""---
document: modulemd
version: 2
data:
  name: nvidia-driver
  stream: {branch}-open
  version: 20261101
  context: stub
  arch: x86_64
  summary: Stub
  description: Stub
  license: {{module: [MIT]}}
  artifacts:
    rpms: [{", ".join(f'"{package.nevra}"' for package in driver(version, "open"))}]
...
"""
    return text + "---\ndocument: modulemd-defaults\nversion: 1\ndata: {module: nvidia-driver, stream: 620-open}\n...\n"


def publish(path: str, signer: str) -> None:
    """Sign the packages of a repository, and write its metadata."""
    packages = [str(found) for found in (ROOT / path).rglob("*.rpm")]
    run("rpmsign", f"--define=_gpg_name {signer}", "--define=__gpg /usr/bin/gpg", "--addsign", *packages)
    run("createrepo_c", "--quiet", str(ROOT / path))
    # Version 10 has no modules any more.
    if path == NVIDIA and NUMBER == "9":
        (ROOT / "modules.yaml").write_text(modules())
        run("modifyrepo_c", str(ROOT / "modules.yaml"), str(ROOT / NVIDIA / "repodata"))


def main() -> None:
    """Build all repositories, or sign NVIDIA's packages again."""
    if SIGNER:
        return publish(NVIDIA, *SIGNER)
    identify()
    make_keys()
    run("rpm", "--initdb")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(build, PACKAGES))
    for path, signer in SIGNERS.items():
        publish(path, signer)
    for name, path, enabled in (("rocky", ROCKY, True), ("crb", BUILDER, False)):
        for target, text in repository(name, path, "Rocky", enabled).items():
            pathlib.Path(target).write_text(str(text))
    return None


main()
