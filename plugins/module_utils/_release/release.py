# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of Ollama: their versions and archives, those on a host, and the changes of a request.

Each release has a separate directory, and one symbolic link refers to the release in use.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import typing as t
from dataclasses import dataclass, field

from .._core import command
from .._core.errors import OllamaError
from .._core.fs import list_directory, read_link
from .._core.owner import read_regular, replaceable_by
from .._core.progress import Progress
from .._core.server import Server

BASE_URL = "https://github.com/ollama/ollama/releases/download"
MARKER = ".kaido-release.json"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# The variants that are unpacked over the base archive, with their architecture.
VARIANTS = {"rocm": "amd64", "mlx": "amd64", "jetpack5": "arm64", "jetpack6": "arm64"}

_VERSION = re.compile(r"\d+\.\d+\.\d+(-rc\d+)?\Z")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")


def parse_version(text: t.Any, *, what: str = "version") -> tuple[int, int, int]:
    """Return a version as three numbers. A release candidate counts as its release.

    :raises OllamaError: ``version_invalid``.
    """
    if not isinstance(text, str) or not _VERSION.match(text):
        raise OllamaError(
            "version_invalid", f"{what}: invalid version {text!r}; expected for example 0.35.1, without a leading v"
        )
    major, minor, patch = text.split("-")[0].split(".")
    return int(major), int(minor), int(patch)


def parse_checksum(text: t.Any, *, what: str = "checksum") -> str:
    """Return a checksum as ``sha256:<64 hex>``; the prefix is optional.

    :raises OllamaError: ``digest_invalid``.
    """
    checksum = str(text).strip().lower()
    if not checksum.startswith("sha256:"):
        checksum = "sha256:" + checksum
    if not _CHECKSUM.match(checksum):
        raise OllamaError(
            "digest_invalid", f"{what}: invalid checksum {text!r}; expected sha256: and 64 hexadecimal digits"
        )
    return checksum


def assets(machine: str, variants: t.Sequence[str] = ()) -> list[str]:
    """Return the names of the archives for a machine, the base archive first.

    :param machine: the architecture that uname reports, such as x86_64.
    :raises OllamaError: ``architecture_unsupported`` or ``variant_unsupported``.
    """
    if machine not in ARCHITECTURES:
        raise OllamaError(
            "architecture_unsupported",
            f"unsupported architecture {machine!r}; expected one of {', '.join(sorted(ARCHITECTURES))}",
            architecture=machine,
        )
    architecture = ARCHITECTURES[machine]
    for variant in variants:
        if VARIANTS.get(variant) != architecture:
            allowed = ", ".join(name for name, only in VARIANTS.items() if only == architecture)
            raise OllamaError(
                "variant_unsupported",
                f"ollama_release_variants: invalid value {variant!r} for {architecture}; expected {allowed}",
            )
    return [f"ollama-linux-{architecture}{suffix}.tar.zst" for suffix in ("", *(f"-{name}" for name in variants))]


def url_of(base_url: str, version: str, name: str) -> str:
    """Return the URL of an archive of a release in the layout of the official site."""
    return f"{base_url.rstrip('/')}/v{version}/{name}"


@dataclass(frozen=True)
class ReleaseRequest:
    """The requested release, the source of its archives and the limits of the download.

    :ivar keep: the number of releases to keep.
    :ivar activate: whether the link to the release in use is switched.
    :ivar timeout: seconds.
    """

    version: str
    archives: t.Mapping[str, str] | None = None
    """The checksums by archive, the base archive first. None for a release that is already on the host."""
    base_url: str = BASE_URL
    install_dir: str = Server.install_dir
    bin_dir: str = Server.bin_dir
    keep: int = 2
    activate: bool = True
    timeout: float = 60.0
    retries: int = 5
    ca_path: str | None = None
    environment: t.Mapping[str, str] | None = None
    """Environment variables for the download such as ``HTTPS_PROXY``; None for those of this process."""
    progress: Progress = field(default_factory=Progress, compare=False)

    @property
    def path(self) -> str:
        return os.path.join(self.install_dir, "releases", self.version)


@dataclass(frozen=True)
class Vendor:
    """The installation of Ollama's own script: <prefix>/bin/ollama and <prefix>/lib/ollama."""

    prefix: str
    version: str | None
    """None if only libraries are left or the program does not run; the installation is then not kept."""

    @property
    def program(self) -> str:
        return os.path.join(self.prefix, "bin", "ollama")

    @property
    def libraries(self) -> str:
        return os.path.join(self.prefix, "lib", "ollama")


@dataclass(frozen=True)
class State:
    """The releases on a host."""

    current: str | None
    releases: dict[str, dict[str, str]]
    """The checksums of the installed archives by version and archive; the newest installation first."""
    link: str | None
    """The target of <bin_dir>/ollama; "" if it is not a link; None if it is missing."""
    vendor: Vendor | None = None

    def has(self, request: ReleaseRequest) -> bool:
        found = self.releases.get(request.version)
        return found is not None and (request.archives is None or found == dict(request.archives))

    @property
    def used(self) -> str | None:
        """The release in use, which may be that of the vendor's script."""
        return self.current or (self.vendor.version if self.vendor else None)

    @property
    def known(self) -> list[str]:
        """The releases on this host, including that of the vendor's script."""
        vendors = self.vendor.version if self.vendor else None
        return [*self.releases, *([vendors] if vendors and vendors not in self.releases else [])]


def read_state(install_dir: str, bin_dir: str) -> State:
    """Return the releases on this host. Directories without a marker are ignored."""
    found: list[tuple[float, str, dict[str, str]]] = []
    releases = os.path.join(install_dir, "releases")
    for version in list_directory(releases):
        marker = os.path.join(releases, version, MARKER)
        try:
            content = json.loads(read_regular(marker, 1 << 20))
            if content["version"] == version:
                found.append((os.stat(marker).st_mtime, version, dict(content["archives"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    found.sort(reverse=True)
    current = read_link(os.path.join(install_dir, "current"))
    name = os.path.basename(current) if current else None
    return State(
        current=name if name and os.path.isdir(os.path.join(releases, name)) else None,
        releases={version: archives for _mtime, version, archives in found},
        link=read_link(os.path.join(bin_dir, "ollama")),
        vendor=_find_vendor(os.path.dirname(bin_dir.rstrip("/"))),
    )


def _find_vendor(prefix: str) -> Vendor | None:
    vendor = Vendor(prefix, None)
    runs = os.path.isfile(vendor.program) and not os.path.islink(vendor.program) and os.access(vendor.program, os.X_OK)
    # An interrupted run may leave only the libraries. Without these files, the directory belongs to other software.
    stale = any(name.startswith(("libggml", "llama-server")) for name in list_directory(vendor.libraries))
    if runs:
        with contextlib.suppress(OllamaError):
            version = client_version(vendor.program)
            parse_version(version)
            return Vendor(prefix, version)
    return vendor if stale else None


def binary(install_dir: str) -> str:
    """Return the path of the program of the release in use."""
    return os.path.join(install_dir, "current", "bin", "ollama")


def check_foreign(state: State, install_dir: str, bin_dir: str) -> None:
    """Refuse to replace a program that neither this collection nor the vendor's script installed.

    :raises OllamaError: ``installation_foreign``.
    """
    if state.link is None or state.link == binary(install_dir) or (state.link == "" and state.vendor):
        return
    path = os.path.join(bin_dir, "ollama")
    raise OllamaError(
        "installation_foreign",
        f"{path} {'links to ' + state.link if state.link else 'is a file'}, which neither this collection nor Ollama's "
        "own script installed; remove that installation first (its models stay usable)",
        path=path,
    )


def plan(state: State, request: ReleaseRequest) -> dict[str, str]:
    """Return the required steps of install, adopt, activate, link and prune in this order, each with its description.

    :raises OllamaError: ``checksum_unknown``.
    """
    steps = {}
    if not state.has(request):
        if request.archives is None:
            raise OllamaError(
                "checksum_unknown",
                f"version: {request.version!r} is not on this host; expected a checksum for its download or one of "
                f"{', '.join(state.releases) or 'no installed release'}",
            )
        overlays = "".join(f" with {name}" for name in list(request.archives)[1:])
        steps["install"] = f"install {request.version}{overlays} from {request.base_url}"
    if request.activate and state.vendor:
        what = f"Ollama {state.vendor.version}" if state.vendor.version else "the remains of Ollama"
        steps["adopt"] = f"take over {what} in {state.vendor.prefix}"
    if request.activate and state.current != request.version:
        steps["activate"] = f"switch from {state.used or 'nothing'} to {request.version}"
    if request.activate and state.link != binary(request.install_dir):
        steps["link"] = f"link {os.path.join(request.bin_dir, 'ollama')}"
    if surplus(state, request):
        steps["prune"] = "remove " + ", ".join(surplus(state, request))
    return steps


def surplus(state: State, request: ReleaseRequest) -> list[str]:
    """Return the versions to remove: never the requested one, and the release in use last."""
    known = state.known if request.activate else list(state.releases)
    protected = {request.version} if request.activate or state.current is None else {request.version, state.current}
    others = sorted((version for version in known if version not in protected), key=lambda v: v != state.used)
    return others[max(0, request.keep - len(protected)) :]


def client_version(program: str) -> str:
    """Return the version of an ollama program, not that of a running server.

    A program that another account can change runs with the rights of that account.

    :raises OllamaError: ``release_incomplete`` if it does not run or prints no version.
    """
    # Nothing listens on port 1, so the output is the version of the program itself.
    environment = {"HOME": "/nonexistent", "OLLAMA_HOST": "127.0.0.1:1"}
    try:
        result = command.run([*_with_rights_of(program), program, "--version"], environment=environment, timeout=60)
    except OllamaError as exc:
        raise OllamaError("release_incomplete", f"it does not run: {exc.message}") from exc
    output = result.stdout + result.stderr
    match = re.search(r"client version is (\S+)", output) or re.search(r"version is (\S+)", output)
    if not match:
        raise OllamaError("release_incomplete", f"--version printed {output.strip()[:200]!r}; expected a version")
    return match.group(1)


def _with_rights_of(program: str) -> list[str]:
    """Return the command that drops the privileges of root to run a program that another account can change."""
    identity = replaceable_by(os.path.abspath(program)) if os.geteuid() == 0 else None
    if identity is None:
        return []
    return ["setpriv", f"--reuid={identity.uid}", f"--regid={identity.gid}", "--clear-groups", "--no-new-privs", "--"]
