# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab: its network, hosts, depot, keys and inventory. `up` creates missing parts and corrects different ones."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import yaml
from docker.errors import NotFound
from docker.models.containers import Container
from docker.types import EndpointConfig, LogConfig

from . import CACHE, PROJECT, LabError, engine, images, registry, releases, say, vm
from .access import Access, Endpoint
from .systems import SYSTEMS, System

LABEL = "kaido.ollama.lab"
ROOT_LABEL = "kaido.ollama.lab.root"
SPEC_LABEL = "kaido.ollama.lab.spec"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
DEFAULT_VERSIONS = ("0.35.0", "0.35.1")
# Requirements of systemd as PID 1 in a container; --privileged, the usual advice, fails on some kernels.
SYSTEMD: dict[str, Any] = {
    "cap_add": ["SYS_ADMIN"],
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "cgroupns": "private",
    "tmpfs": {"/run": "", "/run/lock": "", "/tmp": "exec"},
}
# Hosts reach no public registry, with or without Internet: tests see only the depot.
NOWHERE = {"registry.ollama.ai": "127.0.0.1", "ollama.com": "127.0.0.1"}


@dataclass(frozen=True)
class Wanted:
    """The requested content of a lab."""

    hosts: dict[str, str]
    versions: tuple[str, ...] = DEFAULT_VERSIONS
    models: dict[str, str] = field(default_factory=dict)  # name -> size, beside those that every depot has
    stand_in: bool = False  # serve the stand-in, whatever LAB_RELEASES holds
    machines: dict[str, str] = field(default_factory=dict)  # virtual machines: name -> kind


@dataclass
class Lab:
    name: str

    def __post_init__(self) -> None:
        # Molecule's scenarios may have _ in their names; a host's name may not.
        check_name("the lab's name", self.name.replace("_", "-"))
        self.dir = CACHE / self.name
        self.prefix = f"kaido-lab-{self.name}"
        self.cut_off = f"{self.prefix}-cut"
        self.access = Access(self.dir, self.prefix)
        self.ssh_config, self.inventory = self.access.ssh_config, self.access.inventory
        self._client: docker.DockerClient | None = None

    @property
    def client(self) -> docker.DockerClient:
        if self._client is None:
            self._client = connect()
        return self._client

    def up(self, wanted: Wanted) -> None:
        check(wanted)
        self.dir.mkdir(parents=True, exist_ok=True)
        with stage("images"), engine.lock():
            engine.ensure_tools({"zstd": "zstd", "ssh": "openssh-client", "ssh-keygen": "openssh-client"})
            built = {name: images.ensure(self.client, name) for name in sorted({*wanted.hosts.values(), "depot"})}
        with stage("releases and models"):
            arch = architecture(wanted)
            # LAB_RELEASES has archives for this machine's architecture only.
            stand_in = wanted.stand_in or arch != releases.HERE
            root = self.dir / "releases"
            published = {version: releases.publish(root, version, stand_in) for version in wanted.versions}
            registry.fill(self.dir / "registry", wanted.models)
        with stage("containers"):
            self._network()
            cut = self.client.networks.list(names=[self.cut_off])
            for container in self._containers():
                if cut or container.name not in {f"{self.prefix}-{host}" for host in (*wanted.hosts, "depot")}:
                    container.remove(force=True, v=True)
            for network in cut:
                network.remove()
            depot = self._depot(built["depot"])
            addresses = {host: self._host(host, built[name], SYSTEMS[name]) for host, name in wanted.hosts.items()}
            images.prune(self.client)
        with stage("hosts reachable"):
            hosts = {host: Endpoint(address) for host, address in addresses.items()}
            hosts |= self._machines(wanted.machines, depot)
            self.access.write_ssh_config(hosts)
            for host, address in addresses.items():
                self._wait(host, address)
            for machine in vm.machines(self.dir):
                machine.wait(self.ssh_config)
        archives = [root / f"v{version}" / releases.archive_name(arch) for version in wanted.versions]
        facts = {
            "lab_release_checksums": {version: f"sha256:{sums[arch]}" for version, sums in published.items()},
            # Those of LAB_RELEASES: what only the stand-in keeps is asserted of the others alone.
            "lab_given_releases": [v for v in wanted.versions if not stand_in and releases.given(v)],
            "lab_releases_disk": releases.disk_size(archives),
        }
        self.access.write_inventory(hosts, facts)
        say(f"lab {self.name}: ready; log in with: ssh -F {shown(self.ssh_config)} {next(iter(hosts))}")

    def down(self) -> None:
        """Remove the lab; only cached images stay."""
        for machine in vm.machines(self.dir):
            machine.remove()
        if engine.ask(engine.SOCKET) == "answers":
            for container in self._containers():
                container.remove(force=True, v=True)
            for network in self.client.networks.list(filters={"label": f"{LABEL}={self.name}"}):
                network.remove()
        shutil.rmtree(self.dir, ignore_errors=True)
        say(f"lab {self.name}: gone")

    def cut(self) -> None:
        """Cut the hosts off from everything but the depot and this machine: their addresses change; `up` reverts it."""
        inside = self.client.networks.create(self.cut_off, driver="bridge", internal=True, labels=self._labels())
        outside = self.client.networks.get(self.prefix)
        inventory = yaml.safe_load((self.inventory / "hosts.yml").read_text())["ollama_servers"]
        addresses = {}
        for container in self._containers():
            host = str(container.name).removeprefix(f"{self.prefix}-")
            inside.connect(container, aliases=[host])
            if host != "depot":
                outside.disconnect(container)
                container.reload()
                addresses[host] = str(container.attrs["NetworkSettings"]["Networks"][self.cut_off]["IPAddress"])
        hosts = {host: Endpoint(addresses[host]) for host in inventory["hosts"]}
        self.access.write_ssh_config(hosts)
        facts = {name: value for name, value in inventory["vars"].items() if name.startswith("lab_")}
        self.access.write_inventory(hosts, facts)
        say(f"lab {self.name}: cut off")

    def _containers(self) -> list[Container]:
        """The containers of this lab. Unused containers of another checkout are removed."""
        found = []
        for container in self.client.containers.list(all=True, filters={"label": f"{LABEL}={self.name}"}):
            root = container.labels.get(ROOT_LABEL)
            if root == str(PROJECT):
                found.append(container)
            elif container.status == "running" and not ours(str(root)):
                raise LabError(f"container {container.name} belongs to the checkout {root}: use another lab name")
            else:
                container.remove(force=True, v=True)
                say(f"lab {self.name}: removed container {container.name}, which checkout {root} left behind")
        return found

    def _network(self) -> None:
        try:
            self.client.networks.get(self.prefix)
        except NotFound:
            self.client.networks.create(self.prefix, driver="bridge", labels=self._labels())

    def _labels(self) -> dict[str, str]:
        return {LABEL: self.name, ROOT_LABEL: str(PROJECT)}

    def _container(self, host: str, image: str, files: dict[str, tuple[bytes, int, int]], **options: Any) -> Container:
        """Return a running container as described: an existing one, or a new one if anything differs."""
        name = f"{self.prefix}-{host}"
        spec = hashlib.sha256(json.dumps([image, options], sort_keys=True).encode()).hexdigest()[:16]
        try:
            container = self.client.containers.get(name)
            if ROOT_LABEL not in container.labels:
                raise LabError(f"container {name} was not made by a lab: rename it, or use another lab name")
            if container.labels.get(SPEC_LABEL) != spec:
                container.remove(force=True, v=True)
                raise NotFound(name)
        except NotFound:
            container = self.client.containers.create(
                image,
                name=name,
                hostname=host,
                network=self.prefix,
                networking_config={self.prefix: EndpointConfig("1.40", aliases=[host])},
                labels={**self._labels(), SPEC_LABEL: spec},
                log_config=LogConfig(type="json-file", config={"max-size": "10m"}),
                **options,
            )
        if container.status == "created":
            if files:
                container.put_archive("/", archive(files))
            container.start()
        elif container.status != "running":
            container.start()
        container.reload()
        return container

    def _depot(self, image: Any) -> str:
        logs = self.dir / "logs"
        logs.mkdir(exist_ok=True)
        container = self._container(
            "depot",
            image.id,
            {},
            volumes=[
                f"{self.dir / 'releases'}:/srv/releases:ro",
                f"{self.dir / 'registry'}:/srv/registry:ro",
                f"{logs}:/var/log/nginx",
            ],
        )
        address = self._address(container)
        for port in (80, 11480):
            if not listens(address, port, 20):
                raise LabError(f"the depot does not listen on port {port}: see `docker logs {container.name}`")
        return address

    def _machines(self, wanted: Mapping[str, str], depot: str) -> dict[str, Endpoint]:
        """Start the virtual machines, and end those that are not wanted."""
        for machine in vm.machines(self.dir):
            if machine.name not in wanted:
                machine.remove()
        known = {"localhost": "127.0.0.1", "depot": depot, **NOWHERE}
        hosts = {}
        for name, kind in wanted.items():
            lines = [f"{address} {alias}\n" for alias, address in {**known, name: "127.0.1.1"}.items()]
            files = {**self.access.identity(name), "etc/hosts": ("".join(lines).encode(), 0o644, 0)}
            hosts[name] = vm.Machine(name, self.dir / "vm" / name).start(files, vm.KINDS[kind])
        return hosts

    def _host(self, host: str, image: Any, system: System) -> str:
        options = {**SYSTEMD, **({"command": list(system.command)} if system.command else {})}
        return self._address(
            self._container(host, image.id, self.access.identity(host), extra_hosts=NOWHERE, **options)
        )

    def _address(self, container: Container) -> str:
        return str(container.attrs["NetworkSettings"]["Networks"][self.prefix]["IPAddress"])

    def _wait(self, host: str, address: str) -> None:
        """Until systemd has started all it can here, and ops can log in with sudo: what Ansible needs."""
        container = self.client.containers.get(f"{self.prefix}-{host}")
        deadline = time.monotonic() + 90
        state = "unknown"
        while time.monotonic() < deadline:
            container.reload()
            if container.status != "running":
                raise LabError(f"{host} ended while it booted: see `docker logs {container.name}`")
            state = output_of(container, "systemctl", "is-system-running").strip()
            if state in ("running", "degraded") and listens(address, 22, 1):
                break
            time.sleep(0.3)
        else:
            raise LabError(f"{host} did not boot within 90 s (systemd: {state!r}): see `docker logs {container.name}`")
        if state == "degraded":
            # What a distribution starts and a container does not let run is forgotten: whatever fails later is new.
            lines = output_of(container, "systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
            say(f"lab: {host}: failed at boot, and is forgotten: {', '.join(line.split()[0] for line in lines)}")
            output_of(container, "systemctl", "reset-failed")
        login = ["ssh", "-F", str(self.ssh_config), "-o", "ConnectTimeout=10", host, "sudo", "-n", "true"]
        done = subprocess.run(login, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise LabError(f"{host} boots, but ops cannot log in and use sudo: {done.stderr.strip()}")


def output_of(container: Container, *command: str) -> str:
    output = container.exec_run(list(command)).output
    assert isinstance(output, bytes)
    return output.decode(errors="replace")


def connect() -> docker.DockerClient:
    # Importing a base image and removing a busy container may take longer than the default of a minute.
    return docker.DockerClient(base_url=f"unix://{engine.SOCKET}", timeout=600)


def check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise LabError(f"{what} {name!r} is not allowed: 1 to 40 of a-z, 0-9 and -, no - at either end")


def check(wanted: Wanted) -> None:
    """Validate the request before anything is created."""
    if not (wanted.hosts or wanted.machines):
        raise LabError("a lab needs at least one host: --host hecate=debian12")
    for host in (*wanted.hosts, *wanted.machines):
        check_name("host name", host)
        if [*wanted.hosts, *wanted.machines].count(host) > 1:
            raise LabError(f"two hosts are named {host!r}")
        if host == "depot":
            raise LabError("host name 'depot' is taken by the release mirror and registry: choose another")
    for host, system in wanted.hosts.items():
        if system not in SYSTEMS:
            raise LabError(f"host {host!r} wants {system!r}: expected {', '.join(SYSTEMS)}")
    for version in wanted.versions:
        if not releases.VERSION.fullmatch(version):
            raise LabError(f"version {version!r} is not allowed: give X.Y.Z or X.Y.Z-rcN")
    for host, kind in wanted.machines.items():
        if kind not in vm.KINDS:
            raise LabError(f"machine {host!r} wants {kind!r}: expected {', '.join(vm.KINDS)}")
    architecture(wanted)
    for name, size in wanted.models.items():
        registry.check(name, size)


def architecture(wanted: Wanted) -> str:
    """Return the architecture of the hosts; that of the release whose checksum is in the inventory."""
    found = {vm.KINDS[kind].arch for kind in wanted.machines.values()} | ({releases.HERE} if wanted.hosts else set())
    if len(found) > 1:
        raise LabError(f"the hosts are {' and '.join(sorted(found))}: expected a single architecture")
    return found.pop()


def archive(files: dict[str, tuple[bytes, int, int]]) -> bytes:
    """A tar of name -> (content, mode, owner), for a container that does not run yet. .ssh comes with its folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode, owner) in files.items():
            if owner:
                folder = tarfile.TarInfo(str(Path(name).parent))
                folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o700, owner, owner
                tar.addfile(folder)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def listens(address: str, port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"lab: {name}: {time.monotonic() - start:.1f} s")


def shown(path: Path) -> str:
    return str(path).removeprefix(f"{PROJECT}/")


def ours(root: str) -> bool:
    return root == str(PROJECT) or not Path(root).is_dir()


def build(system: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with engine.lock():
        images.ensure(connect(), system)
