# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of Ollama on a host: versioned directories, one link to the one in use, and how a new one gets there.

What may fail happens beside what is in use; the link is flipped last and atomically.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import typing as t
from dataclasses import dataclass
from time import sleep
from urllib.parse import unquote, urlsplit

from .._core.errors import OllamaError
from .._core.http import Response, Stream, open_stream, request
from .._core.owner import open_regular, owner_of
from .._core.text import printable
from .unpack import TAR_ERRORS, Archive, open_archive, unpack, write_synced

BASE_URL = "https://github.com/ollama/ollama/releases/download"
MARKER = ".kaido-release.json"
SELINUX = "/sys/fs/selinux/enforce"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# Archives that lie over the base one, and for which architecture there is each.
VARIANTS = {"rocm": "amd64", "mlx": "amd64", "jetpack5": "arm64", "jetpack6": "arm64"}

_VERSION = re.compile(r"\d+\.\d+\.\d+(-rc\d+)?\Z")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
_CHUNK = 1 << 20
# An unpacked release is about three times its archive; both are on the disk for a while.
_SPACE_FACTOR = 4.2
_RETRIED = ("unreachable", "stalled", "connection_lost", "server_error")
_MAX_ATTEMPTS = 100


def parse_version(text: t.Any, *, what: str = "version") -> tuple[int, int, int]:
    """Return a version as three numbers; a release candidate counts as its release.

    :raises OllamaError: ``bad_version``.
    """
    if not isinstance(text, str) or not _VERSION.match(text):
        raise OllamaError(
            "bad_version", f"{what}: {text!r} is not a version; allowed is for example 0.35.1, without a v"
        )
    major, minor, patch = text.split("-")[0].split(".")
    return int(major), int(minor), int(patch)


def parse_checksum(text: t.Any, *, what: str = "checksum") -> str:
    """Return a checksum as ``sha256:<64 hex>``; the prefix may be missing.

    :raises OllamaError: ``invalid_checksum``.
    """
    checksum = str(text).strip().lower()
    if not checksum.startswith("sha256:"):
        checksum = "sha256:" + checksum
    if not _CHECKSUM.match(checksum):
        raise OllamaError(
            "invalid_checksum", f"{what}: {text!r} is not a checksum; allowed is sha256: and 64 hexadecimal digits"
        )
    return checksum


def assets(machine: str, variants: t.Sequence[str] = ()) -> list[str]:
    """Return the names of the archives for a machine as uname calls it, the base one first.

    :raises OllamaError: ``unsupported_architecture`` or ``unsupported_variant``.
    """
    if machine not in ARCHITECTURES:
        raise OllamaError(
            "unsupported_architecture",
            f"this host's architecture is {machine!r}; Ollama has releases for {', '.join(sorted(ARCHITECTURES))}",
            architecture=machine,
        )
    architecture = ARCHITECTURES[machine]
    for variant in variants:
        if VARIANTS.get(variant) != architecture:
            allowed = ", ".join(name for name, only in VARIANTS.items() if only == architecture)
            raise OllamaError(
                "unsupported_variant",
                f"ollama_release_variants: {variant!r} is not there for {architecture}; allowed is {allowed}",
            )
    return [f"ollama-linux-{architecture}{suffix}.tar.zst" for suffix in ("", *(f"-{name}" for name in variants))]


def url_of(base_url: str, version: str, name: str) -> str:
    """Return where an asset of a release is, in upstream's layout."""
    return f"{base_url.rstrip('/')}/v{version}/{name}"


def fetch_checksums(base_url: str, version: str, ca_path: str | None = None) -> dict[str, str]:
    """Return what the site itself says that the checksums of a release's archives are.

    :raises OllamaError: ``insecure_checksum``, ``release_missing``, ``download_refused``, ``bad_answer``.
    """
    url = url_of(base_url, version, "sha256sum.txt")
    if not url.startswith("https://"):
        raise OllamaError(
            "insecure_checksum", f"checksums are fetched over TLS only, and {url} is not https://", url=url
        )
    answer = request("GET", url, ca_path=ca_path, read_limit=1 << 16, tls_only=True)
    _check_status(url, answer)
    found = {}
    for line in answer.text(1 << 16).splitlines():
        checksum, _space, name = line.partition(" ")
        found[name.strip().lstrip("*").replace("./", "", 1)] = parse_checksum(checksum, what=url)
    return found


@dataclass(frozen=True)
class Wanted:
    """Which release is to be there, where it comes from, and how hard to try."""

    version: str
    archives: t.Mapping[str, str] | None = None
    """Archive -> checksum, the base first. None: a release that is on the host already."""
    base_url: str = BASE_URL
    install_dir: str = "/opt/ollama"
    bin_dir: str = "/usr/local/bin"
    keep: int = 2
    activate: bool = True
    timeout: float = 60.0
    retries: int = 5
    ca_path: str | None = None

    @property
    def path(self) -> str:
        return os.path.join(self.install_dir, "releases", self.version)


@dataclass(frozen=True)
class Vendor:
    """What the vendor's script installed beside our releases: <prefix>/bin/ollama and <prefix>/lib/ollama."""

    prefix: str
    version: str | None
    """None when only libraries are left of it, or when its program does not run: then there is nothing to keep."""

    @property
    def program(self) -> str:
        return os.path.join(self.prefix, "bin", "ollama")

    @property
    def libraries(self) -> str:
        return os.path.join(self.prefix, "lib", "ollama")


@dataclass(frozen=True)
class State:
    """The releases that are on a host."""

    current: str | None
    releases: dict[str, dict[str, str]]
    """Version -> asset -> checksum of the archive that it was unpacked from; newest installation first."""
    link: str | None
    """Where <bin_dir>/ollama points; "" when it is not a link; None when it is missing."""
    vendor: Vendor | None = None

    def has(self, wanted: Wanted) -> bool:
        found = self.releases.get(wanted.version)
        return found is not None and (wanted.archives is None or found == dict(wanted.archives))

    @property
    def used(self) -> str | None:
        """The release that a failed switch goes back to."""
        return self.current or (self.vendor.version if self.vendor else None)

    @property
    def known(self) -> list[str]:
        """The releases that are here, that of the vendor included."""
        vendors = self.vendor.version if self.vendor else None
        return [*self.releases, *([vendors] if vendors and vendors not in self.releases else [])]


def look(install_dir: str, bin_dir: str) -> State:
    """Return the releases on this host; a directory without a marker is not one."""
    found: list[tuple[float, str, dict[str, str]]] = []
    releases = os.path.join(install_dir, "releases")
    for version in _listdir(releases):
        marker = os.path.join(releases, version, MARKER)
        try:
            with open(marker, encoding="utf-8") as file:
                content = json.load(file)
            if content["version"] == version:
                found.append((os.stat(marker).st_mtime, version, dict(content["archives"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    found.sort(reverse=True)
    current = _readlink(os.path.join(install_dir, "current"))
    name = os.path.basename(current) if current else None
    return State(
        current=name if name and os.path.isdir(os.path.join(releases, name)) else None,
        releases={version: archives for _mtime, version, archives in found},
        link=_readlink(os.path.join(bin_dir, "ollama")),
        vendor=_look_for_vendor(os.path.dirname(bin_dir.rstrip("/"))),
    )


def _look_for_vendor(prefix: str) -> Vendor | None:
    vendor = Vendor(prefix, None)
    runs = os.path.isfile(vendor.program) and not os.path.islink(vendor.program) and os.access(vendor.program, os.X_OK)
    # A killed run may have left the libraries alone; without these files it is somebody else's directory.
    stale = any(name.startswith(("libggml", "llama-server")) for name in _listdir(vendor.libraries))
    if runs:
        with contextlib.suppress(OllamaError):
            version = client_version(vendor.program)
            parse_version(version)
            return Vendor(prefix, version)
    return vendor if stale else None


def binary(install_dir: str) -> str:
    """Return the path by which the release in use is run."""
    return os.path.join(install_dir, "current", "bin", "ollama")


def check_foreign(state: State, install_dir: str, bin_dir: str) -> None:
    """Refuse to replace a program that neither this collection nor the vendor's script installed.

    :raises OllamaError: ``foreign_install``.
    """
    if state.link is None or state.link == binary(install_dir) or (state.link == "" and state.vendor):
        return
    path = os.path.join(bin_dir, "ollama")
    raise OllamaError(
        "foreign_install",
        f"{path} {'points to ' + state.link if state.link else 'is a file'} that neither this collection nor Ollama's "
        "own script installed; remove that installation first (its models stay usable)",
        path=path,
    )


def plan(state: State, wanted: Wanted) -> dict[str, str]:
    """Return which of install, adopt, activate, link and prune are needed, in order, each with words for people.

    :raises OllamaError: ``unknown_checksum``.
    """
    steps = {}
    if not state.has(wanted):
        if wanted.archives is None:
            raise OllamaError(
                "unknown_checksum",
                f"version: {wanted.version!r} is not on this host, and without a checksum nothing is downloaded; "
                f"here are {', '.join(state.releases) or 'none'}",
            )
        overlays = "".join(f" with {name}" for name in list(wanted.archives)[1:])
        steps["install"] = f"install {wanted.version}{overlays} from {wanted.base_url}"
    if wanted.activate and state.vendor:
        what = f"Ollama {state.vendor.version}" if state.vendor.version else "what is left of Ollama"
        steps["adopt"] = f"take over {what} in {state.vendor.prefix}"
    if wanted.activate and state.current != wanted.version:
        steps["activate"] = f"switch from {state.used or 'nothing'} to {wanted.version}"
    if wanted.activate and state.link != binary(wanted.install_dir):
        steps["link"] = f"link {os.path.join(wanted.bin_dir, 'ollama')}"
    if surplus(state, wanted):
        steps["prune"] = "remove " + ", ".join(surplus(state, wanted))
    return steps


def surplus(state: State, wanted: Wanted) -> list[str]:
    """Return the versions to remove: never the wanted one, and of the others the one in use until now last."""
    known = state.known if wanted.activate else list(state.releases)
    protected = {wanted.version} if wanted.activate or state.current is None else {wanted.version, state.current}
    others = sorted((version for version in known if version not in protected), key=lambda v: v != state.used)
    return others[max(0, wanted.keep - len(protected)) :]


def apply(state: State, wanted: Wanted) -> int:
    """Carry out the plan and return the number of bytes downloaded. A failure leaves the release in use as it was."""
    steps = plan(state, wanted)
    received = 0
    _check_owner(wanted.install_dir)
    with _readable_by_all(), _lock(wanted.install_dir):
        _clean(wanted)
        if "install" in steps:
            received = _install(state, wanted)
        if "adopt" in steps:
            _keep_vendors(state, wanted)
        if "activate" in steps:
            _link(os.path.join("releases", wanted.version), os.path.join(wanted.install_dir, "current"))
        if "link" in steps:
            _link(binary(wanted.install_dir), os.path.join(wanted.bin_dir, "ollama"))
        if "adopt" in steps:
            _remove_vendors(t.cast(Vendor, state.vendor))
        for version in surplus(state, wanted):
            path = os.path.join(wanted.install_dir, "releases", version)
            if os.path.isdir(path):
                shutil.rmtree(_set_aside(path))
    return received


# Adopting what the vendor's script installed


def _keep_vendors(state: State, wanted: Wanted) -> None:
    """Make a release of it, so that going back to it is as any other; it goes on serving meanwhile."""
    vendor = t.cast(Vendor, state.vendor)
    if vendor.version is None or vendor.version in state.releases or vendor.version == wanted.version:
        return
    if vendor.version in surplus(state, wanted):
        return
    path = os.path.join(wanted.install_dir, "releases", vendor.version)
    beside = os.path.join(wanted.install_dir, "releases", f".unpack-{vendor.version}")
    os.makedirs(os.path.join(beside, "bin"))
    _link_or_copy(vendor.program, os.path.join(beside, "bin", "ollama"))
    if os.path.isdir(vendor.libraries):
        _clone(vendor.libraries, os.path.join(beside, "lib", "ollama"))
    _mark(beside, vendor.version, {})
    if os.path.lexists(path):
        shutil.rmtree(_set_aside(path))
    os.rename(beside, path)


def _remove_vendors(vendor: Vendor) -> None:
    """Remove the libraries; the program was replaced by the link."""
    if os.path.islink(vendor.libraries):
        os.unlink(vendor.libraries)
    elif os.path.isdir(vendor.libraries):
        shutil.rmtree(vendor.libraries)


def _clone(source: str, target: str) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        # Another file system.
        shutil.copy2(source, target, follow_symlinks=False)


# Downloading


def part_of(install_dir: str, checksum: str) -> str:
    """Return where an archive is collected; a complete one that lies there is not downloaded."""
    return os.path.join(install_dir, "download", checksum.replace(":", "-") + ".part")


class Download:
    """An archive on its way, in a file that is named after the wanted checksum: a later run finds and continues it.

    :param reserve: bytes that what was downloaded before it will take when it is unpacked.
    """

    def __init__(self, wanted: Wanted, asset: str, reserve: int = 0) -> None:
        self.wanted = wanted
        self.checksum = t.cast("t.Mapping[str, str]", wanted.archives)[asset]
        self.url = url_of(wanted.base_url, wanted.version, asset)
        self.path = part_of(wanted.install_dir, self.checksum)
        self.reserve = reserve
        self.received = 0

    def run(self) -> t.IO[bytes]:
        """Return the archive, complete and with the wanted checksum. What was hashed is what is open.

        :raises OllamaError: ``checksum_mismatch``, ``release_missing``, ``disk_full`` and what `open_stream` raises.
        """
        if self.url.startswith("file:"):
            return self._local(unquote(urlsplit(self.url).path))
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        resumed = os.path.lexists(self.path)
        if not resumed:
            self._fetch()
        file, found = self._hashed()
        if resumed and found != self.checksum:
            # Either the beginning of the archive, or of something else.
            for _attempt in ("continue", "start over"):
                file.close()
                self._fetch()
                file, found = self._hashed()
                if found == self.checksum:
                    break
                os.unlink(self.path)
        if found != self.checksum:
            file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            raise self._mismatch(found)
        return file

    def _hashed(self) -> tuple[t.IO[bytes], str]:
        file = os.fdopen(open_regular(self.path), "rb", buffering=0)
        return file, _sha256(file)

    def _local(self, path: str) -> t.IO[bytes]:
        """Return an archive that lies on this host, copied first where somebody else could change it meanwhile."""
        try:
            file, safe = open_archive(path)
        except OSError as exc:
            raise OllamaError(
                "release_missing", f"{self.url}: cannot read this file on this host: {exc.strerror}", url=self.url
            ) from None
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        _check_space(self.wanted.install_dir, self.reserve, size, _SPACE_FACTOR - safe)
        if not safe:
            file = self._copy(file)
        found = _sha256(file)
        if found != self.checksum:
            file.close()
            if not safe:
                os.unlink(self.path)
            raise self._mismatch(found)
        return file

    def _copy(self, source: t.IO[bytes]) -> t.IO[bytes]:
        """Copy an archive to where only root can change it."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        try:
            with source, os.fdopen(open_regular(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
        except TAR_ERRORS as exc:
            raise OllamaError("release_missing", f"{self.url} cannot be read: {exc}", url=self.url) from None
        return os.fdopen(open_regular(self.path), "rb", buffering=0)

    def _mismatch(self, found: str) -> OllamaError:
        return OllamaError(
            "checksum_mismatch",
            f"{self.url} has {found}, expected {self.checksum}: nothing was installed",
            url=self.url,
            expected=self.checksum,
            actual=found,
        )

    def _fetch(self) -> None:
        failures = 0
        for _attempt in range(_MAX_ATTEMPTS):
            before = self.received
            try:
                self._fetch_once()
                return
            except OllamaError as exc:
                if exc.code not in _RETRIED:
                    raise
                failures = 1 if self.received - before >= _CHUNK else failures + 1
                if failures >= self.wanted.retries:
                    raise OllamaError(
                        exc.code,
                        f"{exc.message}; given up after {failures} attempts, the next run continues",
                        **exc.details,
                    ) from exc
                sleep(min(30, 2 ** (failures - 1)))
        raise OllamaError("connection_lost", f"the connection to {self.url} broke {_MAX_ATTEMPTS} times", url=self.url)

    def _fetch_once(self) -> None:
        url = self.url
        have = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with open_stream(
            "GET", url, headers=headers, timeout=self.wanted.timeout, ca_path=self.wanted.ca_path
        ) as stream:
            if stream.status == 416 and have:
                # What lies here is not the beginning of what is there.
                os.unlink(self.path)
                raise OllamaError("connection_lost", f"{url} cannot be continued at byte {have}", url=url)
            _check_status(url, stream)
            if stream.status != 206 or not stream.headers.get("content-range", "").startswith(f"bytes {have}-"):
                have = 0
            length = stream.headers.get("content-length", "")
            expected = int(length) if length.isdigit() else None
            if expected is not None:
                _check_space(self.wanted.install_dir, self.reserve - have, have + expected)
            end = have
            handle = open_regular(self.path, os.O_WRONLY | os.O_CREAT | (0 if have else os.O_TRUNC), 0o644)
            with os.fdopen(handle, "wb") as file:
                file.seek(have)
                for chunk in iter(lambda: stream.read(_CHUNK), b""):
                    file.write(chunk)
                    end += len(chunk)
                    self.received += len(chunk)
        if expected is not None and end < have + expected:
            raise OllamaError("connection_lost", f"{url} ended {have + expected - end} bytes too early", url=url)


def _check_status(url: str, answer: Stream | Response) -> None:
    if answer.status in (200, 206):
        return
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise OllamaError("server_error", f"{url} answered {answer.status}", url=url, status=answer.status)
    code = "release_missing" if answer.status in (404, 410) else "download_refused"
    raise OllamaError(
        code, f"{url} answered {answer.status}: is the version or the base URL right?", url=url, status=answer.status
    )


def _check_space(path: str, reserve: int, size: int, factor: float = _SPACE_FACTOR) -> None:
    needed = int(size * factor) + reserve
    free = shutil.disk_usage(path).free
    if free < needed:
        raise _disk_full(
            path, f"{needed >> 20} MiB are needed for the archive and what is in it, {free >> 20} MiB are free"
        )


def _disk_full(path: str, why: str) -> OllamaError:
    return OllamaError("disk_full", f"not enough space in {path}: {why}", path=path)


@contextlib.contextmanager
def disk_errors(path: str) -> t.Iterator[None]:
    """Turn errors of the file system into ``disk_full`` or ``install_dir_unwritable``."""
    try:
        yield
    except (OSError, shutil.Error) as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path, str(exc.strerror)) from None
        where, why = printable(str(exc.filename or path)), exc.strerror or type(exc).__name__
        raise OllamaError("install_dir_unwritable", f"install_dir: cannot change {where}: {why}", path=path) from None


def _check_owner(path: str) -> None:
    """Refuse a directory in which somebody else can replace what root runs.

    :raises OllamaError: ``install_dir_unsafe``.
    """
    try:
        uid = owner_of(os.path.abspath(path), ("releases", "download")).uid
        why = "" if uid in (0, os.geteuid()) else f"user {uid} can change it"
    except OllamaError as exc:
        why = f"other users can write to {exc.details['path']}"
    if why:
        raise OllamaError(
            "install_dir_unsafe", f"install_dir: invalid value {path}: {why}; expected a directory of root's", path=path
        )


def _sha256(file: t.IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    for chunk in iter(lambda: file.read(_CHUNK), b""):
        digest.update(chunk)
    return "sha256:" + digest.hexdigest()


# Unpacking


def _install(state: State, wanted: Wanted) -> int:
    """Unpack beside, look whether it is whole, and only then give it its name; returns what was downloaded."""
    archives = t.cast("t.Mapping[str, str]", wanted.archives)
    there = state.releases.get(wanted.version, {})
    # A variant that is added to a release needs only its own archive.
    base = there if there and there.items() < dict(archives).items() else {}
    beside = os.path.join(wanted.install_dir, "releases", f".unpack-{wanted.version}")
    received = 0
    with contextlib.ExitStack() as stack:
        files: list[Archive] = []
        for asset in archives:
            if asset not in base:
                reserve = int(sum(os.fstat(file.fileno()).st_size for _name, file in files) * (_SPACE_FACTOR - 1))
                download = Download(wanted, asset, reserve)
                files.append((asset, stack.enter_context(download.run())))
                received += download.received
        try:
            if base:
                _clone(wanted.path, beside)
                os.unlink(os.path.join(beside, MARKER))
            else:
                os.makedirs(beside)
            unpack(files, beside)
            check_whole(beside, wanted.version)
            _mark(beside, wanted.version, archives)
        except (OllamaError, OSError) as exc:
            shutil.rmtree(beside, ignore_errors=True)
            if isinstance(exc, OllamaError) and exc.code != "no_zstd":
                _remove_downloads(wanted)
            raise
    aside = _set_aside(wanted.path) if os.path.lexists(wanted.path) else None
    os.rename(beside, wanted.path)
    _sync_dir(os.path.dirname(wanted.path))
    if aside:
        shutil.rmtree(aside)
    _remove_downloads(wanted)
    _label(wanted.path)
    return received


def _remove_downloads(wanted: Wanted) -> None:
    for checksum in (wanted.archives or {}).values():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part_of(wanted.install_dir, checksum))


def _mark(path: str, version: str, archives: t.Mapping[str, str]) -> None:
    """Say that what is in a directory is a whole release; written last."""
    marker = {"version": version, "archives": dict(archives)}
    write_synced(os.path.join(path, MARKER), [json.dumps(marker, indent=1).encode() + b"\n"], 0o644)
    _sync_dir(path)


def _label(path: str) -> None:
    """Give files the SELinux types that the host's policy has for programs and libraries at this place."""
    restorecon = shutil.which("restorecon", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if os.path.exists(SELINUX) and restorecon:
        code = subprocess.run([restorecon, "-RF", path], stdout=subprocess.DEVNULL, check=False).returncode
        if code:
            raise OllamaError("install_dir_unwritable", f"install_dir: restorecon of {path} exited with {code}")


def check_whole(root: str, version: str) -> None:
    """Refuse a release of which a part is missing or that is not the version it should be.

    :raises OllamaError: ``incomplete_release`` or ``wrong_version``.
    """
    number = parse_version(version)
    needed = ["bin/ollama"]
    if number >= (0, 30, 0):
        needed.append("lib/ollama/llama-server")
    if (0, 30, 0) <= number < (0, 34, 0):
        needed.append("lib/ollama/llama-quantize")
    for name in needed:
        path = os.path.join(root, name)
        if not os.path.isfile(path) or not os.stat(path).st_mode & stat.S_IXUSR:
            raise OllamaError("incomplete_release", f"the archive of {version} has no program {name}", missing=name)
    try:
        found = client_version(os.path.join(root, "bin", "ollama"))
    except OllamaError as exc:
        raise OllamaError("incomplete_release", f"bin/ollama of {version}: {exc.message}") from exc
    if found != version:
        raise OllamaError(
            "wrong_version", f"the archive of {version} has version {found} in it", expected=version, actual=found
        )


def client_version(program: str) -> str:
    """Return the version of a program, whatever server runs on this host.

    :raises OllamaError: ``incomplete_release`` when it does not run or does not say.
    """
    try:
        # Nothing listens on port 1, so the answer is the program's own version.
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "OLLAMA_HOST": "127.0.0.1:1", "LC_ALL": "C"}
        done = subprocess.run(
            [program, "--version"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise OllamaError("incomplete_release", f"it does not run: {exc}") from exc
    output = done.stdout.decode("utf-8", "replace")
    match = re.search(r"client version is (\S+)", output) or re.search(r"version is (\S+)", output)
    if not match:
        raise OllamaError("incomplete_release", f"--version said {output.strip()[:200]!r}")
    return match.group(1)


# The disk


@contextlib.contextmanager
def _readable_by_all() -> t.Iterator[None]:
    """The service runs as somebody else than root, whatever root's umask is."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _lock(install_dir: str) -> t.Iterator[None]:
    os.makedirs(os.path.join(install_dir, "releases"), exist_ok=True)
    with os.fdopen(open_regular(os.path.join(install_dir, ".lock"), os.O_RDWR | os.O_CREAT), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OllamaError("busy", f"another run is changing {install_dir}") from None
        yield


def _clean(wanted: Wanted) -> None:
    """Remove what killed runs left, except the beginnings of the archives that are wanted."""
    releases = os.path.join(wanted.install_dir, "releases")
    for name in _listdir(releases):
        if name.startswith((".unpack-", ".remove-")):
            shutil.rmtree(os.path.join(releases, name), ignore_errors=True)
    downloads = os.path.join(wanted.install_dir, "download")
    wanted_parts = [part_of(wanted.install_dir, checksum) for checksum in (wanted.archives or {}).values()]
    for name in _listdir(downloads):
        if os.path.join(downloads, name) not in wanted_parts:
            _remove(os.path.join(downloads, name))
    for path in (os.path.join(wanted.install_dir, ".current.new"), os.path.join(wanted.bin_dir, ".ollama.new")):
        if os.path.islink(path):
            os.unlink(path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _link(target: str, path: str) -> None:
    """Make a symbolic link or flip it, atomically; neither owner nor mode of its directory is touched."""
    directory, name = os.path.split(path)
    os.makedirs(directory, exist_ok=True)
    beside = os.path.join(directory, f".{name}.new")
    os.symlink(target, beside)
    try:
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise
    _sync_dir(directory)


def _set_aside(path: str) -> str:
    """Take a release's name away, so that half a release never looks like one; returns where it is now."""
    directory, name = os.path.split(path)
    aside = os.path.join(directory, f".remove-{name}")
    os.rename(path, aside)
    return aside


def _sync_dir(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listdir(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _readlink(path: str) -> str | None:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
