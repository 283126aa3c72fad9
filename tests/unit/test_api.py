"""The same from Python: what a notebook or a CI job can rely on."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import refloat
from refloat import Manifest, Vault, accept, protect, recover, verify
from refloat.cli.main import run
from refloat.connectors.files import Files
from refloat.contracts import Silent
from refloat.errors import ConnectorError, ManifestError, Missing, Refused, StoreError, UsageError, WrongKey
from refloat.point.model import Grade

MANIFEST = """\
version: 1
pipeline: notes
primary: eu
regions: {eu: {vault: eu/vault}, us: {vault: us/vault}}
components:
  pages: {kind: files, with: {path: "${region}/pages", expose: {current: current.json}}}
groups:
  serving: {members: [pages], must: [pages.current.version == 1]}
"""
SPEED = "latency_p95: {at_most: 2x}"
VERIFY = """\
verify:
  pages:
    probe: {http: "URL"}
    golden: golden.jsonl
    samples: 20
    warmup: 0
    concurrency: 1
    bounds: {errors: {at_most: 1}, latency_p95: {at_most: 2x}}
"""


class Echo(BaseHTTPRequestHandler):
    """Answers every question with an empty object."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A pipeline with an empty vault; the key is in no variable."""
    for variable in ("REFLOAT_KEY_FILE", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "open sesame")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eu" / "pages").mkdir(parents=True)
    (tmp_path / "eu" / "pages" / "current.json").write_text('{"version": 1}')
    (tmp_path / "refloat.yaml").write_text(MANIFEST)
    assert run(["-q", "vault", "init", "--key", "notes.key"]) == 0
    monkeypatch.delenv("REFLOAT_PASSPHRASE")
    capsys.readouterr()
    return tmp_path


@pytest.fixture
def manifest(root: Path) -> Manifest:
    return Manifest.load()


@pytest.fixture
def vault(manifest: Manifest) -> Vault:
    return Vault.open(manifest, key="notes.key")


def keys(document: object, path: str = "") -> Iterator[str]:
    """Every key of a document, with those above it."""
    if isinstance(document, Mapping):
        for key, below in document.items():
            yield f"{path}.{key}"
            yield from keys(below, f"{path}.{key}")
    elif isinstance(document, list):
        for below in document:
            yield from keys(below, f"{path}[]")


def printed(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFLOAT_KEY_FILE", str(root / "notes.key"))
        assert run(["--json", "-q", *arguments]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    del document["schema"]
    return document


# ------------------------------------------------------------------------------------------ the public face


def test_everything_public_is_there_and_nothing_is_loaded_before_it_is_asked_for() -> None:
    program = """
import sys
import refloat
assert [n for n in sys.modules if n.startswith("refloat.")] == [], sys.modules
assert set(refloat.__all__) <= set(dir(refloat))
print(*(getattr(refloat, name).__module__ for name in refloat.__all__))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.split(), ran.stderr) == (["refloat.api"] * 6, "")


def test_it_says_its_version() -> None:
    assert refloat.__version__ == importlib.metadata.version("refloat")


def test_what_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Vautl'"):
        refloat.__getattr__("Vautl")


def test_a_type_checker_sees_what_is_public() -> None:
    source = Path(refloat.__file__)
    imported = {
        alias.asname
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "refloat.api"
        for alias in node.names
    }
    assert set(refloat.__all__) == imported
    assert (source.parent / "py.typed").exists()
    for call in (accept, protect, recover, verify, Manifest.load, Vault.open):
        assert all(hint for hint in inspect.get_annotations(call).values())
        assert "return" in inspect.get_annotations(call)


# ------------------------------------------------------------------------------------------------- manifest


def test_a_manifest_tells_its_names(manifest: Manifest) -> None:
    assert (manifest.pipeline, manifest.primary) == ("notes", "eu")
    assert (manifest.regions, manifest.components) == (("eu", "us"), ("pages",))


def test_a_wrong_manifest_is_told_with_its_place(root: Path) -> None:
    (root / "wrong.yaml").write_text(MANIFEST.replace("primary", "primry"))
    with pytest.raises(ManifestError) as caught:
        Manifest.load(root / "wrong.yaml")
    assert "3:1  primry" in str(caught.value)


# ---------------------------------------------------------------------------------------------------- vault


def test_the_key_comes_from_a_file_a_passphrase_or_the_environment(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Vault.open(manifest, key=Path("notes.key")).regions == ("eu", "us")
    assert Vault.open(manifest, passphrase="open sesame").regions == ("eu", "us")
    monkeypatch.setenv("REFLOAT_KEY_FILE", "notes.key")
    assert Vault.open(manifest).regions == ("eu", "us")
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "open sesame")
    with pytest.raises(UsageError, match="both set"):
        Vault.open(manifest)
    assert Vault.open(manifest, key="notes.key").regions == ("eu", "us")


def test_nobody_is_asked_for_a_key(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(UsageError, match="no key is given"):
        Vault.open(manifest)
    with pytest.raises(UsageError, match="both given"):
        Vault.open(manifest, key="notes.key", passphrase="open sesame")
    with pytest.raises(WrongKey):
        Vault.open(manifest, passphrase="sesame")


def test_a_region_that_does_not_answer_is_told_with_its_error(manifest: Manifest) -> None:
    shutil.rmtree("us/vault")
    vault = Vault.open(manifest, key="notes.key")
    assert vault.regions == ("eu",)
    assert isinstance(vault.unreachable["us"], Missing | StoreError)
    assert repr(vault) == "Vault(regions=('eu',), unreachable=('us',))"


# ----------------------------------------------------------------------------------------- protect and recover


def test_protect_returns_what_the_command_prints_and_says_nothing(
    root: Path, manifest: Manifest, vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    made = protect(manifest, vault)
    assert made.ok and made.point.grade is Grade.EXACT
    assert capsys.readouterr() == ("", "")
    assert not (root / "home").exists()
    assert list(keys(made.document())) == list(keys(printed(root, capsys, "protect")))


def test_recover_returns_what_the_command_prints_and_says_nothing(
    root: Path, manifest: Manifest, vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    made = protect(manifest, vault)
    done = recover(vault, to="us", lost_at=datetime.now(UTC))
    assert done.ok and done.evidence.point == made.name
    assert capsys.readouterr() == ("", "")
    assert (root / "us" / "pages" / "current.json").read_text() == '{"version": 1}'
    told = printed(root, capsys, "recover", "--to", "us", "--resume", done.evidence.run)
    assert told.pop("page") is not None  # for people: only the command writes it
    assert json.loads(json.dumps(done.document())) == told


def test_only_the_bytes_are_brought_as_the_command_brings_them(
    root: Path, manifest: Manifest, vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    made = protect(manifest, vault)
    brought = recover(vault, into=root / "out", only=["pages"], at=datetime.now(UTC))
    assert brought.ok and brought.chosen.name == made.name and brought.remarks == ()
    assert capsys.readouterr() == ("", "")
    assert (root / "out" / "pages" / "content" / "current.json").read_text() == '{"version": 1}'
    assert not (root / "us" / "pages").exists()
    told = printed(root, capsys, "recover", "--into", "other", "--only", "pages")
    assert list(keys(brought.document())) == list(keys(told))


def test_the_bytes_come_from_what_is_left_and_what_could_not_be_asked_is_told(
    root: Path, manifest: Manifest, vault: Vault
) -> None:
    protect(manifest, vault)
    shutil.rmtree(root / "eu")
    brought = recover(Vault.open(manifest, key="notes.key"), into="one")
    assert "eu is passed over" in brought.remarks[0]
    alone = Vault.open(f"file://{root}/us/vault", key="notes.key")
    assert "whether eu saw newer points could not be asked" in recover(alone, into="two").remarks[0]
    assert (root / "two" / "manifest" / "refloat.yaml").read_text() == MANIFEST


def test_the_bytes_of_a_log_that_was_rolled_back_are_not_believed(  # fault 54
    root: Path, manifest: Manifest, vault: Vault
) -> None:
    shutil.copytree("us/vault", "old")
    protect(manifest, vault)
    protect(manifest, vault)
    shutil.rmtree("us/vault")
    shutil.move("old", "us/vault")
    again = Vault.open(manifest, key="notes.key")
    with pytest.raises(Refused) as caught:
        recover(again, into="out")
    assert caught.value.rule == "log_rolled_back"
    rules = (rule for rule in ("log_rolled_back",))
    assert recover(again, into="out", overrides=rules).overrides == ("log_rolled_back",)
    with pytest.raises(Refused) as caught:
        recover(again, into="out", overrides=["log_rolled_back"])
    assert caught.value.rule == "into_occupied"


def test_a_bare_machine_needs_an_address_and_a_key(
    root: Path, manifest: Manifest, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(manifest, vault)
    (root / "refloat.yaml").unlink()
    shutil.rmtree(root / "eu")
    left = Vault.open(f"file://{root}/us/vault", key="notes.key")
    assert left.regions == ("us",)
    done = recover(left, "us")
    assert done.evidence.state == "done"
    assert "unprotected" in done.evidence.flags
    with pytest.raises(UsageError, match="not opened with this manifest"):
        protect(manifest, left)  # it would go to one region, and the manifest asks for two


def test_one_vault_serves_many_calls_and_sees_what_others_wrote(
    root: Path, manifest: Manifest, vault: Vault
) -> None:
    first = protect(manifest, vault)
    (root / "eu" / "pages" / "more.txt").write_text("more")
    second = protect(manifest, Vault.open(manifest, key="notes.key"))
    assert first.name != second.name
    assert recover(vault, "us").evidence.point == second.name
    assert protect(manifest, vault, region="us").ok


def test_a_point_that_is_not_what_was_asked_for_is_returned_and_not_ok(
    root: Path, manifest: Manifest, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "eu" / "pages" / "current.json").write_text('{"version": 2}')
    made = protect(manifest, vault)
    assert (made.ok, made.point.grade) == (False, Grade.BROKEN)
    with pytest.raises(Refused) as caught:
        recover(vault, "us", point=made.name)
    assert caught.value.rule == "group_broken"
    assert recover(vault, "us", point=made.name, overrides=["group_broken"]).ok


def test_a_suspect_point_is_accepted_as_the_command_does(  # fault 50
    root: Path, manifest: Manifest, vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "eu" / "pages" / "big.txt").write_text("a line of a page\n" * 10_000)
    good = protect(manifest, vault)
    (root / "eu" / "pages" / "big.txt").unlink()
    hit = protect(manifest, vault)
    assert (hit.ok, recover(vault, into="before").chosen.name) == (False, good.name)
    with pytest.raises(UsageError, match="takes a reason"):
        accept(vault, hit.name, because=" ")
    done = accept(vault, hit.name[:12], because="we deleted it")
    assert (done.ok, done.suspect["pages"], done.regions) == (True, ("shrank",), ("eu", "us"))
    assert recover(vault, into="after").chosen.name == hit.name
    told = printed(root, capsys, "points", "accept", hit.name, "--because", "we deleted it")
    assert told == {**done.document(), "suspect": {}}, "as it was accepted already"
    shutil.rmtree("us/vault")
    left = accept(Vault.open(manifest, key="notes.key"), hit.name, because="we deleted it")
    assert (left.ok, left.regions, left.silent) == (False, ("eu",), ("us",))


def test_an_exact_point_can_be_required(
    root: Path, manifest: Manifest, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert protect(manifest, vault, require="exact").ok
    page = root / "eu" / "pages" / "page.txt"

    def restless(look):
        def looked(self, place):
            with page.open("a") as file:
                file.write("more")
            return look(self, place)

        return looked

    for look in ("inspect", "token"):
        monkeypatch.setattr(Files, look, restless(getattr(Files, look)))
    made = protect(manifest, vault)
    assert (made.ok, made.point.grade) == (True, Grade.FUZZY)
    assert not protect(manifest, vault, require="exact").ok


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"to": "asia"}, "'asia'"),
        ({"at": "noon"}, "--at"),
        ({"at": datetime(2026, 1, 1)}, "has no zone"),
        ({"lost_at": datetime.now(UTC) + timedelta(days=1)}, "in the future"),
        ({"overrides": ["group_brokn"]}, "group_brokn"),
        ({"resume": "r", "only": ["pages"]}, "keeps its point"),
        ({"resume": "r"}, "no run 'r' was begun"),
        ({"to": None}, "neither to nor into"),
        ({"into": "out"}, "exclude each other"),
        ({"to": None, "into": "out", "resume": "r"}, "begins no run"),
        ({"to": None, "into": "out", "overrides": ["target_foreign"]}, "not asked with --into"),
    ],
)
def test_a_wrong_call_is_a_usage_error(
    manifest: Manifest, vault: Vault, asked: dict[str, object], words: str
) -> None:
    protect(manifest, vault)
    with pytest.raises(UsageError, match=words):
        recover(vault, **{"to": "us", **asked})  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        protect(manifest, vault, region="asia")


def test_a_run_that_was_blocked_is_returned_and_not_ok(root: Path, manifest: Manifest, vault: Vault) -> None:
    protect(manifest, vault)
    (root / "us" / "pages").mkdir()
    (root / "us" / "pages" / "mine.txt").write_text("mine")
    done = recover(vault, "us")
    assert (done.ok, done.evidence.state) == (False, "blocked")
    assert done.failure is not None and done.failure["rule"] == "target_foreign"
    resumed = recover(vault, "us", resume=done.evidence.run)
    assert resumed.evidence.run == done.evidence.run


def test_a_verification_that_does_not_tell_is_not_ok_though_a_person_goes_on(
    root: Path, manifest: Manifest
) -> None:
    (root / "golden.jsonl").write_text('{"id": "q", "request": {}, "expected": {}}\n')
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        (root / "refloat.yaml").write_text(MANIFEST + VERIFY.replace("URL", url))
        asking = Manifest.load()
        vault = Vault.open(asking, key="notes.key")
        protect(asking, vault)  # without a baseline, so that nobody can tell
        done = recover(vault, "us", overrides=["quality_unverified"])
        server.shutdown()
    assert (done.ok, done.evidence.state, done.evidence.verified) == (False, "done", None)
    assert "unverified" in done.evidence.flags
    assert done.failure is None


def test_verify_measures_keeps_and_judges_as_the_command_does(
    root: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "golden.jsonl").write_text('{"id": "q", "request": {}, "expected": {}}\n')
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        (root / "refloat.yaml").write_text(
            MANIFEST + VERIFY.replace("URL", url).replace(SPEED, "exact_match: {drop_at_most: 0}")
        )
        asking = Manifest.load()
        vault = Vault.open(asking, key="notes.key")
        unknown = verify(asking, vault)
        assert (unknown.ok, unknown.verified) == (False, None), "there is no baseline yet"
        kept = verify(asking, vault, save_baseline=True)
        assert kept.ok and set(kept.regions.values()) == {None}
        known = verify(asking, vault)
        assert (known.ok, known.verified) == (True, True)
        assert capsys.readouterr() == ("", "")
        assert list(keys(known.document())) == list(keys(printed(root, capsys, "verify")))
        saved = printed(root, capsys, "verify", "--save-baseline")
        assert list(keys(kept.document())) == list(keys(saved))
        server.shutdown()


def test_verify_of_nothing_is_a_usage_error(manifest: Manifest, vault: Vault) -> None:
    with pytest.raises(UsageError, match="asks for no verification"):
        verify(manifest, vault)


def test_a_log_that_was_rolled_back_to_nothing_is_refused(  # fault 54
    root: Path, manifest: Manifest, vault: Vault
) -> None:
    shutil.copytree("us/vault", "old")
    protect(manifest, vault)
    protect(manifest, vault)
    shutil.rmtree("us/vault")
    shutil.move("old", "us/vault")
    with pytest.raises(Refused) as caught:
        recover(Vault.open(manifest, key="notes.key"), "us")
    assert (caught.value.rule, caught.value.region) == ("log_rolled_back", "us")


def test_the_key_file_keeps_what_was_seen_last_so_that_all_regions_cannot_go_back_at_once(  # fault 54
    root: Path, manifest: Manifest, vault: Vault
) -> None:
    protect(manifest, vault)
    for region in ("eu", "us"):
        shutil.copytree(f"{region}/vault", f"old-{region}")
    protect(manifest, vault)
    for region in ("eu", "us"):
        shutil.rmtree(f"{region}/vault")
        shutil.move(f"old-{region}", f"{region}/vault")
    with pytest.raises(Refused) as caught:
        recover(Vault.open(manifest, key="notes.key"), "us")
    assert caught.value.rule == "log_rolled_back"


def test_what_the_machine_refuses_is_an_error_of_refloat(
    manifest: Manifest, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device", "/scratch")

    monkeypatch.setattr("tempfile.gettempdir", full)
    with pytest.raises(refloat.api.RefloatError, match="No space left on device") as caught:
        protect(manifest, vault)
    assert caught.value.file == "/scratch"
    assert "free some space" in str(caught.value.next)


def test_no_error_shows_a_secret(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fault 66
    monkeypatch.setenv("PAGES", "hunter22")
    (root / "refloat.yaml").write_text(MANIFEST.replace("${region}/pages", "${env:PAGES}/pages"))
    manifest = Manifest.load()
    with pytest.raises(ConnectorError) as caught:
        protect(manifest, Vault.open(manifest, key="notes.key"))
    assert "***" in str(caught.value) + str(caught.value.file)
    assert "hunter22" not in str(caught.value) + json.dumps(caught.value.document())


def test_progress_is_told_to_who_asks_for_it(manifest: Manifest, vault: Vault) -> None:
    class Watching(Silent):
        begun: list[str] = []  # noqa: RUF012 - one test's own

        def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
            self.begun.append(task)

    protect(manifest, vault, progress=Watching())
    assert "pages" in Watching.begun
