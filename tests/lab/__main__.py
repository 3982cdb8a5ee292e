# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the lab. `engine` runs on the system's Python; the rest needs the project's virtual environment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import LabError, engine, say
from .systems import SYSTEMS


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("engine", help="get a Docker Engine to answer")
    up = commands.add_parser("up", help="make a lab, or bring one to what is asked for")
    up.add_argument("name")
    up.add_argument("--host", type=pair, action="append", default=[], metavar="NAME=SYSTEM", help="hecate=debian12")
    up.add_argument(
        "--machine",
        type=pair,
        action="append",
        default=[],
        metavar="NAME=apparmor|selinux|arm64",
        help="a virtual machine",
    )
    up.add_argument("--version", action="append", default=[], metavar="X.Y.Z", help="instead of the default releases")
    up.add_argument("--model", type=pair, action="append", default=[], metavar="NAME=SIZE", help="kaido/m1:q4=5M")
    up.add_argument("--stand-in", action="store_true", help="serve the stand-in, whatever LAB_RELEASES holds")
    machine = commands.add_parser("machine", help="cut the power of a virtual machine, or change its disks")
    machine.add_argument("action", choices=("reset", "unplug", "plug"))
    machine.add_argument("name")
    machine.add_argument("host")
    cut = commands.add_parser("cut", help="take the hosts of a lab every way but that to the depot")
    cut.add_argument("name")
    down = commands.add_parser("down", help="remove one lab")
    down.add_argument("name")
    build = commands.add_parser("build", help="make a system's image, without a lab")
    build.add_argument("system", choices=SYSTEMS, metavar="SYSTEM", help=", ".join(SYSTEMS))
    imitation = commands.add_parser(
        "imitation", help="write an archive for LAB_RELEASES that looks like a real release"
    )
    imitation.add_argument("version", metavar="X.Y.Z")
    imitation.add_argument("directory", type=Path)
    commands.add_parser("systems", help="list the systems of `make platforms`")
    commands.add_parser("clean", help="remove everything that labs made")
    commands.add_parser("status", help="show the engine and the labs")
    shown = commands.add_parser("demo", help="create a lab and converge playbooks/site.yml on it")
    shown.add_argument("name", nargs="?", default="demo")
    return top


def run(arguments: argparse.Namespace) -> int:
    if arguments.command == "engine":
        engine.ensure()
        say("engine: a Docker Engine answers")
        return 0
    if arguments.command == "systems":
        say("\n".join(name for name, system in SYSTEMS.items() if not system.base))
        return 0
    if arguments.command == "imitation":
        from . import releases

        say(str(releases.imitation(arguments.version, arguments.directory)))
        return 0
    if arguments.command in ("up", "build", "demo") or engine.ask(engine.SOCKET) == "denied":
        with engine.lock():
            engine.ensure()

    try:
        import docker.errors
    except ModuleNotFoundError as error:
        raise LabError(
            "this Python has no package `docker`: use .venv/bin/python; `make .venv/.stamp` makes it"
        ) from error

    try:
        return run_on_engine(arguments)
    except docker.errors.DockerException as error:
        raise LabError(f"the Docker Engine refused: {error}") from error


def run_on_engine(arguments: argparse.Namespace) -> int:
    from . import checkout, demo, lab, vm

    if arguments.command == "demo":
        return demo.run(arguments.name)
    if arguments.command == "up":
        versions = tuple(arguments.version) or lab.DEFAULT_VERSIONS
        lab.Lab(arguments.name).up(
            lab.Wanted(
                dict(arguments.host), versions, dict(arguments.model), arguments.stand_in, dict(arguments.machine)
            )
        )
    elif arguments.command == "machine":
        getattr(vm.Machine(arguments.host, lab.Lab(arguments.name).dir / "vm" / arguments.host), arguments.action)()
    elif arguments.command == "build":
        lab.build(arguments.system)
    elif arguments.command == "cut":
        lab.Lab(arguments.name).cut()
    elif arguments.command == "down":
        lab.Lab(arguments.name).down()
    elif arguments.command == "clean":
        checkout.clean()
    else:
        checkout.status()
    return 0


def main() -> int:
    try:
        return run(parser().parse_args())
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"lab: {error}: was .cache made by another user?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlab: interrupted; the same command carries on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
