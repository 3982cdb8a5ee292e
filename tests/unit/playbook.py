# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of ansible-core's programs with this collection: the only place where unit tests start them."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

# Whether tests that need such a run are skipped: a run takes about a second, and `make check` two minutes.
skipped = False

Plays = t.Sequence[t.Mapping[str, t.Any]]


class Played(t.NamedTuple):
    """The end of a run."""

    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def ansible(
    program: str,
    *arguments: str | Path,
    folder: Path = ROOT,
    environment: t.Mapping[str, str] | None = None,
) -> Played:
    """Run a program of the tested ansible-core in a folder, without a terminal.

    :param environment: more variables; those of this process are kept.
    """
    if skipped:
        pytest.skip("the test starts ansible-core")
    # From ansible-core 2.21 on, the options of a module are in its result only with this setting.
    settings = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache"), "ANSIBLE_INJECT_INVOCATION": "true"}
    done = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        env={**os.environ, **settings, **(environment or {})},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Played(done.returncode, done.stdout, done.stderr)


def run_playbook(
    folder: Path,
    inventory: t.Mapping[str, t.Any],
    plays: Plays | Path | str,
    *options: str,
    config: str = "",
    **environment: str,
) -> Played:
    """Write inventory, configuration and plays into a folder and run ansible-playbook there.

    :param inventory: the content of its YAML file, in this order.
    :param plays: the content of a playbook, or the path or name of one.
    :param config: the content of ansible.cfg.
    """
    (folder / "hosts.yml").write_text(yaml.safe_dump(dict(inventory), sort_keys=False))
    (folder / "ansible.cfg").write_text(config)
    if not isinstance(plays, (str, Path)):
        (folder / "play.yml").write_text(yaml.safe_dump([dict(play) for play in plays], sort_keys=False))
        plays = "play.yml"
    environment = {"ANSIBLE_CONFIG": str(folder / "ansible.cfg"), **environment}
    return ansible("ansible-playbook", "-i", "hosts.yml", *options, plays, folder=folder, environment=environment)
