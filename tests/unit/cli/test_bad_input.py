"""Whatever a manifest or a command line holds: one clear error, exit code 2, nothing written, no traceback.

Each test runs real commands. The memory that the worst inputs take is measured in processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.cli.main import VERBS, run

SECONDS_MAX = (
    4.0  # of processor time, which is up to twice that of a machine of one's own where tests share its cores
)
MEMORY_BYTES_MAX = 256 * 1024 * 1024
EXIT_CODES = {0, 1, 2, 3, 4, 5}

GOOD = """\
version: 1
pipeline: small
regions:
  eu: {vault: eu/vault}
  us: {vault: us/vault}
primary: eu
components:
  pages: {kind: files, with: {path: eu/pages}}
  ledger: {kind: files, with: {path: eu/ledger}}
groups:
  serving: {members: [pages, ledger], must: [pages.files == pages.files]}
verify:
  pages:
    probe: {http: "http://127.0.0.1:9/answer"}
    golden: golden.jsonl
    bounds: {latency_p95: {at_most: 1.25x}}
"""


@dataclass(frozen=True)
class Bad:
    """A manifest that is wrong, and what must be said of it; ``place`` is LINE:COLUMN where there is one."""

    content: str | bytes
    words: str
    hint: str = ""
    place: str = r"\d+:\d+"
    known_to_protect: bool = True

    @property
    def bytes(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.encode()


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def component(text: str) -> str:
    return changed("pages: {kind: files,", f"pages: {{kind: files, {text},")


def top(text: str) -> str:
    return GOOD + text + "\n"


BAD = {
    # words and names
    "misspelt_key": Bad(component("teir: critical"), "unknown key 'teir'", "'tier'", "8:24"),
    "unknown_key": Bad(top("zzzz: 1"), "unknown key 'zzzz'", "known: version", "17:1"),
    "unknown_tier": Bad(component("tier: critcal"), "'critcal' is none of", "'critical'", "8:30"),
    "unknown_connector": Bad(
        changed("pages: {kind: files", "pages: {kind: flies"), "'flies'", "'files'", "8:17"
    ),
    "unknown_probe": Bad(changed("{http:", "{htpt:"), "'htpt'", "http", "14:12", known_to_protect=False),
    "unknown_setting": Bad(
        changed("{path: eu/pages}", "{path: eu/pages, exclud: []}"), "exclud", "'exclude'", "8:30"
    ),
    "unknown_primary": Bad(
        changed("primary: eu", "primary: ue"), "no region is called 'ue'", "known: eu, us", "6:10"
    ),
    "unknown_region_in_at": Bad(
        component("at: {su: {}}"), "no region is called 'su'", "known: eu, us", "8:29"
    ),
    "unknown_variable": Bad(changed("eu/pages", '"${regoin.root}"'), "regoin", "region"),
    "unknown_region_variable": Bad(changed("eu/pages", '"${region.root}"'), "root", "known in eu"),
    "unfinished_reference": Bad(changed("eu/pages", '"${region"'), "has no `}`", "$${"),
    "bad_pipeline_name": Bad(
        changed("pipeline: small", "pipeline: Small-1"), "is not a name", "lower-case", "2:11"
    ),
    "bad_component_name": Bad(
        changed("  pages: {kind", "  pa-ges: {kind"), "is not a name", "lower-case", "8:3"
    ),
    "name_with_newline": Bad(changed("  eu: {", '  "eu\\n": {'), "is not a name", "lower-case", "4:3"),
    "name_of_an_expression": Bad(changed("  pages: {kind", "  in: {kind"), "means something else", "", "8:3"),
    "name_that_is_true": Bad(changed("  pages: {kind", "  true: {kind"), "must be text", '"true"', "8:3"),
    "very_long_name": Bad(
        changed("pipeline: small", "pipeline: " + "a" * 100_000), "64 characters", "", "2:11"
    ),
    # values
    "wrong_unit": Bad(component("deadline: 5 parsecs"), "is not a duration", "", "8:34"),
    "no_unit": Bad(component("deadline: 5"), "with its unit", "", "8:34"),
    "negative_duration": Bad(component("deadline: -5s"), "is not a duration", "", "8:34"),
    "no_duration": Bad(component("deadline: 0s"), "longer than nothing", "", "8:34"),
    "endless_duration": Bad(top("tiers: {critical: {rto: 99999999999d}}"), "a thousand years", "", "17:25"),
    "too_many_copies": Bad(
        top("tiers: {critical: {copies: 9999999}}"), "less than or equal to 16", "", "17:28"
    ),
    "infinite": Bad(top("keep: {last: .inf}"), "not a number", "", "17:14"),
    "not_a_number": Bad(top("keep: {last: .nan}"), "not a number", "", "17:14"),
    "huge_number": Bad(top("keep: {last: " + "9" * 10_000 + "}"), "not a number", "", "17:14"),
    "huge_exponent": Bad(top("keep: {last: 1e400}"), "not a number", "", "17:14"),
    "infinite_bound": Bad(changed("1.25x", "." + "9" * 400 + "e999"), "not a number"),
    "endless_ratio": Bad(changed("1.25x", "9" * 400 + "x"), "finite", "", "16:37"),
    "nothing_of_the_baseline": Bad(changed("1.25x", "0x"), "greater than 0", "", "16:37"),
    "newer_version": Bad(changed("version: 1", "version: 2"), "newer", "refloat", "1:10"),
    "version_in_text": Bad(changed("version: 1", 'version: "1"'), "version", "", "1:10"),
    "version_of_nothing": Bad(changed("version: 1", "version: 0"), "version", "", "1:10"),
    "credentials_in_the_vault": Bad(
        changed("{vault: eu/vault}", '{vault: "s3://AKIAKEY:hunter2hunter2@bucket/x"}'),
        "credentials",
        "environment",
        "4:15",
    ),
    "credentials_after_the_vault": Bad(
        changed("{vault: eu/vault}", '{vault: "s3://bucket/x?secret=hunter2hunter2"}'),
        "credentials",
        "environment",
        "4:15",
    ),
    "vault_of_no_kind": Bad(
        changed("{vault: eu/vault}", '{vault: "ftp://host/x"}'),
        "'ftp'",
        "s3://",
        "4:15",
        known_to_protect=False,
    ),
    "vault_of_nothing": Bad(changed("{vault: eu/vault}", '{vault: ""}'), "empty", "path", "4:15"),
    "beyond_unicode": Bad(changed("pipeline: small", 'pipeline: "\\U00110000"'), "no character", "", "2:12"),
    "beyond_integers": Bad(changed("pipeline: small", 'pipeline: "\\UFFFFFFFF"'), "no character", "", "2:12"),
    "half_a_character": Bad(changed("eu/pages", '"\\ud800"'), "U+D800", "leave it out", "8:37"),
    "vault_with_nul": Bad(changed("{vault: eu/vault}", '{vault: "a\\0b"}'), "U+0000", "leave it out", "4:15"),
    # references between parts
    "needs_itself": Bad(component("needs: [pages]"), "circle: pages needs pages", "", "8:31"),
    "needs_a_stranger": Bad(
        component("needs: [leger]"), "no component is called 'leger'", "'ledger'", "8:32"
    ),
    "needs_in_a_circle": Bad(
        component("needs: [ledger]").replace(
            "ledger: {kind: files,", "ledger: {kind: files, needs: [pages],"
        ),
        "circle",
    ),
    "group_of_nobody": Bad(
        changed("members: [pages, ledger]", "members: []"), "at least 1 entry", "", "11:22"
    ),
    "group_of_a_stranger": Bad(changed("[pages, ledger]", "[pages, leger]"), "'leger'", "'ledger'", "11:30"),
    "twice_in_a_group": Bad(
        changed("[pages, ledger]", "[pages, ledger, pages]"), "stands twice", "", "11:38"
    ),
    "bad_expression": Bad(
        changed("pages.files == pages.files", "pages.files ==="), "is not an expression", "", "11:46"
    ),
    "unfinished_expression": Bad(
        changed("pages.files == pages.files", '"(((("'), "is not an expression", "", "11:46"
    ),
    "deep_expression": Bad(
        changed("pages.files == pages.files", '"' + "(" * 50_000 + '"'), "at most 1000", "several", "11:46"
    ),
    "long_expression": Bad(
        changed("pages.files == pages.files", '"pages' + "[0]" * 33_000 + ' == 1"'),
        "at most 1000",
        "several",
        "11:46",
    ),
    "expression_about_a_stranger": Bad(
        changed("[pages, ledger]", "[ledger]"), "no member of group", "add pages", "11:39"
    ),
    "duplicate_key": Bad(
        changed("primary: eu", "primary: eu\nprimary: us"), "stands twice", "keep one", "7:1"
    ),
    "duplicate_component": Bad(
        changed("  ledger: {kind", "  pages: {kind"), "stands twice", "keep one", "9:3"
    ),
    # types
    "list_for_a_manifest": Bad("- version: 1\n", "must be a mapping", "version: 1", "1:1"),
    "text_for_a_manifest": Bad("hello\n", "must be a mapping", "version: 1", "1:1"),
    "text_for_components": Bad(
        re.sub(r"components:\n(  .*\n)+", "components: many\n", GOOD), "must be a mapping", "", "7:13"
    ),
    "number_for_text": Bad(
        changed("kind: files, with: {path: eu/pages}", "kind: 7"), "must be text", '"7"', "8:17"
    ),
    "mapping_for_text": Bad(changed("primary: eu", "primary: {eu: 1}"), "must be text", "", "6:10"),
    "text_for_a_list": Bad(component("needs: ledger"), "must be a list", "[ledger]", "8:31"),
    "text_for_settings": Bad(
        changed("with: {path: eu/pages}", "with: eu/pages"), "must be a mapping", "", "8:30"
    ),
    "list_for_settings": Bad(changed("with: {path: eu/pages}", "with: [a]"), "must be a mapping", "", "8:30"),
    "wrong_type_in_settings": Bad(changed("{path: eu/pages}", "{path: [a]}"), "path", "", "8:30"),
    "nothing_for_a_component": Bad(
        changed("pages: {kind: files, with: {path: eu/pages}}", "pages:"), "not empty", "", "8:3"
    ),
    "true_for_a_number": Bad(top("keep: {last: true}"), "whole number", "", "17:14"),
    "fraction_for_a_count": Bad(top("keep: {last: 1.5}"), "whole number", "", "17:14"),
    # what YAML could do
    "tab": Bad("version: 1\npipeline: small\nregions:\n\teu: {vault: a}\n", "not YAML", "spaces", "4:1"),
    "two_documents": Bad(GOOD + "---\n" + GOOD, "more than one document", "keep one", "17:1"),
    "anchor": Bad(changed("{path: eu/pages}", "&a {path: eu/pages}"), "anchors", "write the value", "8:30"),
    "alias": Bad(changed("{path: eu/pages}", "*a"), "anchors", "write the value", "8:30"),
    "merge_key": Bad(changed("pages: {kind: files,", "pages: {<<: *a, kind: files,"), "anchors", "", "8:15"),
    "merge_without_alias": Bad(component("<<: {kind: sqlite}"), "unknown key '<<'", "", "8:24"),
    "directive": Bad("%YAML 1.1\n---\n" + GOOD, "directive", "%", "2:1"),
    "python_object": Bad(
        changed("pipeline: small", 'pipeline: !!python/object/apply:os.system ["touch pwned"]'),
        "tag",
        "remove",
        "2:11",
    ),
    "python_name": Bad(
        changed("pipeline: small", "pipeline: !!python/name:os.system"), "tag", "remove", "2:11"
    ),
    "binary_tag": Bad(changed("pipeline: small", "pipeline: !!binary aGVsbG8="), "tag", "remove", "2:11"),
    "timestamp_tag": Bad(
        changed("pipeline: small", "pipeline: !!timestamp 2026-01-01"), "tag", "remove", "2:11"
    ),
    "own_tag": Bad(changed("pipeline: small", "pipeline: !foo bar"), "tag", "remove", "2:11"),
    "tagged_key": Bad(changed("pipeline: small", "!!str pipeline: small"), "tag", "remove", "2:1"),
    "unquoted_reference": Bad(changed("eu/pages", "${env:X}"), "not YAML", "quotes", r"8:\d+"),
    # bytes
    "empty": Bad("", "is empty", " init", "1:1"),
    "only_a_comment": Bad("# nothing\n  # here\n", "is empty", " init", "1:1"),
    "only_spaces": Bad(" \n\n  \n", "is empty", " init", "1:1"),
    "only_a_marker": Bad("---\n", "", ""),
    "only_null": Bad("null\n", "must be a mapping", "version: 1", "1:1"),
    "latin_1": Bad(
        changed("pipeline: small", "pipeline: sm\xe4ll").encode("latin-1"), "not UTF-8", "UTF-8", "2:13"
    ),
    "utf_16": Bad(GOOD.encode("utf-16"), "not UTF-8", "UTF-8", "1:1"),
    "utf_16_without_a_mark": Bad(GOOD.encode("utf-16-le"), "U+0000", "text file", "1:2"),
    "utf_32": Bad(GOOD.encode("utf-32"), "not UTF-8", "UTF-8", "1:1"),
    "nul": Bad(changed("pipeline: small", "pipeline: sm\0all"), "U+0000", "text file", "2:13"),
    "escape": Bad(changed("pipeline: small", "pipeline: sm\x1ball"), "U+001B", "text file", "2:13"),
    "binary": Bad(bytes(range(256)) * 8, "not UTF-8", "text file"),
    "pickle": Bad(b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.", "not UTF-8", "text file", "1:1"),
    "gzip": Bad(b"\x1f\x8b\x08\x00" + bytes(range(200)), "", "text file"),
}

# More than a manifest can be: each ends soon, and takes little memory.
BOMBS = {
    "alias_bomb": Bad(
        "a: &a [x,x]\n"
        + "".join(f"{c}: &{c} [*{b},*{b}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "anchors",
    ),
    "deep_lists": Bad("a: " + "[" * 100_000, "nested deeper", "", r"1:\d+"),
    "deep_mappings": Bad("{a: " * 100_000, "nested deeper", "", r"1:\d+"),
    "deep_lines": Bad("".join(" " * n + "a:\n" for n in range(1000)), "nested deeper", "", r"\d+:\d+"),
    "deep_keys": Bad("? " * 100_000, "", ""),
    "deep_dashes": Bad("- " * 100_000, "nested deeper", ""),
    "many_entries": Bad("a: [" + "1," * 500_000 + "]", "too many entries", "", r"1:\d+"),
    "many_unknown_keys": Bad("".join(f"k{n}: 1\n" for n in range(6_000)), "unknown key", ""),
    "many_components": Bad(
        GOOD.split("groups")[0] + "".join(f"  c{n}: {{kind: x}}\n" for n in range(4_000)),
        "at most 1000 entries",
    ),
    "many_strangers": Bad(
        GOOD.split("groups")[0]
        + "".join(f"  {'c' * 50}{n}: {{kind: x, needs: [{'c' * 50}x{n}]}}\n" for n in range(900)),
        "no component is called",
    ),
    "many_members": Bad(changed("[pages, ledger]", "[" + "pages," * 20_000 + "]"), "stands twice"),
    "one_long_line": Bad("a: " + "x" * 1_000_000, "unknown key", ""),
    "one_long_key": Bad("x" * 1_000_000 + ": 1", "", ""),
    "many_quotes": Bad("a: " + "'" * 1_000_000, "", ""),
    "many_colons": Bad(":" * 1_000_000, "", ""),
    "many_comments": Bad("#\n" * 500_000, "is empty", " init"),
    "many_lines": Bad("\n" * 1_000_000, "is empty", " init"),
    "many_anchors": Bad("".join(f"- &a{n} x\n" for n in range(50_000)), "anchors"),
    "many_references": Bad(changed("eu/pages", '"' + "${" * 300_000 + '"'), "", ""),
    "long_expressions": Bad(
        changed("[pages.files == pages.files]", "[" + ('"pages' + "[0]" * 300 + ' == 1",') * 1_000 + "]"),
        "100000 characters together",
    ),
    "many_expressions": Bad(
        changed("[pages.files == pages.files]", "[" + "a.b ==," * 10_000 + "]"), "is not an expression", ""
    ),
}


# ---------------------------------------------------------------------------------------------- the manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which everything is right but what a test puts in the manifest's place, and a key."""
    root = tmp_path_factory.mktemp("world")
    for folder in ("eu/pages", "eu/ledger", "home", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "eu/pages/a.txt").write_text("a")
    (root / "golden.jsonl").write_text('{"id": "q", "request": {}, "expected": {}}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REFLOAT_PASSPHRASE", raising=False)
        patch.setenv("HOME", str(root / "home"))
        patch.setenv("TMPDIR", str(root / "tmp"))
        patch.setattr("tempfile.tempdir", str(root / "tmp"))
        patch.setenv("REFLOAT_KEY_FILE", str(root / "small.key"))
        patch.chdir(root)
        (root / "refloat.yaml").write_text(GOOD)
        assert run(["-q", "vault", "init", "--key", "small.key"]) == 0
        yield root


@dataclass
class Heard:
    """What a command said, and what it cost."""

    code: int
    out: str
    err: str
    cpu_s: float

    @property
    def error(self) -> dict[str, str]:
        """The one error document."""
        assert self.out.count("\n") == 1, self.out
        document = json.loads(self.out)
        assert set(document) == {"schema", "error"}, document
        found: dict[str, str] = document["error"]
        return found


@pytest.fixture
def hear(world: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Heard]:
    """Runs a command; nothing may be left of it, and no traceback be seen."""

    def hear(*arguments: str) -> Heard:
        before = everything(world)
        capsys.readouterr()
        began_s = time.process_time()
        code = run(list(arguments))
        cpu_s = time.process_time() - began_s
        out, err = capsys.readouterr()
        assert "Traceback (" not in out + err
        assert "defect" not in out + err
        assert everything(world) == before
        return Heard(code, out, err, cpu_s)

    return hear


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below ``root``, and of files what changes when somebody writes there."""
    found = {str(path.relative_to(root)): path for path in sorted(root.rglob("*"))}
    return {n: (0, 0) if p.is_dir() else (p.lstat().st_size, p.lstat().st_mtime_ns) for n, p in found.items()}


def told(heard: Heard, bad: Bad, *, file: str | None) -> None:
    """The error says what it must, in the file and where in it unless that is None, and comes to an end."""
    error = heard.error
    assert heard.code == 2, error
    assert bad.words in error["message"]
    assert bad.hint in error["next"]
    assert len(error["message"]) < 30_000
    assert len(error["next"]) < 1_000
    if file is not None:
        assert re.fullmatch(f"{file}:(?:{bad.place})", error["file"]), error["file"]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest_is_one_error_and_nothing_is_written(name: str, world: Path, hear) -> None:  # fault 61
    bad = BAD[name]
    (world / "refloat.yaml").write_bytes(bad.bytes)
    told(hear("check", "--json"), bad, file="refloat.yaml")
    read = hear("--no-color", "check")
    assert (read.code, read.out) == (2, "")
    assert read.err.startswith("error: ")
    assert "\n  next: " in read.err
    if bad.known_to_protect:
        told(hear("protect", "--json"), bad, file=None)


TRY = r"""
import contextlib, io, json, re, sys, time
from refloat.cli.main import run
for name in sys.argv[1:]:
    said, began_s = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said):
        code = run(["-f", name, "--json", "check"])
    cpu_s = time.process_time() - began_s
    with open("/proc/self/status") as status:  # ru_maxrss would count what the parent had before exec
        rss = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024
    print(json.dumps([code, said.getvalue(), cpu_s, rss]), flush=True)
"""


@pytest.fixture(scope="module")
def tried(world: Path) -> dict[str, tuple[Heard, int]]:
    """What came of every manifest that is too much, in one process, and the most memory that this took so far."""
    for name, bad in BOMBS.items():
        (world / f"{name}.yaml").write_bytes(bad.bytes)
    command = [sys.executable, "-c", TRY, *(f"{name}.yaml" for name in BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, cwd=world)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        name: (Heard(code, out, "", cpu_s), rss)
        for name, (code, out, cpu_s, rss) in zip(BOMBS, answers, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_manifest_that_is_too_much_ends_soon_and_takes_little(name: str, tried) -> None:  # fault 61
    heard, memory_bytes = tried[name]
    told(heard, BOMBS[name], file=f"{name}.yaml")
    assert heard.cpu_s < SECONDS_MAX
    assert memory_bytes < MEMORY_BYTES_MAX


def fifo(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)


# What stands where the manifest should: how it comes there, and what is said of it.
NO_FILES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing": (lambda path: None, "there is no manifest here", " init"),
    "a_folder": (lambda path: path.mkdir(), "is a directory", "name the file in it: -f "),
    "a_pipe": (fifo, "no file, but a pipe or a device", "ls -l"),
    "a_device_without_end": (
        lambda path: path.symlink_to("/dev/zero"),
        "no file, but a pipe or a device",
        "ls -l",
    ),
    "a_device_without_anything": (lambda path: path.symlink_to("/dev/null"), "a pipe or a device", "ls -l"),
    "a_link_to_itself": (
        lambda path: path.symlink_to(path.name),
        "Too many levels of symbolic links",
        "ls -l",
    ),
    "a_link_to_nothing": (lambda path: path.symlink_to("gone"), "there is no manifest here", " init"),
    "a_hundred_megabytes": (sparse, "larger than", "the right file"),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_manifest_at_all_is_refused_and_not_waited_for(
    name: str, world: Path, hear
) -> None:  # fault 61
    make, words, hint = NO_FILES[name]
    (world / "other.yaml").unlink(missing_ok=True)
    make(world / "other.yaml")
    try:
        for verb in ("check", "protect", "status", "plan", "points list", "vault check"):
            heard = hear(
                "-f", "other.yaml", "--json", *verb.split(), *(("--to", "us") if verb == "plan" else ())
            )
            assert heard.code == 2
            assert words in heard.error["message"]
            assert hint in heard.error["next"]
            assert heard.error["file"] == "other.yaml"
    finally:
        if name != "nothing":
            (world / "other.yaml").rmdir() if name == "a_folder" else (world / "other.yaml").unlink()


def test_a_manifest_that_may_not_be_read_is_told(world: Path) -> None:
    path = world / "hidden.yaml"
    path.write_text(GOOD)
    path.chmod(0)
    command = [sys.executable, "-m", "refloat", "-f", str(path), "--json", "check"]
    if os.geteuid() == 0:  # root reads everything, unless the capability to is taken away
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("HIDDEN MANIFEST NOT TRIED: this is root, and setpriv is not to be had")
        command = [setpriv, "--bounding-set=-all", "--inh-caps=-all", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    path.unlink()
    assert done.returncode == 2, done.stderr
    assert "cannot be read: Permission denied" in json.loads(done.stdout)["error"]["message"]


def test_all_that_is_missing_outside_is_named_at_once(world: Path, hear) -> None:
    late = changed("{path: eu/pages}", '{path: "${env:LOST_A}/${env:LOST_B}/${file:lost.txt}"}')
    (world / "refloat.yaml").write_text(late.replace("path: eu/ledger", 'path: "${env:LOST_C}${file:pipe}"'))
    os.mkfifo(world / "pipe")
    try:
        heard = hear("check", "--json")
    finally:
        (world / "pipe").unlink()
    assert heard.code == 2
    for name in ("LOST_A", "LOST_B", "LOST_C", "lost.txt", "pipe"):
        assert name in heard.error["message"]
    assert heard.error["next"] == "set them, or change the manifest"
    assert heard.error["file"] == "refloat.yaml"
    (world / "refloat.yaml").write_text(late)
    assert hear("protect", "--json").code == 2


def test_what_yaml_would_construct_is_not(world: Path) -> None:
    assert not (world / "pwned").exists()


# ------------------------------------------------------------------------------------------ the command line

ODD = [
    "",
    "-",
    "--",
    "---",
    "-x",
    "--nope",
    "--at",
    "--at=yesterday",
    "--at=2026-13-45T99:99:99Z",
    "--at=9999-12-31T23:59:59-23:59",
    "--lost-at=0001-01-01T00:00:00+23:59",
    "--only=",
    "--only=a\nb",
    "--only=\udcff",
    "--to=",
    "--to=us",
    "--to=../../etc",
    "--vault=",
    "--vault=://",
    "--vault=nope://x",
    "--vault=s3://",
    "--vault=file://host/x",
    "--vault=\udcff",
    "--vault=http://[::1",
    "--vault=lost",
    "--region=\x1b[31m",
    "--region=a=b",
    "--component=a=b:c",
    "--require=everything",
    "--override=target_foreign",
    "--override=nothing",
    "--resume=\n",
    "--key=/dev/null",
    "--json",
    "--debug=1",
    "-q",
    "-f",
    "-flost.yaml",
    "--file=",
    "--file=/proc/self/mem",
    "--file=\udcfe",
    "--show-completion=tcl",
    "a" * 100_000,
    "\udcff\udcfe",
    "é\n\t\x7f",
    "0",
    "-1",
    "%s%n",
    "${env:HOME}",
    "list",
    "show",
    "diff",
    "init",
    "cat",
    "ls",
    "repair",
]
WORDS = st.sampled_from([verb for verb in VERBS if verb != "demo"]) | st.sampled_from(ODD)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=6))
def test_no_command_line_gets_a_traceback(
    world: Path, capsys: pytest.CaptureFixture[str], typed: list[str]
) -> None:
    (world / "refloat.yaml").write_text(GOOD)
    capsys.readouterr()
    code = run(typed)
    out, err = capsys.readouterr()
    assert code in EXIT_CODES
    assert "Traceback (" not in out + err
    assert "defect" not in out + err
    if "--json" in typed and "--" not in typed and out.startswith("{"):
        assert out.count("\n") == 1
        json.loads(out)


@pytest.mark.parametrize("shown", ["a\nb", "\udcff", "\x1b[31m", "a" * 100_000])
def test_an_odd_word_is_a_usage_error_in_one_document(world: Path, shown: str, hear) -> None:
    (world / "refloat.yaml").write_text(GOOD)
    heard = hear("--json", "points", "show", shown)
    assert heard.code == 2
    assert heard.error["code"] == "usage"
    assert len(heard.out) < 200_500
