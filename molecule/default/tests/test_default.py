"""What the hosts look like after a converge, seen over SSH as ops with sudo."""

from __future__ import annotations

from testinfra.host import Host


def test_mark(host: Host) -> None:
    mark = host.file("/etc/kaido-lab-mark")
    assert mark.user == "root"
    assert mark.content_string.strip() in {"12", "13"}
    assert host.run("systemctl is-system-running").stdout.strip() == "running"
