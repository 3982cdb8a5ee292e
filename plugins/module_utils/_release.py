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
import tarfile
import typing as t
from dataclasses import dataclass
from time import sleep
from urllib.parse import urlsplit

from ._errors import OllamaError
from ._http import Stream, open_stream

BASE_URL = "https://github.com/ollama/ollama/releases/download"
MARKER = ".kaido-release.json"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

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


def asset(machine: str) -> str:
    """Return the name of the archive for a machine as uname calls it.

    :raises OllamaError: ``unsupported_architecture``.
    """
    if machine not in ARCHITECTURES:
        raise OllamaError(
            "unsupported_architecture",
            f"this host's architecture is {machine!r}; Ollama has releases for {', '.join(sorted(ARCHITECTURES))}",
            architecture=machine,
        )
    return f"ollama-linux-{ARCHITECTURES[machine]}.tar.zst"


def url_of(base_url: str, version: str, name: str) -> str:
    """Return where an asset of a release is, in upstream's layout."""
    return f"{base_url.rstrip('/')}/v{version}/{name}"


@dataclass(frozen=True)
class Wanted:
    """Which release is to be there, where it comes from, and how hard to try."""

    version: str
    checksum: str
    url: str
    install_dir: str = "/opt/ollama"
    bin_dir: str = "/usr/local/bin"
    keep: int = 2
    activate: bool = True
    timeout: float = 60.0
    retries: int = 5
    ca_path: str | None = None

    @property
    def asset(self) -> str:
        return os.path.basename(urlsplit(self.url).path)

    @property
    def path(self) -> str:
        return os.path.join(self.install_dir, "releases", self.version)


@dataclass(frozen=True)
class State:
    """The releases that are on a host."""

    current: str | None
    releases: dict[str, dict[str, str]]
    """Version -> asset -> checksum of the archive that it was unpacked from; newest installation first."""
    link: str | None
    """Where <bin_dir>/ollama points; "" when it is not a link; None when it is missing."""

    def has(self, version: str, checksum: str) -> bool:
        return checksum in self.releases.get(version, {}).values()


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
        except (OSError, ValueError, KeyError, TypeError):
            continue
    found.sort(reverse=True)
    current = _readlink(os.path.join(install_dir, "current"))
    name = os.path.basename(current) if current else None
    return State(
        current=name if name and os.path.isdir(os.path.join(releases, name)) else None,
        releases={version: archives for _mtime, version, archives in found},
        link=_readlink(os.path.join(bin_dir, "ollama")),
    )


def binary(install_dir: str) -> str:
    """Return the path by which the release in use is run."""
    return os.path.join(install_dir, "current", "bin", "ollama")


def check_foreign(state: State, install_dir: str, bin_dir: str) -> None:
    """Refuse to replace somebody else's program.

    :raises OllamaError: ``foreign_install``.
    """
    if state.link is None or state.link == binary(install_dir):
        return
    path = os.path.join(bin_dir, "ollama")
    raise OllamaError(
        "foreign_install",
        f"{path} {'points to ' + state.link if state.link else 'is a file'} that this collection did not install; "
        "remove that installation first (its models stay usable)",
        path=path,
    )


def plan(state: State, wanted: Wanted) -> dict[str, str]:
    """Return which of install, activate, link and prune are needed, in order, each with a sentence for people."""
    steps = {}
    if not state.has(wanted.version, wanted.checksum):
        steps["install"] = f"install {wanted.version} from {wanted.url}"
    if wanted.activate and state.current != wanted.version:
        steps["activate"] = f"switch from {state.current or 'nothing'} to {wanted.version}"
    if wanted.activate and state.link is None:
        steps["link"] = f"link {os.path.join(wanted.bin_dir, 'ollama')}"
    if surplus(state, wanted):
        steps["prune"] = "remove " + ", ".join(surplus(state, wanted))
    return steps


def surplus(state: State, wanted: Wanted) -> list[str]:
    """Return the versions to remove: never the wanted one, and of the others the one in use until now last."""
    protected = {wanted.version} if wanted.activate or state.current is None else {wanted.version, state.current}
    others = sorted(
        (version for version in state.releases if version not in protected), key=lambda v: v != state.current
    )
    return others[max(0, wanted.keep - len(protected)) :]


def apply(state: State, wanted: Wanted) -> int:
    """Carry out the plan and return the number of bytes downloaded. A failure leaves the release in use as it was."""
    steps = plan(state, wanted)
    received = 0
    with _readable_by_all(), _lock(wanted.install_dir):
        _clean(wanted)
        if "install" in steps:
            download = Download(wanted)
            _install(wanted, download.run())
            received = download.received
        if "activate" in steps:
            _link(os.path.join("releases", wanted.version), os.path.join(wanted.install_dir, "current"))
        if "link" in steps:
            _link(binary(wanted.install_dir), os.path.join(wanted.bin_dir, "ollama"))
        for version in surplus(state, wanted):
            shutil.rmtree(_set_aside(os.path.join(wanted.install_dir, "releases", version)))
    return received


# Downloading


class Download:
    """An archive on its way, in a file that is named after the wanted checksum: a later run finds and continues it."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.path = os.path.join(wanted.install_dir, "download", wanted.checksum.replace(":", "-") + ".part")
        self.received = 0

    def run(self) -> str:
        """Return the path of the archive, complete and with the wanted checksum.

        :raises OllamaError: ``checksum_mismatch``, ``release_missing``, ``disk_full`` and what `open_stream` raises.
        """
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        resumed = os.path.exists(self.path)
        if resumed and _sha256(self.path) == self.wanted.checksum:
            return self.path
        self._fetch()
        if resumed and _sha256(self.path) != self.wanted.checksum:
            # What lay there was the beginning of something else.
            os.unlink(self.path)
            self._fetch()
        found = _sha256(self.path)
        if found != self.wanted.checksum:
            os.unlink(self.path)
            raise OllamaError(
                "checksum_mismatch",
                f"{self.wanted.url} has {found}, wanted is {self.wanted.checksum}: nothing was installed",
                url=self.wanted.url,
                expected=self.wanted.checksum,
                actual=found,
            )
        return self.path

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
        raise OllamaError(
            "connection_lost", f"the connection to {self.wanted.url} broke {_MAX_ATTEMPTS} times", url=self.wanted.url
        )

    def _fetch_once(self) -> None:
        url = self.wanted.url
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
                _check_space(self.wanted.install_dir, have, expected)
            end = have
            with open(self.path, "r+b" if have else "wb") as file, _disk_errors(self.wanted.install_dir):
                file.seek(have)
                for chunk in iter(lambda: stream.read(_CHUNK), b""):
                    file.write(chunk)
                    end += len(chunk)
                    self.received += len(chunk)
        if expected is not None and end < have + expected:
            raise OllamaError("connection_lost", f"{url} ended {have + expected - end} bytes too early", url=url)


def _check_status(url: str, stream: Stream) -> None:
    if stream.status in (200, 206):
        return
    if stream.status in (408, 425, 429) or stream.status >= 500:
        raise OllamaError("server_error", f"{url} answered {stream.status}", url=url, status=stream.status)
    code = "release_missing" if stream.status in (404, 410) else "download_refused"
    raise OllamaError(
        code, f"{url} answered {stream.status}: is the version or the base URL right?", url=url, status=stream.status
    )


def _check_space(path: str, have: int, expected: int) -> None:
    needed = int((have + expected) * _SPACE_FACTOR) - have
    free = shutil.disk_usage(path).free
    if free < needed:
        raise _disk_full(
            path, f"{needed >> 20} MiB are needed for the archive and what is in it, {free >> 20} MiB are free"
        )


def _disk_full(path: str, why: str) -> OllamaError:
    return OllamaError("disk_full", f"not enough space in {path}: {why}", path=path)


@contextlib.contextmanager
def _disk_errors(path: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path, str(exc.strerror)) from exc
        raise


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()


# Unpacking


def _install(wanted: Wanted, archive: str) -> None:
    """Unpack beside, look whether it is whole, and only then give it its name."""
    beside = os.path.join(wanted.install_dir, "releases", f".unpack-{wanted.version}")
    os.makedirs(beside)
    try:
        with _disk_errors(wanted.install_dir):
            unpack(archive, beside)
            check_whole(beside, wanted.version)
            marker = {"version": wanted.version, "archives": {wanted.asset: wanted.checksum}}
            _write_synced(os.path.join(beside, MARKER), [json.dumps(marker, indent=1).encode() + b"\n"], 0o644)
            _sync_dir(beside)
    except OllamaError as exc:
        shutil.rmtree(beside, ignore_errors=True)
        if exc.code not in ("disk_full", "no_zstd"):
            os.unlink(archive)
        raise
    aside = _set_aside(wanted.path) if os.path.lexists(wanted.path) else None
    os.rename(beside, wanted.path)
    _sync_dir(os.path.dirname(wanted.path))
    if aside:
        shutil.rmtree(aside)
    os.unlink(archive)


def unpack(archive: str, root: str) -> None:
    """Unpack a .tar.zst as root-owned files, refusing whatever would reach outside of the directory.

    :raises OllamaError: ``bad_archive`` or ``no_zstd``.
    """
    zstd = shutil.which("zstd")
    if not zstd:
        raise OllamaError("no_zstd", "the program zstd is needed to unpack a release and is not installed")
    with subprocess.Popen([zstd, "-dcq", archive], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        stdout = t.cast("t.IO[bytes]", process.stdout)
        try:
            with tarfile.open(fileobj=stdout, mode="r|", bufsize=_CHUNK) as tar:
                _Unpacker(root).run(tar)
            while stdout.read(_CHUNK):
                pass
        except (tarfile.TarError, EOFError) as exc:
            raise OllamaError("bad_archive", f"{os.path.basename(archive)} cannot be unpacked: {exc}") from exc
        finally:
            stdout.close()
    if process.returncode:
        raise OllamaError(
            "bad_archive", f"{os.path.basename(archive)} cannot be unpacked: zstd exited with {process.returncode}"
        )


class _Unpacker:
    def __init__(self, root: str) -> None:
        self.root = root
        self.links: set[str] = set()
        self.files: set[str] = set()

    def run(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            name = self._inside(member.name)
            path = os.path.join(self.root, name)
            if member.isdir():
                os.makedirs(path, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.lexists(path):
                raise _bad(f"{member.name} is in it twice")
            if member.issym():
                os.symlink(member.linkname, path)
                self.links.add(name)
            elif member.islnk() and self._inside(member.linkname) in self.files:
                os.link(os.path.join(self.root, self._inside(member.linkname)), path)
            elif member.isreg():
                source = t.cast("t.IO[bytes]", tar.extractfile(member))
                mode = 0o755 if member.mode & 0o111 else 0o644
                _write_synced(path, iter(lambda: source.read(_CHUNK), b""), mode)  # noqa: B023
                self.files.add(name)
            else:
                raise _bad(f"{member.name} is neither a file, a directory nor a link into the archive")
        self._check_links()

    def _inside(self, name: str) -> str:
        """Return the normal form of a member's path that stays inside and passes through no link."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise _bad(f"{name} leads out of it")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in self.links:
                raise _bad(f"{name} passes through a link")
        return "/".join(parts)

    def _check_links(self) -> None:
        root = os.path.realpath(self.root)
        for name in self.links:
            target = os.path.realpath(os.path.join(root, name))
            if target != root and not target.startswith(root + os.sep):
                raise _bad(f"the link {name} leads out of it")


def _bad(why: str) -> OllamaError:
    return OllamaError("bad_archive", f"the archive is refused: {why}")


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
    program = os.path.join(root, "bin", "ollama")
    try:
        # Nothing listens on port 1, so the answer is the program's own version, not that of a server that runs here.
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
        raise OllamaError("incomplete_release", f"bin/ollama of {version} does not run: {exc}") from exc
    output = done.stdout.decode("utf-8", "replace")
    match = re.search(r"client version is (\S+)", output) or re.search(r"version is (\S+)", output)
    if not match:
        raise OllamaError("incomplete_release", f"bin/ollama --version of {version} said {output.strip()[:200]!r}")
    if match.group(1) != version:
        raise OllamaError(
            "wrong_version",
            f"the archive of {version} has version {match.group(1)} in it",
            expected=version,
            actual=match.group(1),
        )


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
    with open(os.path.join(install_dir, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OllamaError("busy", f"another run is changing {install_dir}") from None
        yield


def _clean(wanted: Wanted) -> None:
    """Remove what killed runs left, except the beginning of the archive that is wanted."""
    releases = os.path.join(wanted.install_dir, "releases")
    for name in _listdir(releases):
        if name.startswith((".unpack-", ".remove-")):
            shutil.rmtree(os.path.join(releases, name), ignore_errors=True)
    downloads = os.path.join(wanted.install_dir, "download")
    for name in _listdir(downloads):
        if name != wanted.checksum.replace(":", "-") + ".part":
            os.unlink(os.path.join(downloads, name))
    for path in (os.path.join(wanted.install_dir, ".current.new"), os.path.join(wanted.bin_dir, ".ollama.new")):
        if os.path.islink(path):
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


def _write_synced(path: str, chunks: t.Iterable[bytes], mode: int) -> None:
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


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
