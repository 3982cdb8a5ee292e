#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module release: one version of Ollama on a host, from an archive with a known checksum."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install and switch releases of Ollama
version_added: 0.1.0
description:
  - Downloads the archives of a release, compares their checksums, unpacks them beside the release in use, looks
    whether it is whole and runs its C(ollama --version); only then it flips the link C(current), atomically.
  - Whatever fails leaves the release in use as it was. The next run continues an interrupted download.
  - Going back to a release that was kept downloads nothing.
  - What the vendor's script installed beside the directory O(bin_dir) is taken over. It becomes a release that was
    kept, and its libraries are removed from where they were. Models are not touched.
  - A running server notices nothing; restart it afterwards.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
    details: Nothing is downloaded, so a missing archive or a wrong checksum shows only in a real run.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  version:
    description: The release, for example V(0.35.1).
    type: str
    required: true
  checksum:
    description:
      - The checksum of the base archive, V(sha256:) and 64 hexadecimal digits.
      - With neither this nor O(checksums), only a release that is on the host already can be switched to.
    type: str
  checksums:
    description: Checksums by archive, for example of V(ollama-linux-amd64-rocm.tar.zst).
    type: dict
    default: {}
  variants:
    description:
      - Archives that lie over the base one, V(rocm) and V(mlx) for amd64, V(jetpack5) and V(jetpack6) for arm64.
      - Adding one to a release that is there downloads only that one.
    type: list
    elements: str
    choices: [rocm, mlx, jetpack5, jetpack6]
    default: []
  base_url:
    description:
      - Where releases are; below it the layout is upstream's, C(v<version>/<archive>).
      - With C(file:///), a directory on the host, or the directory C(releases) in a bundle that
        M(kaido.ollama.model_export) wrote, for example V(file:///media/usb/llm.tar/releases). An archive that a user
        other than root can change is copied to O(install_dir) first.
    type: str
    default: https://github.com/ollama/ollama/releases/download
  proxy:
    description:
      - The proxy for the download, for example V(http://proxy.lan:3128).
      - Otherwise the environment variables C(https_proxy), C(http_proxy) and C(no_proxy) of the task apply.
    type: str
  install_dir:
    description: Where releases live. Only root may be able to change this directory and its parents.
    type: path
    default: /opt/ollama
  bin_dir:
    description: Where the link C(ollama) to the program is made. The directory's owner and mode stay as they are.
    type: path
    default: /usr/local/bin
  keep:
    description: How many releases stay on the host, the one in use included; V(1) leaves none to go back to.
    type: int
    default: 2
  activate:
    description: Whether to make it the release in use; V(false) only brings it onto the host.
    type: bool
    default: true
  timeout:
    description: Seconds for which the download may stand still.
    type: float
    default: 60
  retries:
    description: Attempts in a row without progress before the download is given up.
    type: int
    default: 5
  ca_path:
    description: A file with certificate authorities to trust, for a server of your own.
    type: path
requirements:
  - the library C(libzstd.so.1), which package managers need themselves, or the program C(zstd) on the host, when there
    is something to install
notes:
  - The codes in RV(failure.code) are C(bad_version), C(invalid_checksum), C(unknown_checksum), C(bad_option),
    C(unsupported_architecture), C(unsupported_variant), C(foreign_install), C(release_missing), C(download_refused),
    C(server_error), C(unreachable), C(stalled), C(connection_lost), C(tls), C(checksum_mismatch), C(disk_full),
    C(no_zstd), C(bad_archive), C(incomplete_release), C(wrong_version), C(install_dir_unsafe),
    C(install_dir_unwritable) and C(busy).
seealso:
  - module: kaido.ollama.preflight
"""

EXAMPLES = r"""
- name: Install Ollama 0.35.1
  kaido.ollama.release:
    version: 0.35.1
    checksum: sha256:9fcd79ac4575b2bd31b992eee18b1000c8ad126b451627c8f8cd091714cfbb10

- name: Install the next release without switching to it
  kaido.ollama.release:
    version: 0.40.2
    checksum: sha256:726bee78706c281b0eeef00746efe51a044d71c592c3f0b195820707f31fdf04
    base_url: http://hecate.lan:11480/releases/download
    activate: false

- name: Roll back to a release that was kept
  kaido.ollama.release:
    version: 0.34.4

- name: Install it with the libraries for AMD GPUs, from files on the host
  kaido.ollama.release:
    version: 0.35.1
    variants: [rocm]
    base_url: file:///srv/ollama
    checksums:
      ollama-linux-amd64.tar.zst: 9fcd79ac4575b2bd31b992eee18b1000c8ad126b451627c8f8cd091714cfbb10
      ollama-linux-amd64-rocm.tar.zst: "{{ rocm_checksum }}"
"""

RETURN = r"""
version:
  description: The release in use afterwards.
  returned: success
  type: str
  sample: 0.35.1
version_before:
  description: The release that was in use before; V(null) when there was none.
  returned: success
  type: str
  sample: 0.34.4
path:
  description: Where the wanted release is.
  returned: success
  type: str
  sample: /opt/ollama/releases/0.35.1
bytes_downloaded:
  description: What was transferred, repeated parts included.
  returned: success
  type: int
  sample: 1439658961
kept:
  description: The releases on the host afterwards.
  returned: success
  type: list
  elements: str
  sample: [0.34.4, 0.35.1]
removed:
  description: The releases that were, or in check mode would be, removed.
  returned: success
  type: list
  elements: str
  sample: []
actions:
  description: What was, or in check mode would be, done, in words.
  returned: success
  type: list
  elements: str
  sample: [switch from 0.34.4 to 0.35.1]
failure:
  description: Why it failed.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable name of the kind of failure, see the notes.
      type: str
      returned: always
    message:
      description: The same as RV(ignore:msg).
      type: str
      returned: always
"""

import os
import platform
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError
from ..module_utils._release import release
from ..module_utils._server.argspec import finish


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring the release to the wanted state; returns the module's result."""
    release.parse_version(params["version"])
    for option in ("keep", "retries"):
        if params[option] < 1:
            raise OllamaError(
                "bad_option", f"{option}: {params[option]} is not allowed; allowed is a number of at least 1"
            )
    if params["proxy"]:
        # Not by the task's environment: that would show on the host's list of processes.
        os.environ.update(http_proxy=params["proxy"], https_proxy=params["proxy"])
    wanted = release.Wanted(
        archives=_archives(params),
        **{name: value for name, value in params.items() if name not in ("checksum", "checksums", "variants", "proxy")},
    )
    with release.disk_errors(wanted.install_dir):
        return _run(wanted, check_mode)


def _run(wanted: release.Wanted, check_mode: bool) -> dict[str, t.Any]:
    before = release.look(wanted.install_dir, wanted.bin_dir)
    if wanted.activate:
        release.check_foreign(before, wanted.install_dir, wanted.bin_dir)
    steps = release.plan(before, wanted)
    removed = release.surplus(before, wanted)
    known = [*before.releases, wanted.version] if not wanted.activate else [*before.known, wanted.version]
    received = release.apply(before, wanted) if steps and not check_mode else 0
    version = wanted.version if wanted.activate else before.current
    kept = sorted(set(known) - set(removed), key=release.parse_version)
    return {
        "changed": bool(steps),
        "version": version,
        "version_before": before.used,
        "path": wanted.path,
        "bytes_downloaded": received,
        "kept": kept,
        "removed": removed,
        "actions": list(steps.values()),
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
                "unknown_checksum", f"checksums: {name} is missing; here are {', '.join(given)}", archive=name
            )
    return {name: release.parse_checksum(given[name], what="checksum of " + name) for name in names}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "checksum": {"type": "str"},
            "checksums": {"type": "dict", "default": {}},
            "variants": {"type": "list", "elements": "str", "choices": list(release.VARIANTS), "default": []},
            "base_url": {"type": "str", "default": release.BASE_URL},
            "proxy": {"type": "str", "no_log": True},
            "install_dir": {"type": "path", "default": "/opt/ollama"},
            "bin_dir": {"type": "path", "default": "/usr/local/bin"},
            "keep": {"type": "int", "default": 2},
            "activate": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 60},
            "retries": {"type": "int", "default": 5},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
