"""What lies at ``us`` is somebody else's: every verb goes on with ``eu``, or refuses, and says what is wrong there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from refloat.vault import layout
from small_desk import GROUP, VERIFY


def their_descriptor(desk) -> None:
    there = desk.vault("us") / layout.VAULT
    there.unlink()
    shutil.copyfile(desk.root / "other" / "us" / layout.VAULT, there)


def their_replica(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    shutil.copytree(desk.root / "other" / "us", desk.vault("us"))


def their_keys(desk) -> None:
    shutil.rmtree(desk.vault("us") / "keys")
    shutil.copytree(desk.root / "other" / "us" / "keys", desk.vault("us") / "keys")


GOES_ON = {
    "status": 1,
    "check": 1,
    "points list": 0,
    "plan --to eu": 0,
    "recover --into brought": 0,
    "verify": 0,
    "vault check": 4,
    "points forget": 1,
    "protect": 1,
}
"""Verbs that do for ``eu`` what they are for, and how they end."""
REFUSES = {
    "plan --to us": 4,
    "recover --to us": 4,
    "vault prune": 4,
    "vault rejoin us": 4,
    "vault rejoin eu": 2,
}
"""Verbs that need ``us``, too."""


@pytest.mark.parametrize("fault", [their_descriptor, their_replica, their_keys])
def test_each_verb_goes_on_with_the_other_region_or_refuses_by_name(
    desk, endpoint, fault: Callable[..., None]
) -> None:  # faults 6, 53
    question = {"id": "q1", "request": {"question": "word"}, "expected": {"topic": "WORD"}}
    (desk.root / "golden.jsonl").write_text(json.dumps(question) + "\n")
    desk.write_manifest(GROUP, VERIFY, url=endpoint.url)
    ours = desk.manifest.read_bytes()
    desk.manifest.write_bytes(
        ours.replace(b'"eu/vault"', b'"other/eu"').replace(b'"us/vault"', b'"other/us"')
    )
    desk.ask("vault", "init", "--key", "other.key")
    desk.manifest.write_bytes(ours)
    desk.ask("verify", "--save-baseline")
    fault(desk)
    wrong = "no certificate in" if fault is their_keys else "holds vault"
    for verb, code in (GOES_ON | REFUSES).items():
        document = desk.ask(*verb.split(), exits=code)
        told = json.dumps(document) + desk.said
        assert wrong in told and "us" in told, (verb, told)
        assert ("error" in document) is (verb in REFUSES), verb
    assert len(desk.ask("points", "list")["points"]) == 2
    mended = desk.ask("vault", "repair", exits=0 if fault is their_descriptor else 1)["regions"]
    assert not mended["eu"]["left"]
    if fault is their_descriptor:
        assert mended["us"]["mended"] == {layout.VAULT: "the key file"} and desk.ask("vault", "check")["ok"]
    else:
        assert (
            "us" not in mended
            and f"us does not answer: {'' if fault is their_replica else wrong}" in desk.said
        )
