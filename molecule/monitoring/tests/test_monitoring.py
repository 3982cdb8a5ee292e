"""What runs on a monitored host, and as which account."""

from __future__ import annotations

import typing as t

import pytest

UNITS = ("kaido-ollama-metrics", "kaido-ollama-verification")


@pytest.mark.parametrize("name", UNITS)
def test_the_timers_are_there_to_stay_and_the_units_are_confined(host: t.Any, name: str) -> None:
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
    assert len(parts) == 6
    assert not [line for line in parts if not line.endswith(" 1")]
    assert any(line.startswith('kaido_ollama_gateway_queued_requests{backend="inference-') for line in lines)
    assert any(line.startswith("kaido_ollama_gateway_requests_total ") for line in lines)
    assert any(line.startswith("kaido_ollama_converge_timestamp_seconds ") for line in lines)
    # The text as a whole was accepted.
    assert "node_textfile_scrape_error 0" in text.splitlines()


def test_the_account_writes_nothing_but_its_own_directories(host: t.Any) -> None:
    found = host.check_output("find / -xdev -user ollama-monitoring -not -path '/proc/*'").split()
    assert not [path for path in found if not path.startswith(("/run/", "/var/lib/kaido-ollama-monitoring/"))]


def test_the_state_of_the_converge_stays_closed(host: t.Any) -> None:
    assert host.file("/var/lib/kaido-ollama").mode == 0o700
    assert host.file("/var/lib/kaido-ollama-monitoring/converge.json").user == "root"
