# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download the archives of a release: resumable, with a known checksum, and only if the disk has enough space.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t
from dataclasses import replace
from time import sleep
from urllib.parse import unquote, urlsplit

from .._core import fs
from .._core.errors import OllamaError
from .._core.http import Response, Stream, open_stream, request
from .._core.owner import open_regular
from .._core.progress import human
from .release import ReleaseRequest, parse_checksum, url_of
from .unpack import TAR_ERRORS, open_archive

# An unpacked release is about three times as large as its archive; both are on the disk during the installation.
SPACE_FACTOR = 4.2
_RETRIED = ("server_unreachable", "connection_stalled", "connection_lost", "server_error")
_MAX_ATTEMPTS = 100
# Bytes. Web pages are smaller, and all archives are larger.
_LONGEST_PAGE = 1 << 20


def fetch_checksums(
    base_url: str, version: str, ca_path: str | None = None, environment: t.Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the checksums that the release site publishes for the archives of a release, by archive name.

    :param environment: environment variables for the request, instead of those of this process.
    :raises OllamaError: ``checksum_insecure``, ``release_missing``, ``download_refused``, ``response_invalid``.
    """
    url = url_of(base_url, version, "sha256sum.txt")
    if not url.startswith("https://"):
        raise OllamaError(
            "checksum_insecure",
            f"invalid URL {url} for checksums; expected https://",
            url=url,
        )
    answer = request("GET", url, ca_path=ca_path, read_limit=1 << 16, tls_only=True, environment=environment)
    _check_answer(url, answer)
    found = {}
    for line in answer.text(1 << 16).splitlines():
        checksum, _space, name = line.partition(" ")
        found[name.strip().lstrip("*").replace("./", "", 1)] = parse_checksum(checksum, what=url)
    return found


def download_archives(release: ReleaseRequest, directory: str) -> int:
    """Download the archives of a release to a directory, and return the number of received bytes.

    :raises OllamaError: as `Download.run` does.
    """
    received = 0
    for asset in release.archives or {}:
        download = Download(replace(release, install_dir=directory), asset)
        target = os.path.join(directory, asset)
        with download.run() as file:
            if os.path.lexists(download.path):
                os.fchmod(file.fileno(), 0o600)
                os.replace(download.path, target)
            else:
                file.seek(0)
                # An existing link is replaced, not followed.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(target)
                with os.fdopen(open_regular(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as copy:
                    shutil.copyfileobj(file, copy, fs.CHUNK)
        received += download.received
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(os.path.dirname(partial_path(directory, "")))
    return received


def partial_path(install_dir: str, checksum: str) -> str:
    """Return the path of a partial download. A complete archive at that path is not downloaded again."""
    return os.path.join(install_dir, "download", checksum.replace(":", "-") + ".part")


class Download:
    """The download of one archive to a file that is named after its checksum, so that a later run can resume it.

    :param reserve: the bytes that earlier archives require when they are unpacked.
    """

    def __init__(self, release: ReleaseRequest, asset: str, reserve: int = 0) -> None:
        self.release = release
        self.checksum = t.cast("t.Mapping[str, str]", release.archives)[asset]
        self.asset = asset
        self.url = url_of(release.base_url, release.version, asset)
        self.path = partial_path(release.install_dir, self.checksum)
        self.reserve = reserve
        self.received = 0

    def run(self) -> t.IO[bytes]:
        """Return the open archive. The open file is complete and has the expected checksum.

        :raises OllamaError: ``checksum_mismatch``, ``release_missing``, ``disk_full`` and the errors of `open_stream`.
        """
        if self.url.startswith("file:"):
            return self._local(unquote(urlsplit(self.url).path))
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        resumed = os.path.lexists(self.path)
        if not resumed:
            self._fetch()
        file, found = self._hashed()
        if resumed and found != self.checksum:
            # The partial file is a part of this archive or of another file.
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
        self._report("comparing its checksum", os.fstat(file.fileno()).st_size)
        return file, fs.sha256(file)

    def _report(self, status: str, done: int, size: int = 0) -> None:
        self.release.progress.update(
            self.asset, max(size, done), {"digest": self.asset, "completed": done, "status": status}
        )

    def _local(self, path: str) -> t.IO[bytes]:
        """Return an archive that is a file on this host. It is copied first if other users can change it."""
        try:
            file, safe = open_archive(path)
        except OSError as exc:
            raise OllamaError(
                "release_missing", f"{self.url}: cannot read this file of the host: {exc.strerror}", url=self.url
            ) from None
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        _check_space(self.release.install_dir, self.reserve, size, SPACE_FACTOR - safe)
        if not safe:
            file = self._copy(file)
        found = fs.sha256(file)
        if found != self.checksum:
            file.close()
            if not safe:
                os.unlink(self.path)
            raise self._mismatch(found)
        return file

    def _copy(self, source: t.IO[bytes]) -> t.IO[bytes]:
        """Copy an archive to a directory that only root can change."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        try:
            with source, os.fdopen(open_regular(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as target:
                shutil.copyfileobj(source, target, fs.CHUNK)
        except TAR_ERRORS as exc:
            raise OllamaError("release_missing", f"{self.url} cannot be read: {exc}", url=self.url) from None
        return os.fdopen(open_regular(self.path), "rb", buffering=0)

    def _mismatch(self, found: str) -> OllamaError:
        return OllamaError(
            "checksum_mismatch",
            f"{self.url}: checksum {found}; expected {self.checksum}: nothing was installed",
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
                    raise OllamaError(exc.code, exc.message + _options(exc), **exc.details) from exc
                failures = 1 if self.received - before >= fs.CHUNK else failures + 1
                if failures >= self.release.retries:
                    raise OllamaError(
                        exc.code,
                        f"{exc.message}; stopped after {failures} attempts; the next run resumes the download"
                        f"{_options(exc)}",
                        **exc.details,
                    ) from exc
                self.release.progress.note(f"{exc.message}; trying again")
                sleep(min(30, 2 ** (failures - 1)))
        raise OllamaError("connection_lost", f"{self.url}: the connection was lost {_MAX_ATTEMPTS} times", url=self.url)

    def _fetch_once(self) -> None:
        url = self.url
        have = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with open_stream(
            "GET",
            url,
            headers=headers,
            timeout=self.release.timeout,
            ca_path=self.release.ca_path,
            environment=self.release.environment,
        ) as stream:
            if stream.status == 416 and have:
                # The partial file is not a part of this archive.
                os.unlink(self.path)
                raise OllamaError("connection_lost", f"{url}: the server cannot resume at byte {have}", url=url)
            _check_answer(url, stream)
            if stream.status != 206 or not stream.headers.get("content-range", "").startswith(f"bytes {have}-"):
                have = 0
            length = stream.headers.get("content-length", "")
            expected = int(length) if length.isdigit() else None
            if expected is not None:
                _check_space(self.release.install_dir, self.reserve - have, have + expected)
            end = have
            self.release.progress.note("")
            handle = open_regular(self.path, os.O_WRONLY | os.O_CREAT | (0 if have else os.O_TRUNC), 0o644)
            with os.fdopen(handle, "wb") as file:
                file.seek(have)
                for chunk in iter(lambda: stream.read(fs.CHUNK), b""):
                    file.write(chunk)
                    end += len(chunk)
                    self.received += len(chunk)
                    self._report("downloading", end, have + (expected or 0))
        if expected is not None and end < have + expected:
            raise OllamaError(
                "connection_lost", f"{url}: {have + expected - end} bytes are missing at the end", url=url
            )


def _options(exc: OllamaError) -> str:
    """Return a hint on the variables for hosts that cannot reach a release site; empty for other errors."""
    if exc.code not in ("server_unreachable", "connection_stalled", "url_invalid", "response_invalid"):
        return ""
    return (
        ". Options: a mirror of the site in ollama_release_base_url, a proxy in ollama_release_proxy, archives of the "
        "controller in ollama_release_archives, or a bundle and playbook kaido.ollama.import"
    )


def _check_answer(url: str, answer: Stream | Response) -> None:
    if answer.status in (200, 206):
        length = answer.headers.get("content-length", "0")
        html = answer.headers.get("content-type", "").startswith("text/html")
        # Some sites also send this content type for archives.
        if html and length.isdigit() and int(length) < _LONGEST_PAGE:
            raise OllamaError(
                "response_invalid", f"{url}: the answer is a web page, as in a network that requires a login", url=url
            )
        return
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise OllamaError("server_error", f"{url}: HTTP status {answer.status}", url=url, status=answer.status)
    code = "release_missing" if answer.status in (404, 410) else "download_refused"
    raise OllamaError(
        code, f"{url}: HTTP status {answer.status}; check the version and the base URL", url=url, status=answer.status
    )


def _check_space(path: str, reserve: int, size: int, factor: float = SPACE_FACTOR) -> None:
    needed = int(size * factor) + reserve
    free = shutil.disk_usage(path).free
    if free < needed:
        raise disk_full(path, f"{human(needed)} are required for the archive and its content, {human(free)} are free")


def disk_full(path: str, why: str) -> OllamaError:
    """Return the error of a directory without enough disk space."""
    return OllamaError("disk_full", f"{path}: not enough disk space: {why}", path=path)
