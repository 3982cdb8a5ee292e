# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_verify: from the disk alone, and repairing against the stand-in."""

from __future__ import annotations

import json
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources
from ansible_collections.kaido.ollama.plugins.modules import model_verify

from tests import standin
from tests.conftest import ROOT
from tests.standin.registry import Registry

FIXTURES = ROOT / "tests" / "fixtures"
WEIGHTS = "a909f554de2d9f495deb26ab065ecc27aa053c2ba9b004cad87101aaf0bfc917"

Verify = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(params=["store-v1", "store-v2"])
def models_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / request.param, tmp_path / "models", symlinks=True))


@pytest.fixture
def verify(models_dir: Path, tmp_path: Path, run_module: t.Any) -> Verify:
    def run(*, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        defaults = {
            "models_dir": str(models_dir),
            "state_dir": str(tmp_path / "state"),
            "api_url": "http://127.0.0.1:1",
        }
        result: dict[str, t.Any] = run_module(model_verify, {**defaults, **params}, check=check)
        return result

    return run


def damage(models_dir: Path) -> Path:
    path = models_dir / "blobs" / f"sha256-{WEIGHTS}"
    path.write_bytes(bytes(path.stat().st_size))
    return path


def test_an_intact_store_needs_no_server(verify: Verify) -> None:
    result = verify()
    assert not result["failed"], result
    assert not result["changed"]
    assert result["damaged"] == []
    assert {"tiny:latest", "kaido/tiny2:q8"} <= {row["name"] for row in result["models"]}
    assert result["hashed_blobs"] == result["blobs"]
    assert result["summary"].startswith(f"{len(result['models'])} models, 0 damaged; read: {result['blobs']} blobs, ")


def test_check_mode_writes_nothing(verify: Verify, tmp_path: Path) -> None:
    assert not verify(check=True)["failed"]
    assert not (tmp_path / "state").exists()


def test_a_second_survey_reads_blobs_only_on_request(verify: Verify) -> None:
    verify()
    assert verify()["hashed_bytes"] == 0
    assert verify(mode="full")["hashed_bytes"] > 900_000


def test_damage_fails_and_is_named(verify: Verify, models_dir: Path) -> None:
    damage(models_dir)
    result = verify()
    assert result["failure"]["code"] == "verification_failed"
    assert f"tiny:latest: model sha256:{WEIGHTS[:12]} has wrong content" in result["msg"]
    assert "tiny:latest" in result["damaged"]
    assert "kaido/tiny2:q8" not in result["damaged"]
    assert verify(fail_on=[])["damaged"] == result["damaged"]


def test_only_the_named_models_are_examined(verify: Verify, models_dir: Path) -> None:
    damage(models_dir)
    assert not verify(names=["kaido/tiny2:q8"])["failed"]
    assert verify(names=["tiny"])["failed"]
    result = verify(names=["nope"])
    assert (result["failure"]["code"], "nope:latest" in result["msg"]) == ("model_missing", True)


def test_leftovers_fail_on_request(verify: Verify, models_dir: Path) -> None:
    (models_dir / "blobs" / "stray.txt").write_text("x")
    (models_dir / "blobs" / ("sha256-" + "1" * 64 + "-partial")).write_bytes(b"abc")
    result = verify()
    assert not result["failed"]
    assert {"file": "stray.txt", "size": 1} in result["orphans"]
    assert result["partials"][0]["age_seconds"] >= 0
    assert verify(fail_on=["orphans"])["failed"]
    assert verify(fail_on=["partials"])["failed"]


def test_the_report_is_a_file(verify: Verify, models_dir: Path, tmp_path: Path) -> None:
    damage(models_dir)
    path = tmp_path / "report.json"
    verify(report_file=str(path), check=True, fail_on=[])
    assert not path.exists()
    verify(report_file=str(path), fail_on=[])
    assert "tiny:latest" in json.loads(path.read_text())["damaged"]
    result = verify(report_file=str(tmp_path / "none" / "report.json"), fail_on=[])
    assert result["failure"]["code"] == "report_unwritable"


def test_no_store_is_one_line(verify: Verify, tmp_path: Path) -> None:
    result = verify(models_dir=str(tmp_path / "none"))
    assert result["failure"]["code"] == "store_unreadable"
    assert str(tmp_path / "none") in result["msg"]


@pytest.mark.parametrize("part", ["weights", "manifest"])
def test_repair_is_predicted_then_applied_then_unchanged(
    verify: Verify, models_dir: Path, part: str, tmp_path: Path
) -> None:
    version = "0.40.2" if (models_dir / "manifests-v2").exists() else "0.35.1"
    if part == "weights":
        damage(models_dir)
    else:
        [path] = models_dir.glob("manifests*/*/library/tiny/latest")
        path.unlink()
        path.write_bytes(b"")
    with Registry(FIXTURES / "store-v1") as registry, standin.running(version, models_dir) as server:
        options = {"api_url": server.url, "repair": True, "mirrors": [f"http://{registry.host}"], "names": ["tiny"]}
        if part == "manifest":
            # Nothing contains the digest any more.
            assert verify(**options)["failure"]["code"] == "mirror_unverified"
        options["mirrors_trusted"] = True
        predicted = verify(check=True, **options)
        assert predicted["changed"]
        assert predicted["damaged"] == ["tiny:latest"]
        done = verify(**options)
        assert not done["failed"], done
        assert done["repaired"] == ["tiny:latest"]
        assert done["damaged"] == []
        assert not verify(check=True, **options)["changed"]
        assert not verify(**options)["changed"]
    assert not verify(mode="full", names=["tiny"])["failed"]


def test_repair_without_a_server_is_one_line(verify: Verify, models_dir: Path) -> None:
    path = damage(models_dir)
    result = verify(repair=True)
    assert result["failure"]["code"] == "server_unreachable"
    assert path.exists(), "nothing is removed that cannot be fetched"


def test_a_declared_model_that_is_missing_is_a_finding(tmp_path: Path, run_module: t.Any) -> None:
    """An empty mount point verifies nothing, and is no success."""
    (tmp_path / "models" / "blobs").mkdir(parents=True)
    places = {"models_dir": str(tmp_path / "models"), "state_dir": str(tmp_path / "state")}
    declared = ["Tiny", {"name": "b", "aliases": ["chat"]}, {"name": "gone", "state": "absent"}]
    failed = run_module(model_verify, {**places, "declared": declared})
    assert failed["failure"]["code"] == "verification_failed"
    assert failed["damaged"] == ["Tiny:latest", "b:latest", "chat:latest"]
    assert failed["models"][0]["problems"] == [f"declared, but missing in {tmp_path / 'models'}"]
    assert not run_module(model_verify, {**places, "declared": []})["failed"]
    bad = run_module(model_verify, {**places, "declared": ["ok", {"nam": "x"}]})
    assert bad["msg"].startswith("declared[1]: ")


def test_a_repair_uses_the_given_environment_for_registries(
    verify: Verify, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = "0.40.2" if (models_dir / "manifests-v2").exists() else "0.35.1"
    damage(models_dir)
    seen: list[t.Any] = []

    def refuse(_source: object, name: object, **options: t.Any) -> t.NoReturn:
        seen.append(options["environment"]["HTTPS_PROXY"])
        raise OllamaError("tag_missing", f"{name}: the registry has no such model or tag")

    monkeypatch.setattr(sources, "look_up", refuse)
    environment = {"HTTPS_PROXY": "http://proxy.lan:3128"}
    with standin.running(version, models_dir) as server:
        result = verify(api_url=server.url, repair=True, names=["tiny"], registry_environment=environment)
    assert result["failure"]["code"] == "tag_missing"
    assert seen == ["http://proxy.lan:3128"]
