"""What `bench-vault` measures, what the figures should be, and the tables that say whether they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from limits import CIPHER, FACTS, HASH, LIMITS, MEGABYTE, PACK, READ, UNPACK, WRITE
from measure import Run, cpu, peaks
from report import ABSENT, MIB, Section, Series, Table, figure, paired_ratio
from training import Sources

REFLOAT, RESTIC, BORG = "refloat", "restic", "borg"
TOOLS = (REFLOAT, RESTIC, BORG)
GIGABYTE = 1_000_000_000
PEAK_MIB_MAX = 400_000_000 / MIB  # 400 MB resident, whatever is done
FIRST_SIGHT, DIFFERENCES = 2.5, 3.5  # processor seconds a GB, at most
_STORED = (READ, FACTS, HASH, PACK, CIPHER, WRITE)
_OPENED = (READ, UNPACK, HASH, CIPHER)


@dataclass(frozen=True)
class Row:
    """One kind of work, and the aims against restic: times its speed, of its size, and processor seconds a GB.

    ``needs`` are what of the machine it cannot do without. One that ``repeats`` has the runs of the row before it,
    timed otherwise.
    """

    name: str
    speed_min: float | None
    stored_max: float | None = None
    cpu_max: float | None = None
    needs: tuple[str, ...] = _STORED
    repeats: bool = False


FIRST = Row("first checkpoint, fp32 with optimizer", 3.5, 0.84, FIRST_SIGHT)
NEXT = Row("next checkpoint, a few steps on", 3.5, 0.65, DIFFERENCES)
LATER = Row("next checkpoint, 15 steps on", 3.0, 0.75, DIFFERENCES)
BF16 = Row("bf16 weights, first", 3.5, 0.72, FIRST_SIGHT)
TUNED = Row("light bf16 fine-tune of a stored base", 3.0, 0.22, DIFFERENCES)
TUNED_ELSEWHERE = Row("the same, in a folder of another name", 3.0, 0.22, DIFFERENCES)
MIXED = Row("mixed, first", 3.0, 0.90, FIRST_SIGHT)
UNCHANGED = Row("unchanged", 2.5, needs=(READ,))
RESTORE = Row("restore, full, the last of a series", 3.0, needs=(*_OPENED, WRITE))
RESTORE_ON_DISK = Row("the same, until on disk", 3.0, needs=(*_OPENED, WRITE), repeats=True)
VERIFY = Row("verify every byte", 3.5, needs=_OPENED)
PRUNE = Row("prune after dropping half the points", 3.0, needs=(READ, WRITE))
ONE = Row("one 4 MB file out of everything", 1.0, needs=_OPENED)
ROWS = (
    FIRST,
    NEXT,
    LATER,
    BF16,
    TUNED,
    TUNED_ELSEWHERE,
    MIXED,
    UNCHANGED,
    RESTORE,
    RESTORE_ON_DISK,
    VERIFY,
    PRUNE,
    ONE,
)


@dataclass
class Taken:
    """What was measured so far: runs and growth of the store by tool and row, in the order of the rounds.

    ``alone`` are the seconds of the vault in one process, by row's name; ``sizes`` the bytes that a row's speed counts.
    """

    names: tuple[str, ...]
    runs: dict[tuple[str, Row], list[Run]] = field(default_factory=dict)
    stored_mib: dict[tuple[str, Row], list[float]] = field(default_factory=dict)
    alone_s: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[Row, int] = field(default_factory=dict)
    limits: dict[str, list[float]] = field(default_factory=dict)
    starts_s: list[float] = field(default_factory=list)

    def add(self, tool: str, row: Row, ran: Run, size: int) -> None:
        """One run over ``size`` bytes."""
        self.runs.setdefault((tool, row), []).append(ran)
        self.sizes[row] = size

    def add_stored(self, tool: str, row: Row, mib: float) -> None:
        """By how much that made the store grow."""
        self.stored_mib.setdefault((tool, row), []).append(mib)

    def add_alone(self, seconds: Mapping[str, float]) -> None:
        """The same rows by the vault alone."""
        for name, taken in seconds.items():
            self.alone_s.setdefault(name, []).append(taken)

    def add_limits(self, rates: Mapping[str, float]) -> None:
        """What the machine could do in this round, in MB/s."""
        for name, rate in rates.items():
            self.limits.setdefault(name, []).append(rate)

    def rows(self) -> list[Row]:
        """What was measured of anything."""
        return [row for row in ROWS if row in self.sizes]

    def speed(self, tool: str, row: Row) -> Series | None:
        """MB/s of a tool; None where it was not measured."""
        runs = self.runs.get((tool, row))
        return self._speed(row, [run.wall_s for run in runs]) if runs else None

    def speed_alone(self, row: Row) -> Series | None:
        """MB/s of the vault in one process."""
        seconds = self.alone_s.get(row.name)
        return self._speed(row, seconds) if seconds else None

    def _speed(self, row: Row, seconds: Sequence[float]) -> Series:
        return Series(tuple(self.sizes[row] / MEGABYTE / taken for taken in seconds), "MB/s")

    def stored(self, tool: str, row: Row) -> Series | None:
        """MiB by which the store grew."""
        grown = self.stored_mib.get((tool, row))
        return Series(tuple(grown), "MiB") if grown else None

    def cpu_per_gb(self, tool: str, row: Row) -> Series | None:
        """Processor seconds a GB."""
        runs = not row.repeats and self.runs.get((tool, row))
        return Series(tuple(s * GIGABYTE / self.sizes[row] for s in cpu(runs).values), "s") if runs else None

    def peak(self, tool: str, row: Row) -> Series | None:
        """Peak resident MiB."""
        runs = not row.repeats and self.runs.get((tool, row))
        return peaks(runs) if runs else None


# ------------------------------------------------------------------------------------------- the section

NOTES = (
    "Speeds are in bytes of what is protected: for a capture, of the folder that came (every tool looks at the "
    "earlier ones, too); of everything, where nothing changed, and where all is verified or restored; for prune, of "
    "what only the dropped points hold.",
    "Stored is by how much everything in the tool's store grew, its indexes included.",
    "The fine-tune joins its base as `v2` beside `v1`; and, in stores of their own, as `tuned` beside `base`.",
    "Before each command everything is written to the disk, and what the command reads is read once, for every "
    "tool alike: the figures are those of a warm page cache.",
    "restic has its defaults and its second format; borg is encrypted with `repokey-blake2` and compresses with zstd, "
    "since its own default, LZ4, would not compare by size.",
    "refloat's prune is three commands, all of them counted: `points forget`, `vault prune`, which marks, and "
    "`vault prune` with the clock a day on, which removes what was marked and verifies what stays.",
    "`refloat recover --into` makes every file durable before it ends; restic and borg leave that to the system: "
    "*until on disk* adds the time until everything is there.",
    "restic and borg derive a key from a password at every start, by design slowly; refloat reads a key file here.",
    "What was restored is compared with the original, file by file by SHA-256, in every round; so is the one file.",
    "*Why aims of speed are missed*: they come from a prototype without commands, roles, facts or checks, on another "
    "machine. Here the stages together cost what the table says; packing alone takes all of the processor time that "
    "the aim leaves. Two stages are ours by choice: SHA-256, since a component's facts name its files as other tools "
    "do, and unpacking again what was packed, so that a mistake of a compressor costs space and not the content. "
    "Before any of it a command starts an interpreter and imports what it needs, which for 300 MB is a good part of "
    "all; the table of one process is without that.",
    "*Why the next checkpoint stays above its size*: of each weight's difference to the checkpoint before, the two "
    "lower bytes are noise. Zstandard at level 19 makes 0.64 to 0.76 of single chunks of this training, and level 1 "
    "the same within 0.003.",
    "*Why prune frees less*: a difference keeps the pack of its base, and a pack goes as a whole or not at all.",
    "The machine's limits are those of every core at once on 4 MiB pieces in memory or in the page cache, for "
    "writing those of one thread with objects of 64 MiB. Compressed bytes are fewer than the source's, so a speed can "
    "be above the disk's.",
)


def section(taken: Taken, sources: Sources, rounds: int) -> Section:
    """Everything that was measured, as tables."""
    missing = [name for name in TOOLS if name not in taken.names]
    notes = [
        f"{name.upper()} IS NOT INSTALLED, and could not be: nothing stands beside refloat."
        for name in missing
    ]
    tables = (
        _beside(taken, "Speed", taken.speed),
        _against(taken, RESTIC),
        _against(taken, BORG),
        _beside(taken, "Stored", taken.stored),
        _beside(taken, "Processor time a GB", taken.cpu_per_gb, lambda row: row.cpu_max),
        _beside(taken, "Peak memory", taken.peak, lambda _: PEAK_MIB_MAX),
        _machine(taken),
        _costs(taken),
        _fractions(taken),
        _alone(taken),
    )
    return Section(
        name="vault on training",
        title=f"The vault beside restic and borg on what training leaves, {rounds} interleaved rounds",
        tables=tuple(table for table in tables if table.rows),
        notes=(*notes, *_about(sources), *NOTES),
    )


def _about(sources: Sources) -> Iterator[str]:
    """What the sources are, in training's own words."""
    told = sources.told
    small, large = (told["parameters"][name] / 1e6 for name in ("small", "large"))
    losses = {name: f"{found[0]:.2f} to {found[-1]:.2f}" for name, found in told["losses"].items()}
    shares = "; ".join(f"{what}: {share:.3f}" for what, share in told["shares"].items())
    steps = ", ".join(str(step) for step in sources.steps)
    yield (
        f"Sources of {sources.size() / MEGABYTE:.0f} MB, from torch {told['torch']}: checkpoints at steps {steps} of "
        f"a transformer of {figure(small)} million parameters (loss {losses['small']}), and bf16 weights of one of "
        f"{figure(large)} million (loss {losses['large']}), both trained on Python's documentation. Shares: {shares}."
    )


Figures = Callable[[str, Row], Series | None]


def _beside(
    taken: Taken, title: str, figures: Figures, aim: Callable[[Row], float | None] | None = None
) -> Table:
    """A figure of each tool side by side, with refloat's aim behind its own."""
    rows = []
    for row in taken.rows():
        found = {tool: figures(tool, row) for tool in TOOLS}
        if not any(found.values()):
            continue
        cells = [str(found[tool] or ABSENT) for tool in TOOLS]
        if aim is not None:
            cells.insert(1, _at_most(found[REFLOAT], aim(row)))
        rows.append((row.name, *cells))
    headings = ("work", REFLOAT, *(("aim",) if aim else ()), RESTIC, BORG)
    return Table(title, headings, tuple(rows))


def _at_most(found: Series | None, most: float | None) -> str:
    return ABSENT if found is None or most is None else found.against(most)


def _against(taken: Taken, other: str) -> Table:
    """How many times as fast refloat is, and how much of the size it stores; the aims are against restic."""
    aims = other == RESTIC
    rows = []
    for row in taken.rows():
        speed = _faster(taken.speed(REFLOAT, row), taken.speed(other, row), row.speed_min if aims else None)
        size = _smaller(taken, other, row, row.stored_max if aims else None)
        cells = (*speed, *size) if aims else (speed[0], size[0])
        if any(cell != ABSENT for cell in cells):
            rows.append((row.name, *cells))
    aimed = ("work", "times as fast", "aim", "of its size", "aim")
    headings = aimed if aims else ("work", "times as fast", "of its size")
    return Table(f"Against {other}", headings, tuple(rows))


def _faster(ours: Series | None, theirs: Series | None, least: float | None) -> tuple[str, str]:
    if ours is None or theirs is None:
        return ABSENT, ABSENT
    ratio = paired_ratio(ours, theirs)
    return str(ratio), ABSENT if least is None else ratio.reaching(least)


def _smaller(taken: Taken, other: str, row: Row, most: float | None) -> tuple[str, str]:
    ours, theirs = taken.stored(REFLOAT, row), taken.stored(other, row)
    if ours is None or theirs is None or row in (UNCHANGED, PRUNE):
        return ABSENT, ABSENT
    ratio = paired_ratio(ours, theirs)
    return str(ratio), ABSENT if most is None else ratio.against(most)


def _machine(taken: Taken) -> Table:
    rows = tuple((name, str(Series(tuple(taken.limits[name]), "MB/s"))) for name in LIMITS)
    return Table("The machine's own limits", ("limit", "rate"), rows)


def _costs(taken: Taken) -> Table:
    """What a first sight of a gigabyte of fp32 costs at the least, stage by stage, and what every command costs."""
    cores = len(os.sched_getaffinity(0))
    stages = [
        (name, cores * GIGABYTE / MEGABYTE / Series(tuple(taken.limits[name]), "").median)
        for name in (READ, FACTS, HASH, PACK, UNPACK, CIPHER)
    ]
    rows = [(name, f"{figure(seconds)} s") for name, seconds in stages]
    rows.append(("together, a GB", f"{figure(sum(seconds for _, seconds in stages))} s"))
    if taken.starts_s:
        rows.append(("start of any capture, once", str(Series(tuple(taken.starts_s), "s"))))
    return Table("What it costs at the least, in processor time", ("stage", "processor time"), tuple(rows))


def _fractions(taken: Taken) -> Table:
    """How near each comes to the least of the limits that its work cannot do without."""
    medians = {name: Series(tuple(rates), "MB/s") for name, rates in taken.limits.items()}
    rows = []
    for row in taken.rows():
        name = min(row.needs, key=lambda limit: medians[limit].median)
        speeds = [taken.speed(tool, row) for tool in TOOLS]
        cells = [
            ABSENT if speed is None else figure(paired_ratio(speed, medians[name]).value) for speed in speeds
        ]
        rows.append((row.name, *cells, name))
    return Table("Of the least of the machine's limits", ("work", *TOOLS, "the least"), tuple(rows))


def _alone(taken: Taken) -> Table:
    """The vault alone, without the start of an interpreter and all that a command does besides."""
    rows = []
    for row in taken.rows():
        alone = taken.speed_alone(row)
        if alone is not None:
            beside = (taken.speed(tool, row) for tool in TOOLS)
            rows.append((row.name, str(alone), *(_faster(alone, other, None)[0] for other in beside)))
    headings = ("work", "the vault alone", *(f"times {tool}" for tool in TOOLS))
    return Table("In one Python process", headings, tuple(rows))
