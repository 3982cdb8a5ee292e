#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module release: install one version of Ollama from archives with known checksums."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install and switch releases of Ollama
version_added: 1.0.0
description:
  - Downloads the archives of a release, verifies their checksums, unpacks them beside the release in use, checks that
    the result is complete and runs its C(ollama --version). Only then the link C(current) is switched, atomically.
  - After a failure the release in use is unchanged. The next run resumes an interrupted download.
  - A rollback to a kept release downloads nothing.
  - An installation by Ollama's install script in the parent directory of O(bin_dir) is adopted. It becomes a kept
    release, and its libraries are removed from their directory. Models are not changed.
  - A running server is not affected; restart it afterwards.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
    details: Nothing is downloaded, so a missing archive or a wrong checksum is found only outside of check mode.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  version:
    description: Version of the release, for example V(0.35.1).
    type: str
    required: true
  checksum:
    description:
      - Checksum of the base archive, V(sha256:) and 64 hexadecimal digits.
      - With neither this option nor O(checksums), only releases that are already on the host are available.
    type: str
  checksums:
    description: Checksums by archive name, for example V(ollama-linux-amd64-rocm.tar.zst).
    type: dict
    default: {}
  variants:
    description:
      - Archives to unpack over the base archive, V(rocm) and V(mlx) for amd64, V(jetpack5) and V(jetpack6) for arm64.
      - Adding a variant to an installed release downloads only the archive of the variant.
    type: list
    elements: str
    choices: [rocm, mlx, jetpack5, jetpack6]
    default: []
  base_url:
    description:
      - Base URL of the archives; below it the layout is that of the official site, C(v<version>/<archive>).
      - With C(file:///), a directory on the host, or the directory C(releases) in a bundle that
        M(kaido.ollama.model_export) wrote, for example V(file:///media/usb/llm.tar/releases). An archive that a user
        other than root can change is copied to O(install_dir) first.
    type: str
    default: https://github.com/ollama/ollama/releases/download
  proxy:
    description:
      - Proxy for the download, for example V(http://proxy.lan:3128).
      - Without it O(environment) applies.
    type: str
  environment:
    description:
      - Environment variables for the download, as O(kaido.ollama.model#module:registry_environment).
      - A variable that is not set here is read from the environment of the task.
    type: dict
    default: {}
  install_dir:
    description: Directory of the releases. Only root may be able to change this directory and its parents.
    type: path
    default: /opt/ollama
  bin_dir:
    description: Directory of the link C(ollama) to the program. Its owner and mode are not changed.
    type: path
    default: /usr/local/bin
  keep:
    description: Number of releases to keep, including the one in use; with V(1) no rollback is possible.
    type: int
    default: 2
  activate:
    description: Whether to switch to the release; with V(false) it is only installed.
    type: bool
    default: true
  download_dir:
    description: An existing directory to which the archives are downloaded under their names, and nothing else is done.
    type: path
  timeout:
    description: Seconds without received data after which the download is interrupted.
    type: float
    default: 60
  retries:
    description: Consecutive attempts without progress after which the download fails.
    type: int
    default: 5
  ca_path:
    description: File with the certificate authorities to trust, for a release site with a private authority.
    type: path
requirements:
  - the library C(libzstd.so.1), on which package managers depend, or the program C(zstd), to install a release
notes:
  - The codes in RV(failure.code) are C(version_invalid), C(digest_invalid), C(checksum_unknown), C(value_invalid),
    C(architecture_unsupported), C(variant_unsupported), C(installation_foreign), C(release_missing),
    C(download_refused), C(server_error), C(server_unreachable), C(connection_stalled), C(connection_lost),
    C(tls_failed), C(checksum_mismatch), C(disk_full), C(response_invalid), C(url_invalid), C(program_missing),
    C(archive_invalid), C(release_incomplete), C(version_mismatch), C(install_dir_unsafe),
    C(install_dir_unwritable) and C(lock_held).
seealso:
  - module: kaido.ollama.preflight
"""

EXAMPLES = r"""
- name: Install Ollama 0.35.1
  kaido.ollama.release:
    version: 0.35.1
    checksum: sha256:9fcd79ac4575b2bd31b992eee18b1000c8ad126b451627c8f8cd091714cfbb10
  become: true

- name: Install the next release without switching to it
  kaido.ollama.release:
    version: 0.40.2
    checksum: sha256:726bee78706c281b0eeef00746efe51a044d71c592c3f0b195820707f31fdf04
    base_url: http://hecate.lan:11480/releases/download
    activate: false
  become: true

- name: Roll back to a kept release
  kaido.ollama.release:
    version: 0.34.4
  become: true

- name: Install a release with the libraries for AMD GPUs, from files on the host
  kaido.ollama.release:
    version: 0.35.1
    variants: [rocm]
    base_url: file:///srv/ollama
    checksums:
      ollama-linux-amd64.tar.zst: 9fcd79ac4575b2bd31b992eee18b1000c8ad126b451627c8f8cd091714cfbb10
      ollama-linux-amd64-rocm.tar.zst: "{{ rocm_checksum }}"
  become: true

- name: Download the archives for hosts without a network
  kaido.ollama.release:
    version: 0.35.1
    checksum: sha256:9fcd79ac4575b2bd31b992eee18b1000c8ad126b451627c8f8cd091714cfbb10
    download_dir: /srv/ollama/v0.35.1
"""

RETURN = r"""
version:
  description: Version of the release in use after the module has run.
  returned: success
  type: str
  sample: 0.35.1
version_before:
  description: Version of the release in use before; V(null) if there was none.
  returned: success
  type: str
  sample: 0.34.4
path:
  description: Directory of the requested release.
  returned: success
  type: str
  sample: /opt/ollama/releases/0.35.1
bytes_downloaded:
  description: Transferred bytes, including repeated parts.
  returned: success
  type: int
  sample: 1439658961
kept:
  description: Releases on the host after the module has run.
  returned: success
  type: list
  elements: str
  sample: [0.34.4, 0.35.1]
removed:
  description: Releases that were removed, or would be removed in check mode.
  returned: success
  type: list
  elements: str
  sample: []
actions:
  description: Human-readable description of the changes that were made, or would be made in check mode.
  returned: success
  type: list
  elements: str
  sample: [switch from 0.34.4 to 0.35.1]
failure:
  description: The failure in machine-readable form.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
  sample:
    code: version_invalid
"""

import os
import platform
import typing as t

from ..module_utils._core import proxy
from ..module_utils._core.errors import OllamaError, finish
from ..module_utils._core.options import Module
from ..module_utils._core.progress import DETACH, PROGRESS_FILE, Progress
from ..module_utils._core.server import Server
from ..module_utils._models.job import new_progress_file, remove_ended
from ..module_utils._release import install, release
from ..module_utils._release.directories import disk_errors
from ..module_utils._release.download import download_archives
from ..module_utils._store.state import default_state_dir

# Seconds that a job waits for another run.
_LONGEST_WAIT = 24 * 3600.0


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Install, switch and remove releases as the parameters request; return the module's result."""
    release.parse_version(params["version"])
    for option in ("keep", "retries"):
        if params[option] < 1:
            raise OllamaError("value_invalid", f"{option}: invalid value {params[option]}; expected at least 1")
    own = ("checksum", "checksums", "variants", "proxy", "environment", "download_dir")
    # Not in the environment of the task: the process list of the host would show credentials.
    variables = proxy.parse_environment(params["environment"], what="environment")
    way = proxy.way_out(variables, params["proxy"])
    given = {name: value for name, value in params.items() if name not in own}
    progress = Progress(None if check_mode else os.environ.get(PROGRESS_FILE))
    try:
        request = release.ReleaseRequest(archives=_archives(params), environment=way, progress=progress, **given)
        detach = DETACH in os.environ and not check_mode and not request.base_url.startswith("file:")
        if params["download_dir"]:
            if detach:
                return _pending()
            received = 0 if check_mode else download_archives(request, params["download_dir"])
            return {"changed": True, "bytes_downloaded": received}
        with disk_errors(request.install_dir):
            change = install.pending(request)
            if detach and "install" in change.steps:
                return _pending()
            if change.steps and not check_mode:
                change = install.apply(request, wait=_LONGEST_WAIT if PROGRESS_FILE in os.environ else 0)
        return _result(request, change)
    finally:
        progress.finish()


def _pending() -> dict[str, t.Any]:
    """Return the result for the action plugin, which then runs this module as a job."""
    os.makedirs(default_state_dir(), mode=0o700, exist_ok=True)
    path = os.path.join(default_state_dir(), "release.json")
    remove_ended(path)
    return {"changed": False, "pending": True, "progress_file": new_progress_file(path)}


def _result(request: release.ReleaseRequest, change: install.Change) -> dict[str, t.Any]:
    before = change.state
    known = [*(before.known if request.activate else before.releases), request.version]
    version = request.version if request.activate else before.current
    kept = sorted(set(known) - set(change.removed), key=release.parse_version)
    return {
        "changed": bool(change.steps),
        "version": version,
        "version_before": before.used,
        "path": request.path,
        "bytes_downloaded": change.received,
        "kept": kept,
        "removed": change.removed,
        "actions": list(change.steps.values()),
        "diff": {
            "before": {"in_use": before.used, "kept": sorted(before.releases, key=release.parse_version)},
            "after": {"in_use": version, "kept": kept},
        },
    }


def _archives(params: t.Mapping[str, t.Any]) -> dict[str, str] | None:
    if not params["checksum"] and not params["checksums"]:
        return None
    names = release.assets(platform.machine(), params["variants"])
    given = dict(params["checksums"])
    if params["checksum"]:
        given[names[0]] = params["checksum"]
    for name in names:
        if name not in given:
            raise OllamaError(
                "checksum_unknown", f"checksums: no checksum for {name}; found {', '.join(given)}", archive=name
            )
    return {name: release.parse_checksum(given[name], what=f"checksum of {name}") for name in names}


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "version": {"type": "str", "required": True},
            "checksum": {"type": "str"},
            "checksums": {"type": "dict", "default": {}},
            "variants": {"type": "list", "elements": "str", "choices": list(release.VARIANTS), "default": []},
            "base_url": {"type": "str", "default": release.BASE_URL},
            "proxy": {"type": "str", "no_log": True},
            "environment": {"type": "dict", "default": {}},
            "install_dir": {"type": "path", "default": Server.install_dir},
            "bin_dir": {"type": "path", "default": Server.bin_dir},
            "keep": {"type": "int", "default": 2},
            "activate": {"type": "bool", "default": True},
            "download_dir": {"type": "path"},
            "timeout": {"type": "float", "default": 60},
            "retries": {"type": "int", "default": 5},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
