# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the hosts of a lab are reached: keys, the SSH configuration and the inventory."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Endpoint(NamedTuple):
    """Where the SSH server of a host listens."""

    address: str
    port: int = 22


File = tuple[bytes, int, int]
"""Content, mode and owner."""


@dataclass(frozen=True)
class Access:
    """The files of a lab for SSH and Ansible."""

    dir: Path
    comment: str

    @property
    def ssh_config(self) -> Path:
        return self.dir / "ssh_config"

    @property
    def inventory(self) -> Path:
        return self.dir / "inventory"

    def key(self, name: str) -> Path:
        """Return a key pair of the lab; create it if it is missing."""
        path = self.dir / "ssh" / name
        if not path.with_suffix(".pub").exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.unlink(missing_ok=True)
            comment = f"{self.comment} {name}"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], check=True)
        return path

    def identity(self, host: str) -> dict[str, File]:
        """Return the files by which a host knows ops, and SSH knows the host."""
        key, host_key = self.key("id_ed25519"), self.key(f"host_{host}")
        return {
            "home/ops/.ssh/authorized_keys": (key.with_suffix(".pub").read_bytes(), 0o600, 1000),
            "etc/ssh/ssh_host_ed25519_key": (host_key.read_bytes(), 0o600, 0),
            "etc/ssh/ssh_host_ed25519_key.pub": (host_key.with_suffix(".pub").read_bytes(), 0o644, 0),
        }

    def write_ssh_config(self, hosts: Mapping[str, Endpoint]) -> None:
        """Write the SSH configuration, for users and for Ansible; the user's own file does not apply to a lab."""
        ssh = self.dir / "ssh"
        known = [f"{host} {self.key(f'host_{host}').with_suffix('.pub').read_text()}" for host in hosts]
        (ssh / "known_hosts").write_text("".join(known))
        block = "Host {0} {1}\n  HostName {1}\n  Port {2}\n  HostKeyAlias {0}\n"
        blocks = [block.format(host, *endpoint) for host, endpoint in hosts.items()]
        common = (
            f'Host *\n  User ops\n  IdentityFile "{ssh / "id_ed25519"}"\n  IdentitiesOnly yes\n'
            f'  UserKnownHostsFile "{ssh / "known_hosts"}"\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n'
        )
        self.ssh_config.write_text("".join(blocks) + common)

    def write_inventory(self, hosts: Mapping[str, Endpoint], facts: Mapping[str, Any]) -> None:
        """Write the inventory with the variables of the depot."""
        variables = {
            "ansible_user": "ops",
            "ansible_ssh_private_key_file": str(self.dir / "ssh" / "id_ed25519"),
            "ansible_ssh_common_args": f"-F {shlex.quote(str(self.ssh_config))}",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ollama_release_base_url": "http://depot/releases/download",
            "ollama_release_checksum": "{{ lab_release_checksums[ollama_version] | default('') }}",
            "ollama_mirrors": ["http://depot:11480"],
            "ollama_mirrors_trusted": True,
            **facts,
        }
        listed = {host: {"ansible_host": endpoint.address} for host, endpoint in hosts.items()}
        self.inventory.mkdir(exist_ok=True)
        text = "# Written by tests.lab; `up` replaces it.\n"
        text += yaml.safe_dump({"ollama_servers": {"hosts": listed, "vars": variables}}, sort_keys=False, width=200)
        (self.inventory / "hosts.yml").write_text(text)
