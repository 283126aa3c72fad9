"""The story: a real pipeline, its region lost, all of it recovered elsewhere from an address and a key."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refloat.demo.scenery import Scenery
from refloat.errors import RefloatError
from refloat.evidence.render import back
from refloat.units import format_time

SCENES = 7
QUESTIONS_PER_SECOND = 20
CLIENT_SECONDS_MAX = 120  # the client stops by itself, whatever becomes of the story
ANSWERS_BEFORE_PROTECT = 30
ANSWERS_AFTER_PROTECT = 40  # these are not in the point: the loss that the story measures
LOOK_S = 0.05  # as long as an answer takes to come


@dataclass(frozen=True)
class Told:
    """What the story found out, each part as the command printed it."""

    protect: dict[str, Any]
    recover: dict[str, Any]
    refused: dict[str, Any]
    back: dict[str, Any]
    status: dict[str, Any]
    ledger: dict[str, int]
    seconds: float

    def document(self) -> dict[str, Any]:
        """The whole story as one document."""
        return {
            "protect": self.protect,
            "recover": self.recover,
            "refused": self.refused,
            "back": self.back,
            "status": self.status,
            "ledger": self.ledger,
            "seconds": round(self.seconds, 2),
        }


def tell(scenery: Scenery, say: Callable[[str], None]) -> Told:
    """Play the whole story in ``scenery``; ``say`` is given each scene in a sentence, as it begins.

    Raises ``RefloatError`` when a scene does not go as it must.
    """
    began = time.monotonic()
    say(f"Both regions are directories on one disk here, below {scenery.root}; each has a port of its own.")
    say(
        f"1/{SCENES} Building the pipeline in eu from Python's own docs: data, features, models, index, prompts, flags."
    )
    scenery.program("build", "--root", str(scenery.pipeline("eu")))
    scenery.write_manifest()
    scenery.refloat("-f", str(scenery.manifest), "vault", "init", "--key", str(scenery.key_file))
    refused = _a_point_that_must_not_be_used(scenery, say)

    say(
        f"3/{SCENES} Starting the endpoint in eu and measuring the baseline: latency, throughput, answer quality."
    )
    endpoint = scenery.spawn("serve", *_serve(scenery, "eu"), code=scenery.pipeline("eu") / "app")
    scenery.wait_ready("eu")
    scenery.ask("eu", "how do I open a file?")
    scenery.refloat("-f", str(scenery.manifest), "verify", "--save-baseline")

    say(
        f"4/{SCENES} Protecting into the vaults of eu and us, while a client keeps asking and keeps its own ledger."
    )
    ledger = scenery.root / "client" / "ledger.jsonl"
    client = scenery.spawn("ask", *_ask(scenery, ledger))
    _answered(client, ledger, ANSWERS_BEFORE_PROTECT)
    _, protect = scenery.refloat("-f", str(scenery.manifest), "protect")
    protected = _status(scenery, say)
    _answered(client, ledger, ANSWERS_AFTER_PROTECT)

    say(
        f"5/{SCENES} The disaster: the endpoint is killed; all of eu, the manifest and refloat's state are deleted."
    )
    lost_at = format_time(datetime.now(UTC))
    scenery.destroy("eu", endpoint)
    client.terminate()
    client.wait()

    say(
        f"6/{SCENES} On an empty home, with the us vault's address and the key file alone: refloat recover --to us."
    )
    _, recover = scenery.refloat(
        "recover", "--vault", str(scenery.vault("us")), "--to", "us", "--lost-at", lost_at
    )
    counted = compare(ledger, scenery.pipeline("us") / "predictions" / "answers.jsonl")
    back = _the_lost_region_comes_back(scenery, say)
    status = {"protected": protected, "recovered": _status(scenery, say)}
    return Told(protect, recover, refused, back, status, counted, time.monotonic() - began)


def _status(scenery: Scenery, say: Callable[[str], None]) -> dict[str, Any]:
    """Ask how the pipeline stands, and say it; an objective that a slow machine does not keep ends no story."""
    _, status = scenery.refloat("-f", str(scenery.manifest), "status", accept=(0, 1))
    say(f"   {standing(status)}")
    return status


def standing(status: Mapping[str, Any]) -> str:
    """What ``status`` says of the pipeline, in one sentence."""
    where = f"status: it runs in {status['runs_in']}"
    if status["well"]:
        return f"{where}, and every component keeps to its objective, whichever region is lost."
    states = {name: part["state"] for name, part in status["components"].items() if part["state"] != "ok"}
    told = ", ".join(f"{name} ({state})" for name, state in states.items())
    return f"{where}, and not all is well{': ' if told else ''}{told}."


def _a_point_that_must_not_be_used(scenery: Scenery, say: Callable[[str], None]) -> dict[str, Any]:
    """Rebuild the index by another embedder, protect, and see the point graded broken and refused."""
    say(
        f"2/{SCENES} A mistake first: the index is rebuilt by another embedder. That point must never be used."
    )
    scenery.set_aside("index")
    scenery.program("rebuild-index", "--root", str(scenery.pipeline("eu")), "--dimension", "32")
    _, broken = scenery.refloat("-f", str(scenery.manifest), "protect", accept=(1,))
    invariant = _violated(broken)
    code, refusal = scenery.refloat(
        "-f", str(scenery.manifest), "recover", "--to", "us", "--point", broken["point"], accept=(3,)
    )
    say(f"   Point {broken['point'][:12]} is graded {broken['grade']}: {invariant}")
    say(f"   recovering it ended with {code}: {refusal['error']['message']}.")
    scenery.put_back("index")
    return {
        "point": broken["point"],
        "grade": broken["grade"],
        "invariant": invariant,
        "error": refusal["error"],
    }


def _the_lost_region_comes_back(scenery: Scenery, say: Callable[[str], None]) -> dict[str, Any]:
    """With an empty disk: its vault is filled from the one that is left, and the next point lies in both."""
    say(
        f"7/{SCENES} The lost region comes back with an empty disk: its vault is filled, and us is protected into both."
    )
    scenery.write_manifest(primary="us")
    asked = ("-f", str(scenery.manifest))
    _, filled = scenery.refloat(*asked, "vault", "add-region", "eu")
    _, protect = scenery.refloat(*asked, "protect")
    _, checked = scenery.refloat(*asked, "vault", "check", "--read-data")
    return {"filled": filled, "protect": protect, "check": checked}


def _violated(protect: dict[str, Any]) -> str:
    """The invariant that does not hold. Raises ``RefloatError`` where every one does."""
    for group in protect["groups"].values():
        for verdict in group["invariants"]:
            if verdict["holds"] is not True:
                return str(verdict["must"])
    raise RefloatError("the index was built by another embedder, and no invariant noticed")


def _serve(scenery: Scenery, region: str) -> list[str]:
    return ["--root", str(scenery.pipeline(region)), "--port", str(scenery.ports[region])]


def _ask(scenery: Scenery, ledger: Path) -> list[str]:
    bounds = ["--rate", str(QUESTIONS_PER_SECOND), "--seconds", str(CLIENT_SECONDS_MAX)]
    return ["--url", scenery.url("eu"), "--ledger", str(ledger), *bounds]


def _answered(client: subprocess.Popen[bytes], ledger: Path, more: int) -> None:
    """Wait for so many ``more`` lines in the client's ledger. Raises ``RefloatError`` where it ends before."""

    def answers() -> int:
        return ledger.read_bytes().count(b"\n") if ledger.exists() else 0

    wanted = answers() + more
    while answers() < wanted:
        if client.poll() is not None:
            raise RefloatError(f"the client ended before it had {wanted} answers", next="refloat demo")
        time.sleep(LOOK_S)


def compare(ledger: Path, predictions: Path) -> dict[str, int]:
    """How many questions the client saw answered, and how many of those the recovered log does not hold."""
    answered = {json.loads(line)["id"] for line in ledger.read_text().splitlines()}
    recovered = {json.loads(line)["id"] for line in predictions.read_text().splitlines()}
    return {"answered": len(answered), "lost": len(answered - recovered)}


def closing(told: Told) -> str:
    """The outcome in three sentences, each objective that was missed among it."""
    ledger, following = told.ledger, told.back["protect"]
    return (
        f"All of it {back(told.recover)}. "
        f"Of {ledger['answered']} answers that the client saw, {ledger['lost']} are not in the recovered log. "
        f"Its next point lies whole in {_holders(following)}"
        + (
            ", where it could not be verified."
            if following["unverifiable"]
            else " again, and could be verified."
        )
    )


def _holders(protect: dict[str, Any]) -> str:
    return " and ".join(name for name, region in protect["regions"].items() if region["complete"])
