# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for directories of a server: their form, and those that the system uses. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import shlex

from .._core.errors import OllamaError

PATH = re.compile(r"(/[A-Za-z0-9._+:@-]+)+\Z")
# Directories of the system, including everything below them.
_SYSTEM_TREES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run", "/sbin"),
    *("/sys", "/tmp", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin"),
    *("/usr/local/bin", "/usr/local/sbin", "/usr/local/lib", "/var/run", "/var/lock", "/var/tmp", "/var/log"),
    *("/var/spool", "/etc/ollama", "/var/lib/kaido-ollama"),
)
# Desktop systems mount disks at /run/media/USER/DISK.
_REMOVABLE = "/run/media/"
# Directories of the system that may contain a dedicated directory.
_SYSTEM_DIRECTORIES = (
    *("/", "/home", "/opt", "/root", "/usr", "/usr/local", "/usr/local/share", "/usr/share", "/usr/src", "/var"),
    *(
        "/var/lib",
        "/var/local",
        "/var/opt",
        "/var/backups",
        "/var/mail",
        "/var/cache",
        "/usr/local/etc",
        "/usr/games",
        "/snap",
    ),
)


def normal(path: str) -> str:
    """Return a path without redundant slashes, so that unit, environment and modules use the same form. Pure."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts) if path.startswith("/") else path.rstrip("/")


def bind_mount(path: str, target: str) -> str:
    """Return the commands that make a directory available at another path. Pure."""
    quoted = shlex.quote(path) if path.isprintable() else ascii(path)
    return f"mkdir -p {target} && mount --bind {quoted} {target}"


def check_paths(models_dir: str, install_dir: str, home: str) -> None:
    """Refuse directories that no host can use because of their form, use by the system, or overlap. Pure.

    :raises OllamaError: ``value_invalid``.
    """
    for variable, path in (("ollama_models_dir", models_dir), ("ollama_install_dir", install_dir)):
        why = _malformed(path, variable) or place(path)
        if why:
            raise OllamaError("value_invalid", f"{variable}: invalid value {path!r}; {why}", variable=variable)
    if within(models_dir, install_dir) or within(install_dir, models_dir):
        raise OllamaError(
            "value_invalid",
            f"ollama_models_dir: invalid value {models_dir!r}; expected a directory that is neither above nor below "
            f"ollama_install_dir ({install_dir})",
            variable="ollama_models_dir",
        )
    if within(install_dir, home) or within(home, install_dir):
        raise OllamaError(
            "value_invalid",
            f"ollama_install_dir: invalid value {install_dir!r}; expected a directory outside of {home}, which belongs "
            "to the service account",
            variable="ollama_install_dir",
        )


def _malformed(path: str, variable: str) -> str | None:
    if path.startswith("~"):
        return "expected an absolute path, as ~ is not expanded"
    if not path.startswith("/"):
        return "expected an absolute path"
    if ".." in path.split("/"):
        return "expected a path without .."
    if not PATH.match(path) and path != "/":
        return (
            "expected a path of letters, digits and /._+:@- (systemd units treat others specially); create another "
            f"path for it, for example with: {bind_mount(path, '/srv/' + variable.replace('_', '-'))}"
        )
    return None


def place(path: str) -> str | None:
    """Return why a directory belongs to the system and cannot be used, or None. Pure."""
    if path.startswith(_REMOVABLE):
        return None
    if path in _SYSTEM_DIRECTORIES or any(within(path, tree) for tree in _SYSTEM_TREES):
        return "expected a dedicated directory; this one belongs to the system"
    return None


def within(path: str, tree: str) -> bool:
    return path == tree or path.startswith(tree.rstrip("/") + "/")
