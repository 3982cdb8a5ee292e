# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's images: one Dockerfile over a base system, which mmdebstrap makes here or an image registry serves.

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
from .systems import SYSTEMS, System

HERE = Path(__file__).parent
DEPOT_SYSTEM = "debian12"
# A label of every image; the value is the hash of its sources.
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
        "ollama_mirror__listen": {"host": "0.0.0.0", "address": "0.0.0.0:11480"},
        **variables,
    }
    # As Ansible's module template renders.
    jinja = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    return jinja.from_string((MIRROR / "templates" / "registry.conf.j2").read_text()).render(values)


def recipe() -> dict[str, bytes]:
    """The files that the images are built from."""
    return {**{name: (HERE / name).read_bytes() for name in RECIPE}, "registry.conf": registry_conf().encode()}


def source_hash(*more: str) -> str:
    """Return the hash of an image: its sources and its name."""
    digest = hashlib.sha256("\0".join(more).encode())
    for content in recipe().values():
        digest.update(content)
    return digest.hexdigest()[:16]


def ensure(client: docker.DockerClient, name: str) -> Image:
    """kaido-lab/<name>, where name is that of a system, or depot."""
    tag = f"kaido-lab/{name}:latest"
    based_on = DEPOT_SYSTEM if name == "depot" else name
    system = SYSTEMS[based_on]
    wanted = source_hash(name, system.image, system.install)
    try:
        found = client.images.get(tag)
        if found.labels.get(LABEL) == wanted:
            return found
        say(f"images: what {tag} is built from has changed")
    except ImageNotFound:
        pass
    base = ensure_base(client, system.base or based_on)
    say(f"images: building {tag} over {base}")
    try:
        image, _log = client.images.build(
            fileobj=context(),
            custom_context=True,
            tag=tag,
            target="depot" if name == "depot" else "host",
            buildargs={"BASE": base, "INSTALL": system.install},
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
    """Remove images that newer builds replaced; call when no container uses them."""
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


def ensure_base(client: docker.DockerClient, name: str) -> str:
    """Return the name of a base image: built by mmdebstrap where possible, otherwise the official one."""
    system = SYSTEMS[name]
    tag = f"kaido-lab/base-{name}:latest"
    try:
        client.images.get(tag)
        return tag
    except ImageNotFound:
        pass
    if system.bootstrap:
        try:
            engine.ensure_tools({"mmdebstrap": "mmdebstrap"})
            bootstrap(client, name, tag)
            return tag
        except LabError as error:
            say(f"images: {error}")
    if not any(system.image in image.tags for image in client.images.list()):
        pull(client, name, system)
    return system.image


def pull(client: docker.DockerClient, name: str, system: System) -> None:
    say(f"images: pulling {system.image}")
    repository, _colon, version = system.image.rpartition(":")
    try:
        client.images.pull(repository, tag=version)
    except docker.errors.APIError as error:
        also = "mmdebstrap failed (see above), and " if system.bootstrap else ""
        why = " ".join(str(error.explanation or error).split())
        raise LabError(
            f"there is no base image for {name}: {also}{system.image} cannot be pulled: {why}. It needs a way to an "
            f"image registry, or an image of that name on this machine (docker load)"
        ) from error
    state = engine.read_state()
    engine.remember({**state, "pulled": sorted({*state.get("pulled", []), system.image})})


def bootstrap(client: docker.DockerClient, name: str, tag: str) -> None:
    """mmdebstrap needs root; its tar goes through a file, so that an unfinished one is never imported."""
    say(f"images: building a minimal {name} with mmdebstrap")
    with tempfile.TemporaryFile() as archive, tempfile.TemporaryFile() as log:
        command = engine.as_root(["mmdebstrap", "--quiet", "--variant=minbase", *SYSTEMS[name].bootstrap])
        done = subprocess.run(command, stdout=archive, stderr=log, check=False)
        if done.returncode:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-3:]
            raise LabError(f"mmdebstrap failed for {name}: {' / '.join(last)}")
        archive.seek(0)
        repository, _colon, version = tag.partition(":")
        client.api.import_image(
            src=archive, repository=repository, tag=version, changes=[f"LABEL {LABEL}={name}", 'CMD ["/bin/sh"]']
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
