"""Keys that do not fit, vaults that are not what they were, addresses that lead elsewhere: what an operator meets."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from refloat.cli.system import local_state_dir
from refloat.digest import canonical_json, json_digest, object_name
from refloat.vault import layout
from refloat.vault.keyfile import KeyFile
from refloat.vault.keys import Role
from refloat.vault.replica import Replica
from refloat.vault.seal import Kind, seal_signed
from refloat.vault.stores.local import LocalStore

COMMANDS = (("protect",), ("vault", "check"), ("recover", "--to", "us"), ("points", "list"), ("status",))


def stored(root: Path) -> dict[str, bytes]:
    """Every file below a folder, so that nothing can be written in silence."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def another_vault(desk, pipeline: str = "small") -> Path:
    """A vault and a key of somebody else, beside ours; the manifest and the key are ours again afterwards."""
    ours = desk.manifest.read_bytes()
    desk.manifest.write_bytes(
        ours.replace(b"pipeline: small", f"pipeline: {pipeline}".encode())
        .replace(b'"eu/vault"', b'"other/eu"')
        .replace(b'"us/vault"', b'"other/us"')
    )
    desk.ask("vault", "init", "--key", "other.key")
    desk.manifest.write_bytes(ours)
    return desk.root / "other.key"


def spoil(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def replica(desk, region: str = "us") -> Replica:
    from refloat.cli.system import SystemClock

    store = LocalStore(desk.vault(region))
    return Replica.open(region, store, KeyFile.load(desk.key), SystemClock())


def slots(desk, stream: str, region: str = "us") -> list[Path]:
    return sorted((desk.vault(region) / "log" / stream).iterdir())


# ------------------------------------------------------------------------------------------------------- the key


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_key_of_another_vault_opens_nothing_and_writes_nothing(desk, monkeypatch, arguments) -> None:
    other = another_vault(desk)
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(other))
    before = stored(desk.root)
    error = desk.error(*arguments, exits=4)
    assert error["code"] == "vault_wrong_key"
    assert "the key opens vault" in error["message"]
    assert error["region"] in ("eu", "us")
    assert error["next"]
    assert stored(desk.root) == before


def test_a_key_of_another_vault_behind_the_same_passphrase_opens_nothing(desk, monkeypatch) -> None:
    other = KeyFile.load(another_vault(desk)).wrapped("one for all")
    for region in ("eu", "us"):
        (desk.vault(region) / layout.key_name(object_name(other))).write_bytes(other)
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "one for all")
    before = stored(desk.root)
    for arguments in COMMANDS:
        assert desk.error(*arguments, exits=4)["code"] == "vault_wrong_key"
    assert stored(desk.root) == before


def with_passphrase(desk, monkeypatch, *regions: str) -> None:
    """The pipeline's key, wrapped, in the vaults of some regions; and only the passphrase at hand."""
    wrapped = KeyFile.load(desk.key).wrapped("one for all")
    for region in regions:
        (desk.vault(region) / layout.key_name(object_name(wrapped))).write_bytes(wrapped)
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "one for all")


def test_a_key_that_strayed_into_a_vault_does_not_stand_in_the_way_of_its_own(desk, monkeypatch) -> None:
    own = KeyFile.load(desk.key)
    strays = [KeyFile.create("0ther" * 4, own.pipeline).wrapped("one for all") for _ in range(4)]
    for stray in strays:  # of which one at least has a name before that of the own key, or four have not
        (desk.vault("us") / layout.key_name(object_name(stray))).write_bytes(stray)
    with_passphrase(desk, monkeypatch, "us")
    assert desk.ask("points", "list")["points"]


def test_a_region_that_holds_another_vault_behind_the_same_passphrase_is_not_written_to(
    desk, monkeypatch
) -> None:
    other = another_vault(desk)
    wrapped = KeyFile.load(other).wrapped("one for all")
    shutil.rmtree(desk.vault("eu"))
    shutil.copytree(desk.root / "other" / "eu", desk.vault("eu"))
    (desk.vault("eu") / layout.key_name(object_name(wrapped))).write_bytes(wrapped)
    with_passphrase(desk, monkeypatch, "us")
    before = stored(desk.root)
    for arguments in COMMANDS:
        error = desk.error(*arguments, exits=4)
        assert error["code"] == "vault_wrong_key" and "different vaults" in error["message"]
        assert error["next"]
    assert stored(desk.root) == before


def test_a_key_of_another_pipeline_is_refused_by_its_name(desk, monkeypatch) -> None:
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(another_vault(desk, "larger")))
    before = stored(desk.root)
    error = desk.error("protect", exits=2)
    assert "'larger'" in error["message"]
    assert "'small'" in error["message"]
    assert (
        desk.error("vault", "check", "--vault", str(desk.vault("us")), exits=4)["code"] == "vault_wrong_key"
    )
    assert stored(desk.root) == before


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"{", "half", "longer"], ids=["empty", "zeros", "brace", "half", "longer"]
)
def test_a_file_that_is_no_key_says_so_and_is_not_quoted(desk, content) -> None:
    whole = desk.key.read_bytes()
    desk.key.write_bytes({"half": whole[:600], "longer": whole + b"x"}.get(content, content))
    for arguments in COMMANDS:
        error = desk.error(*arguments, exits=4)
        assert error["code"] == "vault_wrong_key"
        assert error["file"] == str(desk.key)
        assert json.loads(whole)["catalogue_key"] not in json.dumps(error) + desk.said


def test_a_folder_in_place_of_a_key_is_a_mistake_on_the_command_line(desk) -> None:
    desk.key.unlink()
    desk.key.mkdir()
    assert "directory" in desk.error("protect", exits=2)["message"]


def test_a_key_of_a_newer_refloat_asks_for_one(desk) -> None:
    desk.key.write_text(json.dumps({**json.loads(desk.key.read_bytes()), "format": 2, "more": 1}))
    error = desk.error("protect", exits=4)
    assert error["code"] == "vault"
    assert "format 2" in error["message"]
    assert "upgrade" in error["next"]


# ------------------------------------------------------------------------------------------- the place is another


def test_a_region_with_another_vault_is_passed_over_and_the_exit_code_says_so(desk) -> None:
    another_vault(desk, "larger")
    shutil.rmtree(desk.vault("eu"))
    shutil.copytree(desk.root / "other" / "eu", desk.vault("eu"))
    foreign = stored(desk.vault("eu"))
    document = desk.ask("protect", exits=1)
    assert document["regions"]["us"]["complete"]
    assert "holds vault" in document["regions"]["eu"]["error"]
    checked = desk.ask("vault", "check", exits=4)
    assert [(found["object"], found["region"]) for found in checked["damaged"]] == [("vault.json", "eu")]
    desk.ask("vault", "repair", exits=1)
    assert stored(desk.vault("eu")) == foreign, "what is somebody else's is not touched"
    assert desk.ask("recover", "--to", "us")["state"] == "done"


def test_two_regions_at_one_address_are_one_copy(desk) -> None:
    desk.manifest.write_bytes(desk.manifest.read_bytes().replace(b'"us/vault"', b'"eu/vault"'))
    before = stored(desk.root)
    assert "the regions eu and us have one place" in desk.error("protect", exits=2)["message"]
    assert stored(desk.root) == before
    assert desk.ask("vault", "check", exits=1)["unreachable"] == ["us"]
    problems = desk.ask("check", exits=1)["problems"]
    assert any("replica of region 'eu'" in problem["message"] for problem in problems)


def test_two_addresses_that_were_exchanged_are_noticed_before_anything_is_written(desk) -> None:
    text = desk.manifest.read_bytes().replace(b'"us/vault"', b'"x"').replace(b'"eu/vault"', b'"us/vault"')
    desk.manifest.write_bytes(text.replace(b'"x"', b'"eu/vault"'))
    before = stored(desk.root)
    error = desk.error("protect", exits=2)
    assert "replica of region" in error["message"]
    assert stored(desk.root) == before
    problems = desk.ask("check", exits=1)["problems"]
    assert {problem["where"] for problem in problems if "replica of" in problem["message"]} == {
        "regions.eu",
        "regions.us",
    }


def test_an_empty_place_is_no_vault_and_stays_empty(desk) -> None:
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
        desk.vault(region).mkdir()
    error = desk.error("recover", "--vault", str(desk.vault("us")), "--to", "us", exits=4)
    assert error["code"] == "vault_missing"
    assert "vault init" in error["next"]
    assert list(desk.vault("us").iterdir()) == []


# ----------------------------------------------------------------------------------------------- newer formats


def newer_descriptor(desk) -> None:
    for region in ("eu", "us"):
        path = desk.vault(region) / "vault.json"
        document = {**json.loads(path.read_bytes()), "format": 2}
        own = document["replica"][:-64]
        document["replica"] = own + json_digest({**document, "replica": own})
        path.write_bytes(canonical_json(document))


def newer_slot(desk) -> None:
    for region in ("eu", "us"):
        slots(desk, "points", region)[0].write_bytes(canonical_json({"format": 2, "stream": "points"}))


def newer_point(desk) -> None:
    for region in ("eu", "us"):
        opened = replica(desk, region)
        body = {**opened.read_point(opened.points()[0].name), "format": 3}
        content = seal_signed(opened.keyring, Kind.POINT, canonical_json(body))
        name = object_name(content)
        opened.store.create(layout.point_name(name), content)
        opened.log("points", Role.WRITER).append({"point": name, "grade": "exact"})


@pytest.mark.parametrize(("made", "number"), [(newer_descriptor, 2), (newer_slot, 2), (newer_point, 3)])
def test_what_a_newer_refloat_wrote_asks_for_one_and_is_not_called_damaged(desk, made, number: int) -> None:
    made(desk)
    error = desk.error("recover", "--to", "us", exits=4)
    assert error["code"] == "vault"
    assert f"format {number}" in error["message"]
    assert "damaged" not in error["message"]


# ----------------------------------------------------------------------------------- damaged, and what comes next


@pytest.mark.parametrize("at", [None, 40], ids=["junk", "another vault"])
def test_a_damaged_descriptor_keeps_no_region_from_a_recovery_and_is_mended(desk, at) -> None:
    # fault 2
    path = desk.vault("eu") / "vault.json"
    if at is None:
        spoil(path, 0)
    else:
        document = json.loads(path.read_bytes())
        path.write_bytes(canonical_json({**document, "vault": "f" * 32}))
    checked = desk.ask("vault", "check", exits=4)
    assert [(found["object"], found["region"]) for found in checked["damaged"]] == [("vault.json", "eu")]
    assert desk.ask("recover", "--to", "us")["state"] == "done"
    repaired = desk.ask("vault", "repair")
    assert repaired["regions"]["eu"]["mended"] == {"vault.json": "the key file"}
    assert desk.ask("vault", "check", "--read-data")["ok"]


def test_a_descriptor_that_is_damaged_everywhere_is_mended_by_the_key_alone(desk) -> None:
    # faults 2, 3
    for region in ("eu", "us"):
        (desk.vault(region) / "vault.json").unlink()
    desk.error("recover", "--to", "us", exits=4)
    desk.ask("vault", "repair")
    assert desk.ask("vault", "check", "--read-data")["ok"]
    assert desk.ask("recover", "--to", "us")["state"] == "done"


@pytest.mark.parametrize("kind", ["packs", "index", "points", "keys"])
def test_a_damaged_object_is_named_with_its_points_and_mended(desk, kind) -> None:
    # faults 2, 5, 6
    path = next(path for path in sorted((desk.vault("eu") / kind).rglob("*")) if path.is_file())
    whole = path.read_bytes()
    spoil(path)
    before = stored(desk.vault("eu"))
    checked = desk.ask("vault", "check", "--read-data", exits=4)
    (found,) = [found for found in checked["damaged"] if found["object"].endswith(path.name)]
    assert found["region"] == "eu"
    assert found["reason"]
    assert bool(found["affects"]) is (kind in ("packs", "points"))
    after = stored(desk.vault("eu"))
    noted = {name for name in after if name.startswith("quarantine/")}
    assert noted == ({f"quarantine/{path.name}"} if kind == "packs" else set())
    assert {name: after[name] for name in after.keys() - noted} == before, "a check writes nothing but that"
    code, _ = desk.answer("vault", "repair", "--read-data")
    assert code in (0, 1), "1 asks for another turn where a key had hidden more"
    assert path.read_bytes() == whole
    desk.ask("vault", "repair", "--read-data")
    assert desk.ask("vault", "check", "--read-data")["ok"]


def test_a_damaged_claim_stops_a_recovery_until_its_rule_is_named(desk) -> None:
    # fault 28
    desk.ask("recover", "--to", "us")
    shutil.rmtree(desk.root / "us" / "pages")
    for path in desk.root.glob("us/*"):
        if path.name != "vault":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    spoil(slots(desk, "targets/us")[-1])
    before = stored(desk.root)
    error = desk.error("recover", "--to", "us", exits=4)
    assert error["code"] == "vault_damaged"
    assert "--override claim_damaged" in error["next"]
    assert stored(desk.root) == before
    done = desk.ask("recover", "--to", "us", "--override", "claim_damaged")
    assert done["state"] == "done"
    assert "claim_damaged" in done["overrides"]
    assert [found["object"] for found in desk.ask("vault", "check", "--read-data", exits=4)["damaged"]] == [
        f"log/targets/us/{2:016d}"
    ]


def test_a_run_whose_journal_is_gone_is_not_resumed_and_nothing_counts_as_done(desk) -> None:
    # fault 29
    (desk.root / "us" / "pages").mkdir()
    (desk.root / "us" / "pages" / "foreign.txt").write_text("in the way")
    blocked = desk.ask("recover", "--to", "us", exits=3)
    (run,) = [path.name for path in (desk.vault("us") / "log" / "runs").iterdir()]
    assert blocked["run"] == run
    shutil.rmtree(desk.vault("us") / "log" / "runs" / run)
    error = desk.error("recover", "--to", "us", "--resume", run, exits=4)
    assert error["code"] == "vault_missing"
    assert "nothing counts as done" in error["message"]
    error = desk.error("run", "show", run, "--to", "us", exits=4)
    assert error["code"] == "vault_missing"


def test_a_damaged_journal_stops_its_run_with_what_to_do(desk) -> None:
    # fault 28
    desk.ask("recover", "--to", "us")
    (run,) = [path.name for path in (desk.vault("us") / "log" / "runs").iterdir()]
    for slot in (0, 3, -1):
        kept = slots(desk, f"runs/{run}")[slot].read_bytes()
        spoil(slots(desk, f"runs/{run}")[slot])
        error = desk.error("recover", "--to", "us", "--resume", run, exits=4)
        assert error["file"].startswith(f"log/runs/{run}/")
        assert "--override claim_damaged" in error["next"]
        slots(desk, f"runs/{run}")[slot].write_bytes(kept)


# ------------------------------------------------------------------------------------------- another time


def test_every_region_put_back_to_last_week_is_contradicted_by_the_key(desk) -> None:
    # fault 54
    last_week = {region: stored(desk.vault(region)) for region in ("eu", "us")}
    desk.release(2)
    desk.ask("protect")
    assert set(KeyFile.load(desk.key).heads) == {"eu", "us"}
    for region, content in last_week.items():
        shutil.rmtree(desk.vault(region))
        for name, kept in content.items():
            (desk.vault(region) / name).parent.mkdir(parents=True, exist_ok=True)
            (desk.vault(region) / name).write_bytes(kept)
    error = desk.error("recover", "--to", "us", exits=3)
    assert error["rule"] == "log_rolled_back"
    for _ in range(2):
        made = desk.ask("protect", exits=1)["regions"]
        assert not any(region["complete"] for region in made.values()) and "was rolled back" in desk.said
    assert desk.error("recover", "--to", "us", exits=3)["rule"] == "log_rolled_back", (
        "and it is not forgotten"
    )
    assert desk.ask("recover", "--to", "us", "--override", "log_rolled_back")["state"] == "done"


def test_every_region_put_back_with_its_key_is_contradicted_by_this_machine(desk) -> None:
    # fault 54
    last_week = {region: stored(desk.vault(region)) for region in ("eu", "us")}
    key = desk.key.read_bytes()
    desk.release(2)
    desk.ask("protect")
    desk.key.write_bytes(key)
    for region, content in last_week.items():
        shutil.rmtree(desk.vault(region))
        for name, kept in content.items():
            (desk.vault(region) / name).parent.mkdir(parents=True, exist_ok=True)
            (desk.vault(region) / name).write_bytes(kept)
    assert desk.error("recover", "--to", "us", exits=3)["rule"] == "log_rolled_back"
    damaged = desk.ask("vault", "check", exits=4)["damaged"]
    assert [(one["region"], one["object"]) for one in damaged] == [
        ("eu", "log/points/"),
        ("us", "log/points/"),
    ]
    (kept,) = (local_state_dir() / "heads").iterdir()
    kept.write_bytes(b"{")
    assert desk.ask("recover", "--to", "us")["state"] == "done", "a witness that is lost says nothing"


def test_a_key_that_cannot_be_written_to_serves_all_the_same(desk, monkeypatch) -> None:
    def read_only(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    before = desk.key.read_bytes()
    monkeypatch.setattr(os, "chown", read_only)
    desk.ask("protect")
    assert "what was seen last is not kept" in desk.said
    assert desk.key.read_bytes() == before
    assert [path.name for path in desk.root.glob("*key*")] == [desk.key.name]


# -------------------------------------------------------------------------------------------------- payloads


class _Payload:
    """What runs a command in whoever unpickles it."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return os.mkdir, (str(self._marker),)  # type: ignore[return-value]


def test_what_would_run_if_it_were_unpickled_is_only_bytes(desk) -> None:
    # fault 59
    marker = desk.root / "it ran"
    payload = pickle.dumps(_Payload(marker))
    for name in ("model.pkl", "model.pt", "model.npy", "model.joblib", "current.pickle"):
        (desk.root / "eu" / "pages" / name).write_bytes(payload)
    desk.ask("protect")
    desk.ask("check")
    desk.ask("vault", "check", "--read-data")
    desk.ask("recover", "--to", "us")
    assert (desk.root / "us" / "pages" / "model.pkl").read_bytes() == payload
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["packs", "index", "points", "keys", "log", "vault.json"])
def test_what_would_run_if_it_were_unpickled_is_damage_in_place_of_an_object(desk, kind) -> None:
    # fault 59
    marker = desk.root / "it ran"
    payload = pickle.dumps(_Payload(marker))
    found = desk.vault("eu") / kind
    paths = [path for path in found.rglob("*") if path.is_file()] if found.is_dir() else [found]
    for path in paths:
        path.chmod(0o600)
        path.write_bytes(payload)
    desk.ask("vault", "check", "--read-data", exits=4)
    desk.answer("protect")
    desk.answer("status")
    assert desk.ask("recover", "--to", "us")["state"] == "done"
    assert not marker.exists()


# ------------------------------------------------------------------------------------------ what is read elsewhere


def rot(desk, region: str) -> list[str]:
    """Flip bits all over the packs of a region; their names."""
    packs = sorted(path for path in (desk.vault(region) / "packs").rglob("*") if path.is_file())
    for path in packs:
        content = bytearray(path.read_bytes())
        content[::16] = bytes(byte ^ 1 for byte in content[::16])
        path.chmod(0o600)
        path.write_bytes(content)
    return [str(path.relative_to(desk.vault(region))) for path in packs]


def mended_by_a_plain_repair(desk, region: str, packs: list[str]) -> None:
    found = {damage["object"] for damage in desk.ask("vault", "check", exits=4)["damaged"]}
    assert found == set(packs), "who read them marked them"
    desk.ask("vault", "repair")
    assert desk.ask("vault", "check", "--read-data")["ok"]


def test_a_recovery_says_on_the_terminal_and_in_its_document_what_it_read_elsewhere(desk) -> None:
    # faults 2, 17
    packs = rot(desk, "us")
    done = desk.ask("recover", "--to", "us")
    (remark,) = (said for said in done["remarks"] if "instead" in said)
    assert done["state"] == "done" and remark.startswith("us has not whole what was read in eu instead")
    assert packs[0] in remark
    assert "what was read in eu instead" in desk.said and desk.pasted("vault repair") in desk.said
    mended_by_a_plain_repair(desk, "us", packs)


@pytest.mark.parametrize("how", ["cat", "export", "tar", "into"])
def test_whatever_reads_a_point_says_what_it_read_elsewhere(desk, how: str) -> None:
    # fault 2
    rot(desk, "eu")
    point, out = desk.ask("points", "list")["points"][0]["point"], str(desk.root / "out")
    if how == "cat":
        desk.read("vault", "cat", point, "pages", "content/current.json")
    else:
        verbs = {
            "export": ("vault", "export", point, "--into", out),
            "tar": ("vault", "export", point, "--tar", f"{out}.tar"),
            "into": ("recover", "--into", out),
        }
        (remark,) = desk.ask(*verbs[how])["remarks"]
        assert remark.startswith("eu has not whole what was read in us instead")
    assert "eu has not whole what was read in us instead" in desk.said
