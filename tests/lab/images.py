# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's images: one Dockerfile over a bare Debian, which mmdebstrap makes here or an image registry serves.

Each image carries a hash of what it was built from, and is built again when that changes.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import docker
import jinja2
import yaml
from docker.errors import BuildError, ImageNotFound
from docker.models.images import Image

from . import PROJECT, LabError, engine, say

HERE = Path(__file__).parent
RELEASES = {"debian12": ("bookworm", "debian:12"), "debian13": ("trixie", "debian:13")}
DEPOT_RELEASE = "debian12"
# On every image; the value is the hash of what it was built from.
LABEL = "kaido.ollama.lab.source"
RECIPE = ("Dockerfile", "nginx.conf")
MIRROR = PROJECT / "roles" / "ollama_mirror"


def registry_conf(**variables: object) -> str:
    """The registry of role ollama_mirror, whose template the depot shares."""
    values = {
        **yaml.safe_load((MIRROR / "defaults" / "main.yml").read_text()),
        "ollama_mirror_allow": [],
        "ollama_mirror__store": "/srv/registry",
        "ollama_mirror__log": "/var/log/nginx/registry.log",
        "ollama_mirror__tls": False,
        **variables,
    }
    # As Ansible's module template renders.
    jinja = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    return jinja.from_string((MIRROR / "templates" / "registry.conf.j2").read_text()).render(values)


def recipe() -> dict[str, bytes]:
    """The files that the images are built from."""
    return {**{name: (HERE / name).read_bytes() for name in RECIPE}, "registry.conf": registry_conf().encode()}


def source_hash(*more: str) -> str:
    """What the images are built from, plus which of them it is."""
    digest = hashlib.sha256("\0".join(more).encode())
    for content in recipe().values():
        digest.update(content)
    return digest.hexdigest()[:16]


def ensure(client: docker.DockerClient, name: str) -> Image:
    """kaido-lab/<name>, where name is debian12, debian13 or depot."""
    tag = f"kaido-lab/{name}:latest"
    release = DEPOT_RELEASE if name == "depot" else name
    wanted = source_hash(name, *RELEASES[release])
    try:
        found = client.images.get(tag)
        if found.labels.get(LABEL) == wanted:
            return found
        say(f"images: what {tag} is built from has changed")
    except ImageNotFound:
        pass
    base = ensure_base(client, release)
    say(f"images: building {tag} over {base}")
    try:
        image, _log = client.images.build(
            fileobj=context(),
            custom_context=True,
            tag=tag,
            target="depot" if name == "depot" else "host",
            buildargs={"BASE": base},
            labels={LABEL: wanted},
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        output = "".join(str(line.get("stream", "")) for line in error.build_log)
        tail = "\n".join(output.splitlines()[-15:])
        raise LabError(f"{tag} could not be built: {error.msg}\n{tail}") from error
    return image


def prune(client: docker.DockerClient) -> None:
    """Drop what newer builds replaced; call when no container needs it any more."""
    client.images.prune(filters={"dangling": True, "label": LABEL})


def context() -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in recipe().items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def ensure_base(client: docker.DockerClient, release: str) -> str:
    """The name of a bare Debian image: ours by mmdebstrap, or the official one where that does not work."""
    suite, official = RELEASES[release]
    tag = f"kaido-lab/base-{release}:latest"
    try:
        client.images.get(tag)
        return tag
    except ImageNotFound:
        pass
    try:
        engine.ensure_tools({"mmdebstrap": "mmdebstrap"})
        bootstrap(client, suite, tag)
        return tag
    except LabError as error:
        say(f"images: {error}")
    had = any(official in image.tags for image in client.images.list())
    say(f"images: pulling {official}")
    repository, _colon, version = official.partition(":")
    try:
        client.images.pull(repository, tag=version)
    except docker.errors.APIError as error:
        raise LabError(
            f"there is no base image for {release}: mmdebstrap failed (see above), and {official} cannot be pulled: "
            f"{error.explanation or error}. One of the two needs the network: deb.debian.org or an image registry"
        ) from error
    if not had:
        state = engine.read_state()
        engine.remember({**state, "pulled": sorted({*state.get("pulled", []), official})})
    return official


def bootstrap(client: docker.DockerClient, suite: str, tag: str) -> None:
    """mmdebstrap needs root; its tar goes through a file, so that an unfinished one is never imported."""
    say(f"images: making a bare Debian {suite} with mmdebstrap")
    with tempfile.TemporaryFile() as archive, tempfile.TemporaryFile() as log:
        command = engine.as_root(["mmdebstrap", "--quiet", "--variant=minbase", suite, "-"])
        done = subprocess.run(command, stdout=archive, stderr=log, check=False)
        if done.returncode:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-3:]
            raise LabError(f"mmdebstrap failed for {suite}: {' / '.join(last)}")
        archive.seek(0)
        repository, _colon, version = tag.partition(":")
        client.api.import_image(
            src=archive, repository=repository, tag=version, changes=[f"LABEL {LABEL}={suite}", 'CMD ["/bin/sh"]']
        )


def remove_all(client: docker.DockerClient) -> None:
    """Our images by label, and the official bases that we pulled; one still in use stays, and is named."""
    names = [tag for image in client.images.list(filters={"label": LABEL}) for tag in image.tags or [image.id or ""]]
    # Bases last: an image cannot go before those built over it.
    names.sort(key=lambda name: (name.startswith("kaido-lab/base-"), name))
    for name in [*names, *engine.read_state().get("pulled", [])]:
        try:
            client.images.remove(name)
            say(f"images: removed {name}")
        except ImageNotFound:
            pass
        except docker.errors.APIError as error:
            say(f"images: {name} stays: {error.explanation or error}")
