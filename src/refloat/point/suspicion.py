"""Whether a point holds what ransomware or a mass deletion leaves: told from sizes alone, against what was before.

Ransomware leaves as many bytes as there were, all of them new, that do not get smaller though what they replace did.
A retrained model gets as small as the one before, a requantised one or an archive has far fewer bytes, a compacted
table shrinks and is new from end to end, and what is only added takes nothing away: none of these is suspect. Data that
never got smaller cannot be told from its own ciphertext, and is judged by what is missing alone.

A suspicion stays until the content is again what a good point held, or is written anew and gets smaller, or a person
accepts the point: that nothing has changed since clears nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from refloat.limits import KIB

SOURCE_REWRITTEN = "source_rewritten"
SOURCE_SHRANK = "source_shrank"

DENSE, REWRITTEN, DEDUP_LOST, SHRANK = "dense", "rewritten", "dedup_lost", "shrank"
"""The reasons: what is new does not get smaller; all is new, which it seldom was; nothing was stored before, which most
of it was; half or more is gone."""

SHRANK_TO = 0.5  # of its bytes or files: what a component loses by daily work is less
SMALL_BYTES = 64 * KIB  # of less, any change is a change of the whole
FILES_MIN = 10  # of fewer, half is soon gone by daily work
ANEW = 0.9  # of its bytes are new: ciphertext leaves nothing as it was
ANEW_BYTES_MIN = 0.1  # of the bytes before: a model of 32 bits that is packed to 4 has an eighth
GONE_MIN = 0.5  # of what was there: a part that is replaced by archives is daily work
AS_LARGE = 0.85  # of the bytes before: encryption makes nothing smaller, quantising and packing halve it
SAVING_MIN = 0.08  # of its bytes packing saves: 0.09 of Parquet with zstd, 0.16 of weights, 0.65 of text
SAVING_LEFT = (
    0.5  # of what was saved: with every other 16 KiB encrypted, text and weights keep 0.25 to 0.5 of it
)
CIPHER_SAVING_MAX = 0.05  # the listings of 200 small files of pure ciphertext save 0.044
USUAL_SHARE = (
    0.5  # of the captures that found something new, or of all bytes: what happens more often is no sign
)


@dataclass(frozen=True)
class Part:
    """How much a point holds of a component, how much of that was not in the vault before, and what it takes there.

    ``tree`` names its content, ``kind`` its connector.
    """

    files: int
    bytes: int
    new_bytes: int
    stored_bytes: int
    tree: str = ""
    kind: str = ""

    @property
    def saving(self) -> float:
        """The share of the new bytes that packing saved."""
        return 1 - self.stored_bytes / self.new_bytes if self.new_bytes else 0.0

    @property
    def old_bytes(self) -> int:
        """How much of it was in the vault before."""
        return max(0, self.bytes - self.new_bytes)


class Contents(Protocol):
    """What sizes do not tell, and reading the listings does; asked only where a part looks suspect."""

    def alike(self, part: Part, good: Part) -> bool:
        """Whether most of the first part's content is that of the second."""

    def saving(self, part: Part) -> float:
        """The share of all its bytes that packing saves."""


Suspects = Mapping[str, Mapping[str, tuple[str, ...]]]
"""By point and component, the reasons; only what is suspect."""


def less(before: Part, after: Part | None) -> str | None:
    """What is left, where that is half or less; None where it is more."""
    if after is None:
        return "none"
    for unit, was, now in (
        ("files", before.files, after.files),
        ("bytes", before.bytes, after.bytes),
    ):
        if was > 0 and now <= was * SHRANK_TO:
            return f"{now} of the {was} {unit}"
    return None


@dataclass(frozen=True)
class Past:
    """What is known of a component from its points that are not suspect. ``reasons`` hold of what came since."""

    last: Part
    new_bytes: int = 0
    stored_bytes: int = 0
    changes: int = 0
    rewrites: int = 0
    later_bytes: int = 0
    later_old_bytes: int = 0
    reasons: tuple[str, ...] = ()

    @classmethod
    def begun(cls, first: Part) -> Past:
        """With its first capture, which is new as a whole and says nothing of what is usual."""
        return cls(first, first.new_bytes, first.stored_bytes)

    @property
    def saving(self) -> float:
        """The share that packing saved of all that was ever written of it."""
        return 1 - self.stored_bytes / self.new_bytes if self.new_bytes else 0.0

    def usual_saving(self, contents: Contents) -> float:
        """The same, also where the points that wrote most of it are forgotten."""
        told = self.new_bytes >= self.last.bytes * USUAL_SHARE
        return self.saving if told else contents.saving(self.last)

    @property
    def usually_rewritten(self) -> bool:
        """Whether most changes left nothing as it was: a series of checkpoints."""
        return self.rewrites > self.changes * USUAL_SHARE

    @property
    def usually_known(self) -> bool:
        """Whether most of what its captures found was in the vault already."""
        return self.later_old_bytes > self.later_bytes * USUAL_SHARE

    def gone(self, part: Part) -> float:
        """The share of the last good part's bytes that is not there any more."""
        if not self.last.bytes:
            return 0.0
        return max(0, self.last.bytes - part.old_bytes) / self.last.bytes

    def with_good(self, part: Part) -> Past:
        """After a part that is not suspect."""
        return Past(
            part,
            self.new_bytes + part.new_bytes,
            self.stored_bytes + part.stored_bytes,
            self.changes + (part.new_bytes > 0),
            self.rewrites + (part.new_bytes > 0 and self.gone(part) >= ANEW),
            self.later_bytes + part.bytes,
            self.later_old_bytes + part.old_bytes,
        )


def reasons(past: Past, part: Part, contents: Contents) -> tuple[str, ...]:
    """Why a part is suspect after such a past, as seen for the first time; empty where it is not."""
    if _is_dense(past, part, contents):
        return (DENSE, *_company(past, part))
    return (SHRANK,) if _shrank(past.last, part) and not _made_anew(past.last, part) else ()


def _is_dense(past: Past, part: Part, contents: Contents) -> bool:
    """Most of what was there is gone, and what came in its place, no smaller, saves far less."""
    last = past.last
    if part.bytes < SMALL_BYTES or part.bytes < last.bytes * AS_LARGE or past.gone(part) < GONE_MIN:
        return False
    gone, usual = past.gone(part), past.usual_saving(contents)
    cipher = part.saving <= CIPHER_SAVING_MAX
    mixed = gone >= ANEW and not past.usually_rewritten
    return usual >= SAVING_MIN and part.saving <= usual * SAVING_LEFT and (cipher or mixed)


def _company(past: Past, part: Part) -> tuple[str, ...]:
    """What happens daily by itself, and tells a person more of what does not."""
    rewritten = past.gone(part) >= ANEW and not past.usually_rewritten
    lost = part.old_bytes <= part.bytes * (1 - ANEW) and past.usually_known
    return (*([REWRITTEN] if rewritten else []), *([DEDUP_LOST] if lost else []))


def _shrank(before: Part, after: Part) -> bool:
    """Half of many files, with half of the bytes, or half of the bytes of a component that is not small."""
    fewer_files = before.files >= FILES_MIN and after.files <= before.files * SHRANK_TO
    fewer_bytes = after.bytes <= before.bytes * SHRANK_TO
    return fewer_bytes and (fewer_files or before.bytes >= SMALL_BYTES)


def _made_anew(before: Part, after: Part) -> bool:
    """What is left is not a rest, but something else: a packed model, a compacted table."""
    return after.new_bytes >= after.bytes * ANEW and after.bytes >= before.bytes * ANEW_BYTES_MIN


def _still(past: Past, part: Part, contents: Contents) -> tuple[str, ...]:
    """Which reasons of a suspicion are left: sizes come back by themselves, content only as content."""
    if part.tree and part.tree == past.last.tree:
        return ()
    found = {SHRANK} if _shrank(past.last, part) else set()
    anew = part.bytes > 0 and part.new_bytes >= part.bytes * GONE_MIN
    cleared = anew and part.saving > past.usual_saving(contents) * SAVING_LEFT
    if DENSE in past.reasons and not cleared and not contents.alike(part, past.last):
        found |= set(past.reasons) - {SHRANK}
    found |= set(reasons(past, part, contents)) if DENSE not in past.reasons else set()
    return tuple(reason for reason in (DENSE, REWRITTEN, DEDUP_LOST, SHRANK) if reason in found)


def rule_of(reason: str) -> str:
    """The safety rule of forgetting by which a person accepts a reason."""
    return SOURCE_SHRANK if reason == SHRANK else SOURCE_REWRITTEN


def judge(
    points: Iterable[tuple[str, Mapping[str, Part]]],
    accepted: Mapping[str, Collection[str]],
    contents: Contents,
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Which points are suspect, and why, by component; ``points`` are oldest first.

    ``accepted`` are by safety rule the points that a person has accepted: what they hold is good from then on.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    pasts: dict[tuple[str, str], Past] = {}
    for name, parts in points:
        for component, part in parts.items():
            past = pasts.get((component, part.kind))
            if past is None:
                pasts[component, part.kind] = Past.begun(part)
                continue
            seen = _still(past, part, contents) if past.reasons else reasons(past, part, contents)
            left = tuple(reason for reason in seen if name not in accepted.get(rule_of(reason), ()))
            if left:
                found.setdefault(name, {})[component] = left
            pasts[component, part.kind] = replace(past, reasons=left) if left else past.with_good(part)
    return found


def spoken(suspect: Mapping[str, Collection[str]]) -> str:
    """The reasons in words: ``pages looks encrypted (dense, rewritten)``."""
    return "; ".join(
        f"{component} {'looks encrypted' if DENSE in why else 'lost half or more'} ({', '.join(why)})"
        for component, why in suspect.items()
    )
