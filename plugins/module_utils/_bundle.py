# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models as files to carry: a directory or tar with blobs, manifests, release archives and their sums.

``SHA256SUMS`` lists every file, in the format of sha256sum. Nothing in a bundle is trusted before all of it was read
and compared; nothing is written to a store before that. A tag that is a list of variants is carried as that list, with
those variants that are whole where it comes from; their manifests lie among the blobs, as in a store of 0.40.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import threading
import typing as t
from dataclasses import dataclass, replace

from ._errors import OllamaError
from ._name import DEFAULT_HOST, Name, parse
from ._progress import human
from ._registry import Offer
from ._store import MANIFEST, Blob, Entry, Manifest, Memory, Store, Variant, audit, fingerprint, parse_manifest

SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)\Z")
_BLOB = re.compile(r"blobs/sha256-([0-9a-f]{64})\Z")
_RELEASE = re.compile(r"releases/v[0-9][0-9A-Za-z.-]*/[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_STAGE = ".kaido-import"
_READ = 1 << 20
Watch = t.Callable[[str, int], None]
"""Is told how many bytes of a blob have been copied, by its digest."""


def member_of(name: Name) -> str:
    """Return where a model's manifest lies in a bundle."""
    return f"manifests/{name.host}/{name.namespace}/{name.model}/{name.tag}"


def name_of(member: str) -> Name | None:
    """Return the model whose manifest a member is, or None where it is something else."""
    parts = member.split("/")
    if parts[0] != "manifests" or len(parts) != 5:
        return None
    try:
        name = parse(f"{'/'.join(parts[1:4])}:{parts[4]}", allow_cloud=True)
    except OllamaError:
        return None
    return name if member_of(name) == member else None


class Bundle:
    """A bundle that exists: its files by name. Use it as a context manager.

    :raises OllamaError: ``bundle_unreadable``; ``bundle_tampered`` for anything that is neither file nor directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        self._tar: tarfile.TarFile | None = None
        try:
            if os.path.isdir(path):
                self._list_directory()
            else:
                self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed on exit
                for member in self._tar:
                    if not member.isdir():
                        self._add(member.name, member.size, member.isreg())
        except (OSError, tarfile.TarError) as exc:
            self.__exit__()
            raise OllamaError("bundle_unreadable", f"cannot read {path} as a bundle: {exc}") from None

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._tar:
            self._tar.close()

    def _list_directory(self) -> None:
        for folder, folders, files in os.walk(self.path):
            for item in [*files, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
                info = os.lstat(os.path.join(folder, item))
                name = os.path.relpath(os.path.join(folder, item), self.path).replace(os.sep, "/")
                self._add(name, info.st_size, stat.S_ISREG(info.st_mode))

    def _add(self, name: str, size: int, regular: bool) -> None:
        if not regular or name in self.sizes:
            what = "is there twice" if name in self.sizes else "is not a file"
            raise OllamaError("bundle_tampered", f"{self.path}: {name} {what}; nothing was written")
        self.sizes[name] = size

    def open(self, name: str) -> t.IO[bytes]:
        """Open one file of the bundle for reading."""
        if not self._tar:
            return open(os.path.join(self.path, name), "rb")
        return t.cast("t.IO[bytes]", self._tar.extractfile(name))

    def read(self, name: str) -> bytes:
        """Return a small file of the bundle."""
        if self.sizes[name] > 4 << 20:
            raise OllamaError("bundle_tampered", f"{self.path}: {name} is larger than 4 MiB")
        with self.open(name) as file:
            return file.read()


@dataclass(frozen=True)
class Carried(Offer):
    """What a bundle has under a tag, for servers of one kind.

    :ivar parts: the blobs that a store needs for it, manifests of variants included.
    """

    parts: tuple[Blob, ...] = ()

    def satisfies(self, pin: str) -> bool:
        """Return whether a store that has this has what a pin asks for."""
        return super().satisfies(pin) or pin in self.variants

    @property
    def blobs(self) -> dict[str, int]:
        """Digest and size of every blob."""
        return {blob.digest: blob.size for blob in self.parts}


@dataclass
class Contents:
    """What a bundle holds, after it was found whole and right.

    :ivar checksum: of SHA256SUMS, and so of everything.
    :ivar lists: whether the models are for a server that reads lists of variants.
    """

    checksum: str
    lists: bool
    models: dict[Name, Carried]
    releases: list[str]


def check(bundle: Bundle, checksum: str | None = None, *, lists: bool = True, hash_all: bool = True) -> Contents:
    """Return what a bundle holds.

    :param checksum: what its SHA256SUMS must hash to, or None to take the bundle's own word.
    :param lists: whether the models are for a server that reads lists of variants.
    :param hash_all: False leaves the contents of blobs and archives unread.
    :raises OllamaError: ``bundle_incomplete``, ``bundle_tampered``.
    """
    if SUMS not in bundle.sizes:
        raise _refuse(bundle, "bundle_incomplete", f"there is no {SUMS} in it")
    text = bundle.read(SUMS)
    found = "sha256:" + hashlib.sha256(text).hexdigest()
    if checksum and found != checksum:
        raise _refuse(bundle, "bundle_tampered", f"its {SUMS} has {found}, wanted is {checksum}")
    sums = _parse_sums(bundle, text)
    contents = Contents(found, lists, {}, sorted(member for member in sums if _RELEASE.match(member)))
    for member in sorted(sums):
        name = name_of(member)
        if name:
            contents.models[name] = _carried(bundle, member, name, sums, lists)
    for member in sorted(sums) if hash_all else ():
        with bundle.open(member) as file:
            if _pour(file, None) != sums[member]:
                raise _refuse(bundle, "bundle_tampered", f"{member} has another content than its sum says")
    return contents


def _refuse(bundle: Bundle, code: str, why: str) -> OllamaError:
    return OllamaError(code, f"{bundle.path}: {why}; nothing was written")


def _parse_sums(bundle: Bundle, text: bytes) -> dict[str, str]:
    """Return the sums by file, after they were found to fit the files that there are."""
    lines = [_SUM.match(line) for line in text.decode("utf-8", "replace").splitlines()]
    if not lines or not all(lines):
        raise _refuse(bundle, "bundle_tampered", f"its {SUMS} is not a list of sums")
    sums = {line.group(2): line.group(1) for line in lines if line}
    missing = sorted(sums.keys() - bundle.sizes.keys())
    if missing:
        raise _refuse(bundle, "bundle_incomplete", f"{missing[0]} is missing" + _and_more(missing))
    strange = sorted(bundle.sizes.keys() - sums.keys() - {SUMS})
    strange += [member for member in sums if not (_BLOB.match(member) or _RELEASE.match(member) or name_of(member))]
    if strange:
        raise _refuse(bundle, "bundle_tampered", f"{strange[0]} does not belong into it" + _and_more(strange))
    for member in sums:
        blob = _BLOB.match(member)
        if blob and blob.group(1) != sums[member]:
            raise _refuse(bundle, "bundle_tampered", f"the sum of {member} is another than its name says")
    return sums


def _carried(bundle: Bundle, member: str, name: Name, sums: t.Mapping[str, str], lists: bool) -> Carried:
    """Return what a bundle has under one tag, after all of that was found to be there."""
    digest = f"sha256:{sums[member]}"
    parsed = _manifest(bundle, member, sums[member])
    if isinstance(parsed, Manifest):
        _have_blobs(bundle, name, parsed.blobs)
        return Carried(digest=digest, chosen=parsed, parts=parsed.blobs)
    whole: list[tuple[Variant, Manifest]] = []
    manifests: list[Blob] = []
    for variant in parsed:
        path = f"blobs/{variant.digest.replace(':', '-')}"
        if path in sums:
            manifest = _manifest(bundle, path, variant.digest[7:])
            if not isinstance(manifest, Manifest):
                raise _refuse(bundle, "bundle_tampered", f"{member} is a list with a list in it")
            _have_blobs(bundle, name, manifest.blobs)
            whole.append((variant, manifest))
            manifests.append(Blob(variant.digest, bundle.sizes[path], MANIFEST))
    if not whole:
        raise _refuse(bundle, "bundle_incomplete", f"of {member}, a list of variants, none is there")
    if lists:
        parts = [*manifests, *(blob for _variant, manifest in whole for blob in manifest.blobs)]
        known = tuple(manifest.digest for _variant, manifest in whole)
        unique = {blob.digest: blob for blob in parts}
        return Carried(digest=digest, chosen=whole[0][1], variants=known, parts=tuple(unique.values()))
    # Older servers run what newer ones convert from.
    chosen = next((manifest for variant, manifest in whole if variant.runner == "ggml"), whole[0][1])
    return Carried(digest=digest, chosen=chosen, parts=chosen.blobs)


def _have_blobs(bundle: Bundle, name: Name, blobs: t.Iterable[Blob]) -> None:
    for blob in blobs:
        size = bundle.sizes.get(f"blobs/{blob.file_name}")
        if size != blob.size:
            what = "is missing" if size is None else f"has {size} of {blob.size} bytes"
            raise _refuse(bundle, "bundle_incomplete", f"blobs/{blob.file_name} of {name} {what}")


def _manifest(bundle: Bundle, member: str, digest: str) -> Manifest | tuple[Variant, ...]:
    body = bundle.read(member)
    if hashlib.sha256(body).hexdigest() != digest:
        raise _refuse(bundle, "bundle_tampered", f"{member} has another content than its sum says")
    return parse_manifest(body)


def _and_more(items: t.Sequence[str]) -> str:
    return f", and {len(items) - 1} more" if len(items) > 1 else ""


def _pour(source: t.IO[bytes], target: t.IO[bytes] | None, tell: t.Callable[[int], None] = lambda count: None) -> str:
    """Read a file to its end, copy it where a target is given, and return the sha256 of what was read."""
    hasher = hashlib.sha256()
    count = 0
    while True:
        data = source.read(_READ)
        if not data:
            return hasher.hexdigest()
        hasher.update(data)
        if target:
            target.write(data)
        count += len(data)
        tell(count)


# --- writing a bundle


@dataclass
class Export:
    """What shall go into a bundle: the tags' manifests as bytes, everything else as files with the sums they must have.

    :ivar models: the digests by name, as ``/api/tags`` has them.
    """

    models: dict[Name, str]
    manifests: dict[str, bytes]
    files: dict[str, tuple[str, str]]

    @property
    def sums(self) -> bytes:
        """The text of SHA256SUMS."""
        rows = {member: digest for member, (_path, digest) in self.files.items()}
        rows.update((member, hashlib.sha256(body).hexdigest()) for member, body in self.manifests.items())
        return "".join(f"{rows[member]}  {member}\n" for member in sorted(rows)).encode()

    @property
    def checksum(self) -> str:
        """The sha256 of SHA256SUMS."""
        return "sha256:" + hashlib.sha256(self.sums).hexdigest()


def collect(store: Store, names: t.Sequence[Name], releases: t.Mapping[str, tuple[str, str]]) -> Export:
    """Return what a bundle of some models has to hold; of a list of variants those that are whole here.

    :param names: empty means all.
    :param releases: by member name: the file and its sha256.
    :raises OllamaError: ``not_found``, ``damaged``.
    """
    export = Export({}, {}, dict(releases))
    entries = [_entry(store, name) for name in names] if names else store.entries()
    for entry in entries:
        if entry.problem:
            raise OllamaError("damaged", f"{entry.name}: {entry.problem}; repair it first", name=str(entry.name))
        with open(entry.path, "rb") as file:
            body = file.read()
        export.models[entry.name] = entry.digest
        export.manifests[member_of(entry.name)] = body
        parsed = parse_manifest(body)
        for blob in parsed.blobs if isinstance(parsed, Manifest) else _variants(store, entry, parsed):
            damage = store.stat_damage(blob)
            if damage:
                raise OllamaError("damaged", f"{entry.name}: {damage}; repair it first", name=str(entry.name))
            export.files[f"blobs/{blob.file_name}"] = (store.blob_path(blob.digest), blob.digest[7:])
    return export


def _entry(store: Store, name: Name) -> Entry:
    entry = store.find(name)
    if not entry:
        raise OllamaError("not_found", f"models: {name} is not in {store.root}", name=str(name))
    return entry


def _variants(store: Store, entry: Entry, variants: t.Iterable[Variant]) -> t.Iterator[Blob]:
    """Yield the blobs of the variant that this host runs, and of every other one that is whole here.

    There are others where a server of 0.40 has converted a model: its pin is the original's digest.
    """
    for variant in variants:
        if variant.digest in entry.digests:
            path = store.blob_path(variant.digest)
            with open(path, "rb") as file:
                manifest = parse_manifest(file.read())
            blobs = manifest.blobs if isinstance(manifest, Manifest) else ()
            if variant.digest == entry.digest or not any(map(store.stat_damage, blobs)):
                yield Blob(variant.digest, os.path.getsize(path), MANIFEST)
                yield from blobs


def is_written(export: Export, dest: str) -> bool:
    """Return whether a bundle with exactly that is there already; contents of blobs are not read."""
    if not os.path.lexists(dest):
        return False
    try:
        with Bundle(dest) as bundle:
            return check(bundle, export.checksum, hash_all=False).checksum == export.checksum
    except OllamaError:
        return False


def write(export: Export, dest: str, *, tar: bool) -> None:
    """Write a bundle; it gets its name when it is whole, and then takes the place of an older bundle.

    :raises OllamaError: ``damaged`` where a file is not what its sum says, ``dest_taken``, ``disk_full``.
    """
    _check_dest(export, dest, tar)
    new = f"{dest}.part"
    _remove(new)
    try:
        with _TarWriter(new) if tar else _DirectoryWriter(new) as target:
            target.add(SUMS, io.BytesIO(export.sums), len(export.sums))
            for member, body in sorted(export.manifests.items()):
                target.add(member, io.BytesIO(body), len(body))
            for member, (path, digest) in sorted(export.files.items()):
                with open(path, "rb") as file:
                    found = target.add(member, file, os.fstat(file.fileno()).st_size)
                if found != digest:
                    raise OllamaError("damaged", f"{path} has wrong content; nothing was exported")
        _remove(dest)
        os.rename(new, dest)
    except OSError as exc:
        raise OllamaError("dest_unwritable", f"dest: cannot write {dest}: {exc.strerror}") from None
    finally:
        _remove(new)


def _check_dest(export: Export, dest: str, tar: bool) -> None:
    folder = os.path.dirname(os.path.abspath(dest))
    if not os.path.isdir(folder):
        raise OllamaError("dest_unwritable", f"dest: there is no directory {folder}")
    if os.path.isdir(dest) and os.listdir(dest) and not os.path.exists(os.path.join(dest, SUMS)):
        raise OllamaError("dest_taken", f"dest: {dest} holds something else than a bundle; allowed is a new path")
    if os.path.isfile(dest) and not (tar and tarfile.is_tarfile(dest)):
        raise OllamaError("dest_taken", f"dest: {dest} is a file that is no bundle; allowed is a new path")
    size = sum(os.path.getsize(path) for path, _digest in export.files.values())
    info = os.statvfs(folder)
    if size > info.f_bavail * info.f_frsize:
        free = human(info.f_bavail * info.f_frsize)
        raise OllamaError("disk_full", f"the bundle needs {human(size)}, but {free} are free where {dest} shall be")


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


class _DirectoryWriter:
    def __init__(self, path: str) -> None:
        self.path = path
        os.mkdir(path, 0o755)

    def __enter__(self) -> _DirectoryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def add(self, member: str, source: t.IO[bytes], size: int) -> str:
        """Write one file; returns the sha256 of what was written."""
        path = os.path.join(self.path, member)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            return _pour(source, target)


class _TarWriter:
    def __init__(self, path: str) -> None:
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed on exit

    def __enter__(self) -> _TarWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.tar.close()

    def add(self, member: str, source: t.IO[bytes], size: int) -> str:
        """Write one file; returns the sha256 of what was written. Nothing but names and contents is kept."""
        info = tarfile.TarInfo(member)
        info.size, info.mode = size, 0o644
        reader = _Hashing(source)
        self.tar.addfile(info, t.cast("t.IO[bytes]", reader))
        return reader.hasher.hexdigest()


class _Hashing:
    """A file that hashes what is read from it."""

    def __init__(self, source: t.IO[bytes]) -> None:
        self.source = source
        self.hasher = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self.source.read(size)
        self.hasher.update(data)
        return data


# --- bringing a bundle into a store


@dataclass
class Lack:
    """What a store lacks of a bundle: blobs, and models whose tag is another or not there.

    :ivar before: the models' digests, empty where they are not there.
    """

    blobs: dict[str, int]
    models: list[Name]
    before: dict[Name, str]


def compare(contents: Contents, store: Store, memory: Memory) -> Lack:
    """Return what has to be brought; blobs of the store that have changed since they were found right are hashed.

    A tag that the server has made another list of is still the bundle's, as long as that variant is in it.
    """
    parts = {blob.digest: blob for carried in contents.models.values() for blob in carried.parts}
    damage = audit(store, parts.values(), memory).damage
    lack = Lack({digest: parts[digest].size for digest in damage}, [], {})
    for name, carried in contents.models.items():
        entry = store.find(name)
        sound = entry if entry and not entry.problem else None
        lack.before[name] = sound.digest if sound else ""
        if not sound or (carried.chosen.digest != sound.digest and carried.digest not in memory.known_as(sound)):
            lack.models.append(name)
    return lack


def bring(
    bundle: Bundle,
    contents: Contents,
    lack: Lack,
    store: Store,
    memory: Memory,
    watch: Watch = lambda digest, count: None,
) -> None:
    """Copy what a store lacks: blobs first, manifests last, each by one rename, with the owner of the store.

    :raises OllamaError: ``disk_full``, ``bundle_tampered`` where the bundle has changed since it was checked.
    """
    size, free = sum(lack.blobs.values()), store.free_bytes()
    if size > free:
        raise OllamaError(
            "disk_full", f"the bundle needs {human(size)}, but {human(free)} are free where {store.root} is"
        )
    writer = _StoreWriter(store.root)

    def put(member: str, blob: str, source_member: str | None = None) -> None:
        with bundle.open(source_member or member) as source:
            path = writer.put(member, source, blob[7:], lambda count: watch(blob, count))
        if member.startswith("blobs/"):
            memory.verified[blob] = fingerprint(os.stat(path))

    try:
        for digest in sorted(lack.blobs):
            put(f"blobs/{digest.replace(':', '-')}", digest)
        for name in lack.models:
            carried, member = contents.models[name], member_of(name)
            if contents.lists:
                blob = f"blobs/{carried.digest.replace(':', '-')}"
                put(blob, carried.digest, member)
                host = "ollama.com" if name.host == DEFAULT_HOST else name.host.replace(":", "%3A")
                writer.link(f"manifests-v2/{host}/{name.namespace}/{name.model}/{name.tag}", f"../../../../{blob}")
            elif carried.digest == carried.chosen.digest:
                put(member, carried.digest)
            else:
                put(member, carried.chosen.digest, f"blobs/{carried.chosen.digest.replace(':', '-')}")
    except OSError as exc:
        raise OllamaError("store_unwritable", f"models_dir: cannot write to {store.root}: {exc.strerror}") from None
    finally:
        writer.close()


def remember(contents: Contents, memory: Memory) -> None:
    """Note which tags the models are of: older stores keep of a list only the variant, newer servers may convert it."""
    for name, carried in contents.models.items():
        memory.origins[name.key] = {"registry": carried.digest, "variant": carried.chosen.digest}


class Supply:
    """A bundle that single models are taken from; it is not even opened before it is needed. A context manager."""

    def __init__(self, path: str, *, lists: bool) -> None:
        self.path = path
        self.lists = lists
        self._bundle: Bundle | None = None
        self._contents: Contents | None = None
        # A tar has one position, and a store one place to prepare files in.
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self.path

    def __enter__(self) -> Supply:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bundle:
            self._bundle.__exit__()

    def read(self, *, hash_all: bool = False) -> tuple[Bundle, Contents]:
        """Return the bundle and what it holds; raises as `check`."""
        self._bundle = self._bundle or Bundle(self.path)
        if hash_all or not self._contents:
            self._contents = check(self._bundle, lists=self.lists, hash_all=hash_all)
        return self._bundle, self._contents

    def offer(self, wanted: Name) -> Carried:
        """Return what the bundle has under a name, whatever its case; raises ``tag_missing``."""
        for name, carried in self.read()[1].models.items():
            if name.key == wanted.key:
                return carried
        raise OllamaError("tag_missing", f"{wanted}: {self.path} has no such model", name=str(wanted))

    def bring(self, wanted: Name, store: Store, memory: Memory, watch: Watch) -> int:
        """Bring one model into a store, and return the bytes that were copied; raises as `bring`."""
        with self._lock:
            bundle, contents = self.read()
            one = {name: carried for name, carried in contents.models.items() if name.key == wanted.key}
            part = replace(contents, models=one)
            lack = compare(part, store, memory)
            bring(bundle, part, lack, store, memory, watch)
            remember(part, memory)
            return sum(lack.blobs.values())


class _StoreWriter:
    """Puts files into a store under their final names only when they are whole; owner and rights are the store's."""

    def __init__(self, root: str) -> None:
        self.root = root
        info = os.stat(root)
        self.owner = (info.st_uid, info.st_gid)
        self.folder_mode = stat.S_IMODE(info.st_mode)
        self.stage = os.path.join(root, _STAGE)
        # Not in blobs/, where a starting server deletes what it does not know.
        _remove(self.stage)
        os.mkdir(self.stage, 0o700)

    def close(self) -> None:
        """Remove what was not finished."""
        _remove(self.stage)

    def put(self, member: str, source: t.IO[bytes], digest: str, tell: t.Callable[[int], None]) -> str:
        """Write one file and return its path; raises ``bundle_tampered`` where the content is not the digest's."""
        new = os.path.join(self.stage, "file")
        with open(new, "wb") as target:
            found = _pour(source, target, tell)
            target.flush()
            os.fsync(target.fileno())
        if found != digest:
            raise OllamaError("bundle_tampered", f"{member} has changed since the bundle was checked")
        os.chmod(new, self.folder_mode & 0o666)
        os.chown(new, *self.owner)
        return self._place(new, member)

    def link(self, member: str, target: str) -> None:
        """Make a symbolic link."""
        new = os.path.join(self.stage, "link")
        os.symlink(target, new)
        os.lchown(new, *self.owner)
        self._place(new, member)

    def _place(self, new: str, member: str) -> str:
        path = self.root
        for part in member.split("/")[:-1]:
            path = os.path.join(path, part)
            if not os.path.isdir(path):
                os.mkdir(path)
                os.chmod(path, self.folder_mode)
                os.chown(path, *self.owner)
        path = os.path.join(self.root, member)
        os.replace(new, path)
        return path
