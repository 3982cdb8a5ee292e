# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a monitored host, their account and their metrics."""

from __future__ import annotations

import typing as t

import pytest

UNITS = ("kaido-ollama-metrics", "kaido-ollama-verification")


@pytest.mark.parametrize("name", UNITS)
def test_the_timers_are_enabled_and_the_units_are_sandboxed(host: t.Any, name: str) -> None:
    timer = host.service(f"{name}.timer")
    assert timer.is_running
    assert timer.is_enabled
    shown = host.service(f"{name}.service").systemd_properties
    assert shown["User"] == "ollama-monitoring"
    assert shown["NoNewPrivileges"] == "yes"
    assert shown["ProtectSystem"] == "strict"
    verdict = host.check_output(f"systemd-analyze security --no-pager {name}.service").splitlines()[-1]
    assert float(verdict.split(": ")[1].split()[0]) <= 1.6, verdict
    assert host.user("ollama-monitoring").uid != 0
    assert host.user("ollama-monitoring").groups == ["ollama-monitoring"]


def test_node_exporter_shows_the_metrics(host: t.Any) -> None:
    text = host.check_output("curl --silent --fail http://127.0.0.1:9100/metrics")
    lines = [line for line in text.splitlines() if line.startswith("kaido_ollama_")]
    for line in ("kaido_ollama_up 1", "kaido_ollama_store_readable 1", "kaido_ollama_gateway_up 1"):
        assert line in lines, lines
    parts = [line for line in lines if line.startswith("kaido_ollama_collector_success")]
    assert len(parts) == 7
    assert not [line for line in parts if not line.endswith(" 1")]
    assert any(line.startswith('kaido_ollama_gateway_queued_requests{backend="inference-') for line in lines)
    assert any(line.startswith("kaido_ollama_gateway_requests_total ") for line in lines)
    assert any(line.startswith("kaido_ollama_converge_timestamp_seconds ") for line in lines)
    # The complete text was accepted.
    assert "node_textfile_scrape_error 0" in text.splitlines()


def test_the_account_writes_nothing_but_its_own_directories(host: t.Any) -> None:
    found = host.check_output("find / -xdev -user ollama-monitoring -not -path '/proc/*'").split()
    assert not [path for path in found if not path.startswith(("/run/", "/var/lib/kaido-ollama-monitoring/"))]


def test_the_account_can_plant_nothing_that_node_exporter_opens(host: t.Any) -> None:
    folder = host.file("/run/kaido-ollama-monitoring")
    assert (folder.user, folder.mode) == ("root", 0o755)
    assert host.file("/run/kaido-ollama-monitoring/kaido_ollama.prom").user == "root"
    assert host.file("/run/kaido-ollama-monitoring/collected").user == "ollama-monitoring"
    for command in ("mkfifo {}/x", "rm -f {}/kaido_ollama.prom", "mv {}/collected {}/y"):
        line = command.replace("{}", "/run/kaido-ollama-monitoring")
        assert host.run(f"runuser -u ollama-monitoring -- {line}").rc != 0, line
    host.check_output(
        "systemctl stop kaido-ollama-metrics.timer kaido-ollama-metrics.service && "
        "runuser -u ollama-monitoring -- sh -c 'cd /run/kaido-ollama-monitoring/collected && rm metrics.prom && "
        "mkfifo metrics.prom' && timeout 10 curl --silent --fail --output /dev/null http://127.0.0.1:9100/metrics && "
        "systemctl start kaido-ollama-metrics.service kaido-ollama-metrics.timer"
    )
    assert host.file("/run/kaido-ollama-monitoring/collected/metrics.prom").is_file


def test_the_state_of_the_converge_stays_closed(host: t.Any) -> None:
    assert host.file("/var/lib/kaido-ollama").mode == 0o700
    assert host.file("/var/lib/kaido-ollama-monitoring/converge.json").user == "root"
