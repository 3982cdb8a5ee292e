# SPDX-License-Identifier: GPL-3.0-or-later
"""The vendor's installation was taken over: its models are unchanged, and nothing of the old installation is left."""

from __future__ import annotations

import typing as t


def test_the_models_are_the_same_files(host: t.Any) -> None:
    now = host.check_output("cd /usr/share/ollama/.ollama/models/blobs && stat -c '%n %i %Y' -- *")
    assert now == host.file("/root/blobs-before").content_string.strip()
    assert len(now.splitlines()) >= 4


def test_the_adopted_version_is_a_kept_release(host: t.Any) -> None:
    assert host.check_output("ls -A /opt/ollama/releases").split() == ["0.34.4", "0.35.1"]
    assert host.file("/opt/ollama/releases/0.34.4/lib/ollama/llama-server").is_file
    assert not host.file("/usr/local/lib/ollama").exists


def test_drop_ins_are_kept_and_the_unit_is_backed_up(host: t.Any) -> None:
    drop_in = host.file("/etc/systemd/system/ollama.service.d/override.conf").content_string
    assert "OLLAMA_KEEP_ALIVE=1h" in drop_in
    environ = host.check_output("tr '\\0' '\\n' </proc/$(systemctl show --property MainPID --value ollama)/environ")
    assert "OLLAMA_KEEP_ALIVE=1h" in environ.splitlines()
    assert "OLLAMA_MAX_QUEUE=64" in host.file("/var/lib/kaido-ollama/adopted.service").content_string


def test_usr_local_belongs_to_root(host: t.Any) -> None:
    assert host.check_output("find /usr/local -not -user root -o -not -group root -a -not -group staff") == ""


def test_the_process_is_confined(host: t.Any) -> None:
    """As reported by the kernel, not by the unit."""
    pid = host.check_output("systemctl show --property MainPID --value ollama")
    status = dict(line.split(":\t", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines())
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16)) == ("1", "2", 0)
    mounts = [line.split() for line in host.file(f"/proc/{pid}/mountinfo").content_string.splitlines()]
    assert [fields[5].split(",")[0] for fields in mounts if fields[4] == "/"][-1] == "ro"
