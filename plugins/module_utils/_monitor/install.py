# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install and remove the monitoring program with its units: compare them with the host, and change differences.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import pwd
import re
import stat
import sys
import time
import typing as t
import zipfile
from dataclasses import dataclass, field

from .._core import command, fs
from .._core.errors import OllamaError
from .._core.owner import read_regular
from .._preflight.opened import Opened, Unsafe
from .._store.findings import DEFAULT_PATH as FINDINGS
from .._store.findings import Findings
from .program import OUTPUT, RECORD

PROGRAM = "/usr/local/lib/kaido-ollama/monitoring.pyz"
CONFIG_DIR = "/etc/kaido-ollama-monitoring"
UNIT_DIR = "/etc/systemd/system"
# The directory in which systemd records when a persistent timer elapsed.
STAMP_DIR = "/var/lib/systemd/timers"
STATE_DIR = os.path.dirname(RECORD)
RUNTIME_DIR = os.path.dirname(OUTPUT)
LINK = "kaido_ollama.prom"
METRICS = "kaido-ollama-metrics"
VERIFICATION = "kaido-ollama-verification"
UNITS = tuple(f"{name}.{kind}" for name in (METRICS, VERIFICATION) for kind in ("service", "timer"))
TIMERS = tuple(unit for unit in UNITS if unit.endswith(".timer"))
_MAX_MODELS = 100
_PACKAGE = "kaido_ollama_monitoring"


@dataclass
class Wanted:
    """The requested state of the host.

    :ivar files: the contents by path; all belong to root and are readable by all users.
    :ivar user: the account of the units.
    :ivar textfile_dir: the directory from which node_exporter reads metrics.
    :ivar exporter: the package of node_exporter that the role would install, or None.
    :ivar changes: the numbers of changes of this converge by part.
    """

    files: dict[str, str]
    user: str
    textfile_dir: str
    exporter: str | None = None
    changes: dict[str, int] = field(default_factory=dict)

    @property
    def timers(self) -> list[str]:
        """The timers among the files."""
        return [timer for timer in TIMERS if f"{UNIT_DIR}/{timer}" in self.files]


def interpreter() -> str:
    """Return the Python for the units. It is not that of a virtual environment, as the program requires no packages.

    :raises OllamaError: ``value_invalid`` for a Python that the sandbox of the units hides.
    """
    path = str(getattr(sys, "_base_executable", None) or sys.executable)
    if re.match("/(home|root|run/user|tmp|var/tmp)/", os.path.realpath(path)) or path.startswith(("/home/", "/root/")):
        raise OllamaError(
            "value_invalid",
            f"ansible_python_interpreter: invalid value {path!r}; expected a Python outside of home directories and "
            "/tmp, which the units of the monitoring cannot access",
        )
    return path


def archive(python: str) -> bytes:
    """Return the monitoring program as one file, from the code of this module and its imports.

    The same code results in the same bytes on every host: the file is not compressed and contains no timestamp.
    """
    files = {f"{_PACKAGE}/{path}": text for path, text in sources("_monitor.program").items()}
    files[f"{_PACKAGE}/__init__.py"] = ""
    files["__main__.py"] = f"import sys\n\nfrom {_PACKAGE}._monitor.program import main\n\nsys.exit(main())\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name, text in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            bundle.writestr(entry, text)
    # Isolated mode ignores the environment and packages of users, as a part of the program runs as root.
    return f"#!{python} -I\n".encode() + buffer.getvalue()


def sources(name: str) -> dict[str, str]:
    """Return the source of a module below module_utils and of all its imports from there, by path.

    :param name: the dotted name below module_utils, such as ``_monitor.program``.
    """
    top = str(__package__).rpartition(".")[0]
    found: dict[str, str] = {}
    todo = [name]
    while todo:
        part = todo.pop()
        package = part.rpartition(".")[0]
        path = f"{part.replace('.', '/')}.py"
        if path in found:
            continue
        # This works both for files and for the archive in which Ansible sends modules.
        spec = importlib.util.find_spec(f"{top}.{part}")
        text = t.cast(t.Any, spec).loader.get_source(f"{top}.{part}") if spec else None
        if text is None:
            raise OllamaError("collection_incomplete", f"module_utils {part} is missing; install the collection again")
        found[path] = text
        found[f"{package}/__init__.py"] = ""
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level in (1, 2):
                here = package if node.level == 1 else ""
                module = ".".join(filter(None, (here, node.module)))
                # An import from a package names modules; an import from a module names its objects.
                todo += [f"{module}.{alias.name}" for alias in node.names] if module.count(".") == 0 else [module]
    return found


def link_path(wanted: Wanted) -> str:
    """Return the path of the link to the metrics that node_exporter reads."""
    return os.path.join(wanted.textfile_dir, LINK)


@contextlib.contextmanager
def _textfile_dir(wanted: Wanted) -> t.Iterator[int | None]:
    """Open the directory of node_exporter; None if it does not exist.

    The account of Prometheus may own a directory above it, so only links of root are followed.
    """
    try:
        with Opened(wanted.textfile_dir) as opened:
            yield None if opened.missing else opened.handle
    except Unsafe as exc:
        message = f"ollama_monitoring_textfile_directory: {exc.path} {exc.message}"
        raise OllamaError("textfile_taken", message) from None


def _target(handle: int) -> str | None:
    """Return the target of the link in an open directory; None if it does not exist, "" if it is not a link."""
    try:
        return os.readlink(LINK, dir_fd=handle)
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def missing(wanted: Wanted) -> list[str]:
    """Return what the role must install before the units can run: package or account.

    :raises OllamaError: ``textfile_directory_missing``, ``textfile_taken``.
    """
    steps = []
    with _textfile_dir(wanted) as handle:
        if handle is None and wanted.exporter is None:
            raise OllamaError(
                "textfile_directory_missing",
                f"ollama_monitoring_textfile_directory: {wanted.textfile_dir} does not exist; expected the directory "
                "of node_exporter's textfile collector, or ollama_monitoring_install_exporter: true",
            )
        if handle is None:
            steps.append("package")
        elif _target(handle) == "":
            path = link_path(wanted)
            raise OllamaError("textfile_taken", f"{path}: not a link of this role; expected no such file; remove it")
    try:
        pwd.getpwnam(wanted.user)
    except KeyError:
        steps.append("account")
    return steps


def differing(wanted: Wanted) -> dict[str, bytes]:
    """Return the files of root that are missing or different, including the program, with their wanted content."""
    contents = {path: text.encode() for path, text in wanted.files.items()}
    contents[PROGRAM] = archive(interpreter())
    return {path: content for path, content in contents.items() if _differs(path, content, mode_of(path))}


def obsolete(wanted: Wanted) -> list[str]:
    """Return the paths of units on the host that are no longer requested, such as those for a removed server."""
    paths = [f"{UNIT_DIR}/{unit}" for unit in UNITS]
    return [path for path in paths if path not in wanted.files and os.path.lexists(path)]


def remove_obsolete(paths: t.Sequence[str]) -> None:
    """Stop and remove units."""
    units = [os.path.basename(path) for path in paths]
    if units:
        _systemctl("disable", "--quiet", "--now", *units)
    for path in paths:
        os.unlink(path)


def mode_of(path: str) -> int:
    """Return the mode of a file."""
    return 0o755 if path == PROGRAM else 0o644


def _differs(path: str, content: bytes, mode: int) -> bool:
    try:
        info = os.lstat(path)
        with open(path, "rb") as file:
            found = file.read(len(content) + 1)
    except OSError:
        return True
    return (found, stat.S_IMODE(info.st_mode), info.st_uid) != (content, mode, os.geteuid())


def put(path: str, content: bytes, mode: int) -> None:
    """Write a file of root atomically, and create its directory."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    fs.write_atomic(path, content, mode)


def link(wanted: Wanted) -> bool:
    """Return whether the link must be created."""
    with _textfile_dir(wanted) as handle:
        return handle is None or _target(handle) != OUTPUT


def make_link(wanted: Wanted) -> None:
    """Create the link, or replace an earlier one."""
    with _textfile_dir(wanted) as handle:
        if handle is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(LINK, dir_fd=handle)
            os.symlink(OUTPUT, LINK, dir_fd=handle)


def record(wanted: Wanted, installed: str | None) -> None:
    """Record this converge for the metrics.

    :param installed: the package that the role has installed, or None.
    """
    before = read_record()
    after = {
        "installed": before.get("installed") or time.time(),
        "package": installed or before.get("package"),
        "converged": time.time(),
        "changes": wanted.changes,
    }
    os.makedirs(STATE_DIR, mode=0o755, exist_ok=True)
    fs.write_atomic(RECORD, json.dumps(after, sort_keys=True) + "\n")


def read_record() -> dict[str, t.Any]:
    """Return the record, or {} if there is none."""
    try:
        return dict(json.loads(read_regular(RECORD, 1 << 20)))
    except (OSError, ValueError, TypeError):
        return {}


def inactive(wanted: Wanted) -> list[str]:
    """Return the timers that are not running or do not start at boot, and the metrics if they are missing."""
    found = [] if os.path.exists(OUTPUT) else [OUTPUT]
    for timer in wanted.timers:
        state = _systemctl("show", "--property", "ActiveState,UnitFileState", timer)[1].split()
        if not {"ActiveState=active", "UnitFileState=enabled"} <= set(state):
            found.append(timer)
    return found


def start(wanted: Wanted) -> None:
    """Load the units, start the timers, and write the metrics once.

    :raises OllamaError: ``unit_failed``, ``metrics_failed``.
    """
    timers, service = wanted.timers, f"{METRICS}.service"
    # A collection that the timer has started uses the earlier configuration, and "start" would only wait for it.
    for arguments in (("daemon-reload",), ("stop", service), ("enable", "--quiet", *timers), ("restart", *timers)):
        status, output = _systemctl(*arguments)
        if status != 0:
            raise OllamaError("unit_failed", f"systemctl {arguments[0]}: {_line(output)}")
    status, output = _systemctl("start", service)
    if status != 0:
        journal = ("journalctl", "--unit", METRICS, "--lines=1", "--output=cat", f"--identifier={METRICS}")
        raise OllamaError("metrics_failed", f"{service}: {_line(_run(*journal)[1]) or _line(output)}")


def problem() -> str | None:
    """Return what the last collection could not read, or None."""
    try:
        text = read_regular(OUTPUT, 16 << 20).decode("utf-8", "replace")
    except OSError as exc:
        return f"{OUTPUT}: {exc.strerror}"
    if "\nkaido_ollama_store_readable 0\n" in text:
        return (
            "ollama_models_dir: the monitoring account cannot read it; expected a directory that ollama_group can read"
        )
    return None


def damaged() -> dict[str, list[str]]:
    """Return the damaged models of the last scheduled verification with their problems, limited and printable."""
    models = sorted(Findings.load(FINDINGS).models.items())[:_MAX_MODELS]
    return {_printable(name): [_printable(text) for text in texts[:10]] for name, texts in models}


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])


def present(wanted: Wanted) -> list[str]:
    """Return the paths on the host that `remove` removes."""
    stamps = [f"{STAMP_DIR}/stamp-{timer}" for timer in TIMERS]
    paths = [*(f"{UNIT_DIR}/{unit}" for unit in UNITS), *stamps, PROGRAM, CONFIG_DIR, RUNTIME_DIR, STATE_DIR]
    linked = False
    # An unexpected entry instead of the directory does not prevent the removal of the other files.
    with contextlib.suppress(OllamaError), _textfile_dir(wanted) as handle:
        linked = handle is not None and bool(_target(handle))
    return [path for path in paths if os.path.lexists(path)] + ([link_path(wanted)] if linked else [])


def remove(wanted: Wanted) -> None:
    """Stop the units and remove all files. The record is removed last, so that a later run completes the removal."""
    _systemctl("disable", "--quiet", "--now", *TIMERS)
    _systemctl("stop", *(unit for unit in UNITS if unit not in TIMERS))
    paths = present(wanted)
    with contextlib.suppress(OllamaError), _textfile_dir(wanted) as handle:
        if handle is not None and _target(handle):
            os.unlink(LINK, dir_fd=handle)
    for path in sorted(paths, key=lambda path: path == STATE_DIR):
        if path != link_path(wanted):
            fs.remove(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(PROGRAM))
    _systemctl("daemon-reload")
    _systemctl("reset-failed", *(unit for unit in UNITS if unit not in TIMERS))


def _systemctl(*arguments: str) -> tuple[int, str]:
    return _run("systemctl", *arguments)


def _run(*argv: str) -> tuple[int, str]:
    done = command.run(argv, timeout=300)
    return done.status, done.stdout + done.stderr


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
