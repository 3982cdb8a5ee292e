# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All labs of this checkout: their status, and the removal of everything they created."""

from __future__ import annotations

import shutil

import docker
from docker.models.containers import Container

from . import CACHE, engine, images, say, vm
from .lab import LABEL, ROOT_LABEL, connect, ours


def all_containers(client: docker.DockerClient) -> list[Container]:
    """Return the containers of the labs of this checkout, and of checkouts that no longer exist."""
    return [c for c in client.containers.list(all=True, filters={"label": LABEL}) if ours(c.labels.get(ROOT_LABEL, ""))]


def status() -> None:
    """Print the state of the engine and a line for each container."""
    seen = engine.ask(engine.SOCKET)
    started = engine.our_daemon()
    say(f"engine: {seen}" + (f"; dockerd {started} was started by the lab" if started else ""))
    if seen != "answers":
        return
    for container in sorted(all_containers(connect()), key=lambda c: str(c.name)):
        networks = container.attrs["NetworkSettings"]["Networks"].values()
        address = " ".join(network["IPAddress"] for network in networks)
        say(f"{container.labels[LABEL]:20} {container.name:40} {container.status:10} {address}")


def clean() -> None:
    """Remove what labs of this checkout created: containers, networks, images, .cache/lab and their dockerd."""
    if engine.ask(engine.SOCKET) == "silent" and CACHE.is_dir() and shutil.which("dockerd", path=engine.SEARCH):
        say("clean: no engine answers, but labs may have left images with one; starting it to remove them")
        engine.ensure()
    state = engine.read_state()
    for machine in [found for lab in CACHE.glob("*/") for found in vm.machines(lab)]:
        machine.stop()
    if engine.ask(engine.SOCKET) == "answers":
        client = connect()
        for container in all_containers(client):
            container.remove(force=True, v=True)
            say(f"clean: removed container {container.name}")
        for network in client.networks.list(filters={"label": LABEL}):
            if ours((network.attrs["Labels"] or {}).get(ROOT_LABEL, "")):
                network.remove()
                say(f"clean: removed network {network.name}")
        if client.containers.list(all=True, filters={"label": LABEL}):
            say("clean: the images stay, since labs of another checkout use them")
        else:
            images.remove_all(client)
        others = [container.name for container in client.containers.list()]
        if not others:
            engine.stop_daemon()
        elif engine.our_daemon():
            say(f"clean: dockerd stays, since containers that no lab made run on it: {', '.join(map(str, others))}")
    shutil.rmtree(CACHE, ignore_errors=True)
    if state.get("installed"):
        packages = " ".join(state["installed"])
        say(f"clean: Debian packages installed for the lab stay; to remove them: apt-get autoremove --purge {packages}")
