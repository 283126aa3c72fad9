"""What is shipped to run refloat on a schedule: systemd and Kubernetes can read it, and refloat what they run."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ruamel.yaml import YAML

from refloat.alerts.model import Alarm, Kind, document, news, seen
from refloat.cli.line import hoisted
from refloat.cli.main import whole
from refloat.flows.metrics import METRICS
from refloat.testing.world import WorldClock

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
MANUAL = (ROOT / "docs" / "SCHEDULING.md").read_text()
REFLOAT = "/opt/refloat/bin/refloat"


def asked(words: list[str]) -> Mapping[str, Any]:
    """What a command of refloat's is asked, parsed as typer does; what it complains about comes out."""
    rest = hoisted(["refloat", *words])
    _, verb, *rest = rest[rest.index("refloat") :]
    command: Any = typer.main.get_command(whole())
    return {"verb": verb, **command.commands[verb].make_context(verb, rest).params}


def unit(text: str) -> configparser.RawConfigParser:
    read = configparser.RawConfigParser(strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(text)
    return read


def commands_of(text: str) -> list[list[str]]:
    """What the units in a text run."""
    lines = re.findall(r"^Exec\w+=(.*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


# -------------------------------------------------------------------------------------------------- systemd


def test_the_service_protects_what_is_due() -> None:
    ((program, *words),) = commands_of((ROOT / "deploy/systemd/refloat-protect@.service").read_text())
    assert program == REFLOAT
    assert {"verb": "protect", "due": True}.items() <= asked(words).items()


def test_the_key_is_a_credential_and_nothing_of_the_system_is_to_be_written() -> None:
    text = (ROOT / "deploy/systemd/refloat-protect@.service").read_text()
    assert "LoadCredential=refloat.key:" in text and "REFLOAT_KEY_FILE=%d/refloat.key" in text
    service = unit(text)["Service"]
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["Type"]) == (
        "strict",
        "yes",
        "oneshot",
    )
    assert service["CapabilityBoundingSet"] == ""


def test_the_timer_ticks_each_minute_and_starts_the_service_of_its_name() -> None:
    timer = unit((ROOT / "deploy/systemd/refloat-protect@.timer").read_text())["Timer"]
    assert "Unit" not in timer and timer["OnCalendar"] == "*-*-* *:*:00"


@pytest.fixture
def systemd_analyze() -> str:
    """systemd's own check; what the units must hold is asked without it too."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("SYSTEMD UNITS NOT TRIED: there is no systemd-analyze")
    return program


def verified(
    program: str, folder: Path, change: tuple[str, str] = ("", "")
) -> subprocess.CompletedProcess[str]:
    """What systemd says of the units, where a program stands in for ours that is on this machine."""
    for path in UNITS:
        text = path.read_text().replace(REFLOAT, sys.executable)
        (folder / path.name).write_text(text.replace(*change) if change[0] else text)
    names = [path.name.replace("@.", "@chat.") for path in UNITS]
    for path, name in zip(UNITS, names, strict=True):
        (folder / name).symlink_to(path.name)
    command = [program, "verify", *(f"./{name}" for name in names)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_has_nothing_to_say_against_the_units(systemd_analyze: str, tmp_path: Path) -> None:
    found = verified(systemd_analyze, tmp_path)
    assert (found.returncode, found.stderr) == (0, "")


def test_systemd_would_notice_a_mistake(systemd_analyze: str, tmp_path: Path) -> None:
    assert "PrivateTemp" in verified(systemd_analyze, tmp_path, ("PrivateTmp", "PrivateTemp")).stderr


# ----------------------------------------------------------------------------------------------- kubernetes


def cron_job() -> Any:
    return YAML(typ="safe").load(ROOT / "deploy" / "kubernetes" / "cronjob.yaml")


def test_the_cron_job_protects_what_is_due_and_never_twice_at_once() -> None:
    job = cron_job()
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    program, *words = container["command"]
    assert program == "refloat"
    assert {"verb": "protect", "due": True}.items() <= asked(words).items()


def test_every_volume_of_the_cron_job_is_there_and_the_root_is_read_only() -> None:
    pod = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert given["REFLOAT_KEY_FILE"].startswith(mounts["key"])
    assert given["XDG_STATE_HOME"].startswith(mounts["kept"])
    assert container["securityContext"]["readOnlyRootFilesystem"]
    (key,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "key")
    assert key["defaultMode"] == 0o440


# ----------------------------------------------------------------------------------------------- the manual


def test_what_the_manual_lets_systemd_and_cron_run_can_be_run() -> None:
    lines = commands_of(MANUAL)
    lines += [shlex.split(line) for line in re.findall(rf"({REFLOAT} .*?) >/dev/null", MANUAL)]
    assert [asked(words)["verb"] for program, *words in lines if program == REFLOAT] == ["metrics", "protect"]
    assert len(lines) == 2


def test_every_metric_is_in_the_manual() -> None:
    assert [name for name in METRICS if f"| `{name}` |" not in MANUAL] == []
    assert sorted(set(re.findall(r"refloat_\w+", MANUAL)) - METRICS.keys()) == []


def test_every_alarm_and_every_key_of_what_is_sent_is_in_the_manual() -> None:
    assert [kind for kind in Kind if f"| `{kind}` |" not in MANUAL] == []
    now = WorldClock().now()
    alarm = Alarm(kind=Kind.RPO_BREACH, subject="pages", message="old")
    sent = document("small", news(seen([], [alarm], lambda one: True, now), "webhook", now, 1), now, str)
    (told,) = sent.pop("alarms")  # type: ignore[misc]
    keys = [*sent, *(f"alarms[].{key}" for key in told)]
    assert [key for key in keys if f"| `{key}` |" not in MANUAL] == []


@pytest.mark.parametrize("option", ["--Due", "--nonsense"])
def test_an_option_that_is_not_there_would_be_noticed(option: str) -> None:
    with pytest.raises(Exception, match="No such option"):
        asked(["-f", "refloat.yaml", "protect", option])
