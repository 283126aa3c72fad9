"""Where the members of a zip archive stand, for the formats that are one: read, checked, and never unpacked.

PKWARE's APPNOTE.TXT, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT. A reader of our own, because an
archive may be followed by others, and because the standard library's trusts sizes and keeps no bounds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from refloat.limits import KIB, MIB
from refloat.vault.segmenters.spans import NAME_CHARS_MAX, SPANS_MAX, RandomAccess, Span, read_exactly

DIRECTORY_BYTES_MAX = 64 * MIB  # SPANS_MAX members with names of 250 bytes
TAIL_BYTES_MAX = 4 * KIB  # between two members: a descriptor, a header, at most the end of a small archive

_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_NONE_32 = 0xFFFFFFFF
_ENCRYPTED = 1
_EXTRA_64 = 1


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: its header stands at ``header``, its ``length`` bytes as stored at ``start``."""

    name: str
    header: int
    start: int
    length: int
    stored: bool  # as it is, not compressed


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive that stands in a file from ``start`` on, and its members in order of place."""

    start: int
    members: tuple[Member, ...]


def first_name(head: bytes) -> tuple[str, bool]:
    """The name of the first member, as far as ``head`` goes, and whether that is all; empty for no zip archive."""
    if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
        return "", True
    length = int(_LOCAL.unpack_from(head)[9])
    name = head[_LOCAL.size : _LOCAL.size + length]
    return name.decode("utf-8", "replace"), len(name) == length


def is_undated(head: bytes) -> bool:
    """Whether the first member has the date 0, which only programs that leave it out write."""
    return len(head) >= _LOCAL.size and _LOCAL.unpack_from(head)[4:6] == (0, 0)


def read_archive(file: RandomAccess, end: int) -> Archive:
    """The archive that ends at ``end``, without a comment. Raises ``ValueError`` for anything that does not fit."""
    directory_end, count, size, offset = _ending(file, end)
    start = directory_end - size - offset
    if start < 0 or size > DIRECTORY_BYTES_MAX or count > min(SPANS_MAX, size // _ENTRY.size):
        raise ValueError("the directory of a zip archive does not fit the file")
    raw = read_exactly(file, start + offset, size)
    entries = sorted(_entries(raw, count), key=lambda member: member.header)
    if len({member.name for member in entries}) != len(entries):
        raise ValueError("a zip archive has a name twice")
    limits = [*(start + member.header for member in entries[1:]), start + offset]
    members = [
        _place(file, replace(member, header=start + member.header), limit)
        for member, limit in zip(entries, limits, strict=False)
    ]
    return Archive(start, tuple(members))


def with_tails(spans: Sequence[Span], *, longest: int) -> list[Span]:
    """Spans of at most ``longest`` bytes lengthened by the few bytes up to the next span.

    These bytes, mostly a header of the next member, would otherwise be a chunk of their own for each member.
    """
    grown = []
    for span, after in pairwise([*spans, Span(0, 0)]):
        gap = after.start - span.start - span.length
        takes = span.length <= longest and 0 < gap <= TAIL_BYTES_MAX
        grown.append(replace(span, length=span.length + gap) if takes else span)
    return grown


def _ending(file: RandomAccess, end: int) -> tuple[int, int, int, int]:
    """Where the directory ends, how many entries it has, its length, and its offset in the archive."""
    at = end - _END.size
    mark, disk, first_disk, here, count, size, offset, comment = _END.unpack(
        read_exactly(file, at, _END.size)
    )
    if mark != b"PK\x05\x06" or comment or here != count or disk != first_disk:
        raise ValueError("no zip archive ends here")
    if at < _LOCATOR.size + _END64.size:
        return at, count, size, offset
    raw = read_exactly(file, at - _LOCATOR.size - _END64.size, _LOCATOR.size + _END64.size)
    if _LOCATOR.unpack_from(raw, _END64.size)[0] != b"PK\x06\x07":
        return at, count, size, offset
    mark, length, _, _, _, _, here, count, size, offset = _END64.unpack_from(raw)
    if mark != b"PK\x06\x06" or length != _END64.size - 12 or here != count:
        raise ValueError("the end of a zip archive is damaged")
    return at - _LOCATOR.size - _END64.size, count, size, offset


def _entries(raw: bytes, count: int) -> Iterator[Member]:
    """The members as the directory tells of them; ``header`` is from the start of the archive, ``start`` unknown."""
    at = 0
    for _ in range(count):
        if len(raw) - at < _ENTRY.size:
            raise ValueError("the directory of a zip archive ends early")
        (mark, _, _, flags, method, _, _, _, stored, plain, name_n, extra_n, comment_n, _, _, _, header) = (
            _ENTRY.unpack_from(raw, at)
        )
        at += _ENTRY.size
        name, extra = raw[at : at + name_n], raw[at + name_n : at + name_n + extra_n]
        at += name_n + extra_n + comment_n
        if mark != b"PK\x01\x02" or at > len(raw) or flags & _ENCRYPTED or name_n > NAME_CHARS_MAX:
            raise ValueError("an entry of a zip archive is damaged or encrypted")
        plain, stored, header = _wide(extra, (plain, stored, header))
        if method == 0 and plain != stored:
            raise ValueError("a member of a zip archive has two lengths")
        yield Member(name.decode("utf-8", "replace"), header, 0, stored, method == 0)
    if at != len(raw):
        raise ValueError("the directory of a zip archive has more than its entries")


def _wide(extra: bytes, values: tuple[int, int, int]) -> list[int]:
    """The values; those that stand at their most are taken from the zip64 field."""
    wide: list[int] = []
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if kind == _EXTRA_64:
            wide = list(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            break
        at += 4 + length
    if sum(value == _NONE_32 for value in values) > len(wide):
        return list(values)  # no more than what it says: 4 GiB less a byte
    return [wide.pop(0) if value == _NONE_32 else value for value in values]


def _place(file: RandomAccess, member: Member, limit: int) -> Member:
    """The member with the place of its bytes, which must end before ``limit``."""
    raw = read_exactly(file, member.header, _LOCAL.size)
    fields = _LOCAL.unpack(raw)
    start = member.header + _LOCAL.size + int(fields[9]) + int(fields[10])
    if fields[0] != b"PK\x03\x04" or start + member.length > limit:
        raise ValueError(f"member {member.name[:80]!r} of a zip archive does not fit its place")
    return replace(member, start=start)
