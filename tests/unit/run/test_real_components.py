"""The same engine over the real `files` connector: killed anywhere, the same folder, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.contracts import Facts, Op, Place
from refloat.manifest.model import Manifest
from refloat.plan.build import build
from refloat.point.model import Point, Snapshot
from refloat.registry import connector
from refloat.run.actions import standard
from refloat.run.engine import execute
from refloat.run.state import RunState
from refloat.run.target import ComponentTarget, Target
from refloat.testing.memory_snapshot import MemorySink

MANIFEST = Manifest.model_validate(
    {
        "version": 1,
        "pipeline": "support",
        "regions": {"eu": {"vault": "memory://eu"}, "us": {"vault": "memory://us"}},
        "primary": "eu",
        "components": {"prompts": {"kind": "files"}, "flags": {"kind": "files", "refers_to": ["prompts"]}},
    }
)


class Pipeline:
    """Two folders captured in eu, to be recovered into us."""

    def __init__(self, root: Path, world) -> None:
        self.root, self.world, self.files = root, world, connector("files")
        self.captured = {name: self._captured(name) for name in MANIFEST.components}

    def _place(self, name: str, region: str) -> Place:
        path = str(self.root / region / name)
        return Place(name, region, self.files.spec.settings.model_validate({"path": path}))

    def _captured(self, name: str) -> tuple[MemorySink, Facts]:
        folder = self.root / "eu" / name
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "v1.txt").write_text(f"{name} as captured")
        (folder / "empty").touch()
        sink = MemorySink()
        op = Op(self._place(name, "eu"), "capture", "capture", 1, self.root)
        return sink, self.files.capture(sink, op)

    def _snapshot(self, name: str) -> Snapshot:
        now = self.world.clock.now()
        facts = self.captured[name][1]
        return Snapshot(
            kind="files",
            tree="00",
            identity=facts.identity,
            position=facts.position,
            as_of=now,
            captured_from=now,
            captured_to=now,
        )

    def recover(self, run: str = "run-1"):
        components = {name: self._snapshot(name) for name in self.captured}
        point = Point(
            pipeline="support",
            primary="eu",
            created_at=self.world.clock.now(),
            manifest="0",
            components=components,
        )
        targets = {
            name: ComponentTarget(
                name,
                self.files,
                self._place(name, "us"),
                components[name],
                lambda heard, cancelled, sink=sink, facts=facts: sink.source(facts),
            )
            for name, (sink, facts) in self.captured.items()
        }
        target = Target(
            "us", "point-1", point, targets, self.root / "scratch", known_points=frozenset({"point-1"})
        )
        more = {"protect": self.world.actions()["protect"]}
        claim, journal = self.world.claim(run), self.world.journal(run)
        plan = build("point-1", point, MANIFEST, "us", {"files": self.files.spec})
        actions = standard(target, lambda must, facts: [], more)
        return execute(journal.view.plan or plan, journal, claim, actions, clock=self.world.clock, workers=1)

    def tree(self) -> dict[str, bytes]:
        us = self.root / "us"
        return {
            str(path.relative_to(us)): path.read_bytes()
            for path in sorted(us.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }


def test_files_recovered_by_a_run_killed_anywhere_are_those_of_the_source(
    make_world, names, tmp_path
) -> None:
    whole = Pipeline(tmp_path / "whole", make_world())
    view = whole.recover()
    assert (view.state, view.flags) == (RunState.DONE, ("unverified",))
    source = {
        str(p.relative_to(whole.root / "eu")): p.read_bytes()
        for p in (whole.root / "eu").rglob("*")
        if p.is_file()
    }
    assert whole.tree() == source
    assert not list((whole.root / "us").glob(".*previous")), "what was set aside is removed"
    for at in range(3, len(whole.world.power.moments), 6):
        killed = Pipeline(tmp_path / f"killed-{at}", make_world(power=names.Power(at)))
        with pytest.raises(names.Cut):
            killed.recover()
        killed.world.after_the_crash()
        assert killed.recover().state is RunState.DONE
        assert killed.tree() == source


def test_files_of_somebody_else_are_neither_overwritten_nor_moved(make_world, tmp_path) -> None:
    pipeline = Pipeline(tmp_path / "foreign", make_world())
    (pipeline.root / "us" / "flags").mkdir(parents=True)
    (pipeline.root / "us" / "flags" / "theirs").write_text("mine")
    view = pipeline.recover()
    assert (view.state, view.failure["rule"]) == (RunState.BLOCKED, "target_foreign")
    assert pipeline.tree() == {"flags/theirs": b"mine"}


def test_a_rollback_brings_back_what_an_earlier_recovery_had_put_there(make_world, tmp_path) -> None:
    pipeline = Pipeline(tmp_path / "second", make_world())
    pipeline.recover()
    (pipeline.root / "us" / "flags" / "written_since").write_text("by a user")
    before = pipeline.tree()
    inner = pipeline.files.activate

    class Failing(type(pipeline.files)):
        def activate(self, op):
            if op.place.component == "flags":
                raise OSError("the disk is gone")
            inner(op)

    pipeline.files = Failing()
    view = pipeline.recover("run-2")
    assert view.state is RunState.ROLLED_BACK
    assert "the disk is gone" in view.failure["message"]
    assert pipeline.tree() == before
