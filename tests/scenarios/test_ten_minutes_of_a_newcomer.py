"""The first ten minutes: from a pipeline that nobody protects to one that came back in another region."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

GROUP = """
groups:
  serving:
    members: [pages, ledger]
    must: [pages.files > ledger.position.rows.release]
"""


def _init(operator) -> None:
    """Write the manifest by flags; `${region}` in a path is each region's own folder."""
    root = operator.root
    operator.refloat(
        *("-f", str(operator.manifest), "init", "--pipeline", "small"),
        *("--region", f"eu={operator.vault('eu')}", "--region", f"us={operator.vault('us')}"),
        *("--component", f"pages=files:{root}/${{region}}/pages"),
        *("--component", f"ledger=sqlite:{root}/${{region}}/ledger.db"),
        *("--component", f"answers=predictions:{root}/${{region}}/answers.jsonl"),
    )
    with operator.manifest.open("a") as manifest:
        manifest.write(GROUP)


def test_from_nothing_to_a_pipeline_recovered_elsewhere(newcomer) -> None:
    operator = newcomer
    _init(operator)

    operator.has_key = False
    checked = operator.here("check")
    assert checked["ok"]
    assert {p["next"] for p in checked["problems"] if p["where"].startswith("regions")} == {
        f"refloat -f {operator.manifest} vault init"
    }

    made = operator.here("vault", "init", "--key", str(operator.key))
    assert made["key"] == str(operator.key)
    assert operator.key.stat().st_mode & 0o077 == 0  # nobody else reads it
    operator.has_key = True

    first = operator.here("protect")
    assert (first["grade"], first["copies_required"]) == ("exact", 2)
    assert all(region == {"complete": True, "error": None} for region in first["regions"].values())

    status = operator.here("status")
    assert {part["state"] for part in status["components"].values()} == {"ok"}
    assert status["exposure"]["eu"]["seconds"] > 0
    assert status["exposure"]["us"]["seconds"] == 0

    operator.release(2)
    second = operator.here("protect")
    _look_at_points(operator, first["point"], second["point"])

    plan = operator.here("plan", "--to", "us")
    assert plan["point"] == second["point"]
    assert [phase["name"] for phase in plan["phases"]] == [
        "preflight",
        "stage",
        "validate",
        "activate",
        "reprotect",
    ]

    before = operator.live("eu")
    manifest = operator.manifest.read_text()  # as it also lies in the team's repository
    operator.lose("eu")

    done = _recover(operator, plan)
    assert operator.live("us") == before
    _read_the_evidence(operator, done)
    _go_on_from_us(operator, manifest)


def _look_at_points(operator, first: str, second: str) -> None:
    listed = operator.here("points", "list")["points"]
    assert [(point["point"], point["regions"]) for point in listed] == [
        (second, ["eu", "us"]),
        (first, ["eu", "us"]),
    ]
    shown = operator.here("points", "show", second[:10])
    assert (shown["point"], shown["primary"]) == (second, "eu")
    assert shown["components"]["answers"]["position"]["records"] == 2
    changed = operator.here("points", "diff", first[:10], second[:10])["components"]
    assert changed["pages"]["added"] == [f"content/deep/2-{number}.txt" for number in range(3)]
    assert changed["pages"]["changed"] == ["content/current.json"]
    assert changed["ledger"]["facts"]["position.rows.release"] == {"before": 1, "after": 2}
    assert "newest consistent point" in operator.here("points", "why", second[:10])["reason"]
    assert "a newer one is consistent" in operator.here("points", "why", first[:10])["reason"]


def _recover(operator, plan: dict[str, object]) -> dict[str, object]:
    """On an empty home, with one address and the key."""
    done = operator.refloat("recover", "--vault", operator.vault("us"), "--to", "us")
    assert (done["state"], done["to"], done["point"]) == ("done", "us", plan["point"])
    assert done["verified"] is None
    assert sorted(done["flags"]) == ["unprotected", "unverified"]
    assert [verdict["holds"] for verdict in done["invariants"]] == [True]
    assert done["rto"]["seconds"] > 0 and done["rto"]["objective_s"] > 0
    return done


def _read_the_evidence(operator, done: dict[str, object]) -> None:
    page = operator.home / "evidence.html"
    vault = ("--vault", operator.vault("us"))
    record = operator.refloat("evidence", "show", str(done["run"])[:6], "--html", str(page), *vault)
    assert (record["run"], record["state"]) == (done["run"], "done")
    assert "small is back in us" in page.read_text()
    (listed,) = operator.refloat("evidence", "list", *vault)["evidence"]
    assert (listed["run"], listed["rto"]) == (done["run"], done["rto"])


def _go_on_from_us(operator, manifest: str) -> None:
    """The region that is left is protected, as well as it can be with one region, and says so."""
    operator.manifest.parent.mkdir()
    operator.manifest.write_text(manifest)
    again = operator.here("protect", "--region", "us", exits=1)
    assert again["grade"] == "exact"
    assert again["regions"]["us"] == {"complete": True, "error": None}
    assert not again["regions"]["eu"]["complete"] and again["regions"]["eu"]["error"]
    shown = operator.here("points", "show", again["point"])
    assert shown["primary"] == "us"
