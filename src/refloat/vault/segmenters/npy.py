"""Segmenter 4: NumPy arrays, one in a ``.npy`` or several in the zip archive of an ``.npz``.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. The header is a Python literal, which is read
as a literal and never evaluated; arrays of objects, which would be pickles, are refused.
"""

from __future__ import annotations

import ast
import math
import re

from refloat.vault.segmenters.spans import SMALL_BYTES, RandomAccess, Span, read_exactly
from refloat.vault.segmenters.zipped import Member, first_name, read_archive, with_tails

ID = 4
NAME = "npy"

MAGIC = b"\x93NUMPY"
HEADER_BYTES_MAX = 10_000  # numpy's own limit for a literal that is safe to parse
DIMENSIONS_MAX = 64
RECORD_DEPTH_MAX = 8  # records in records
SUFFIX = ".npy"

_TYPE = re.compile(r"[<>|=]?([?bBiufcmMSUV])(\d{1,9})(\[[^\]]{0,32}\])?")
_KEYS = {"descr", "fortran_order", "shape"}


def recognised(head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that starts with ``head`` is a ``.npy``, or a zip that begins with one."""
    name, whole = first_name(head)
    return head.startswith(MAGIC) or (whole and name.endswith(SUFFIX))


def spans(file: RandomAccess) -> list[Span]:
    """The elements of each array. Raises ``ValueError`` for a header that lies, and for arrays of objects."""
    if file.read_at(0, len(MAGIC)) == MAGIC:
        return [_array(file, 0, file.size, "array")]
    archive = read_archive(file, file.size)
    if archive.start:
        raise ValueError("something stands before the arrays of an .npz")
    found = [_member(file, member) for member in archive.members if member.length]
    return with_tails([span for span in found if span.length], longest=SMALL_BYTES - 1)


def _member(file: RandomAccess, member: Member) -> Span:
    name = member.name.removesuffix(SUFFIX)
    if not member.stored or name == member.name:
        return Span(member.start, member.length, 1, name)
    return _array(file, member.start, member.start + member.length, name)


def _array(file: RandomAccess, at: int, end: int, name: str) -> Span:
    """The elements of the array whose header stands at ``at``; they may not reach beyond ``end``."""
    header, start = _header(file, at)
    try:
        fields = ast.literal_eval(header.decode("latin-1"))  # only names of fields can be beyond ASCII
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("the header of a NumPy array is no literal") from error
    if not isinstance(fields, dict) or set(fields) != _KEYS or not isinstance(fields["fortran_order"], bool):
        raise ValueError("the header of a NumPy array has other keys")
    item_bytes, width = _item(fields["descr"])
    length = _count(fields["shape"]) * item_bytes
    if start + length > end:
        raise ValueError("the header of a NumPy array tells of more bytes than there are")
    return Span(start, length, width, name)


def _header(file: RandomAccess, at: int) -> tuple[bytes, int]:
    """The literal, and where the elements start."""
    prefix = file.read_at(at, 12)
    if prefix[:6] != MAGIC or len(prefix) < 12 or prefix[6] not in (1, 2, 3):
        raise ValueError("no NumPy array of a version that we know")
    size_bytes = 2 if prefix[6] == 1 else 4
    start, length = at + 8 + size_bytes, int.from_bytes(prefix[8 : 8 + size_bytes], "little")
    if length > HEADER_BYTES_MAX:
        raise ValueError("the header of a NumPy array is too long")
    return read_exactly(file, start, length), start + length


def _count(shape: object) -> int:
    if not isinstance(shape, tuple) or len(shape) > DIMENSIONS_MAX:
        raise ValueError("a NumPy array has no shape")
    if not all(type(side) is int and 0 <= side < 2**63 for side in shape):
        raise ValueError("a NumPy array has a side that is no number")
    return math.prod(shape)


def _item(descr: object) -> tuple[int, int]:
    """How many bytes an element has, and the width to shuffle by; records have none."""
    if not isinstance(descr, str):
        return _record_bytes(descr, 0), 1
    if (match := _TYPE.fullmatch(descr)) is None:
        raise ValueError(f"a NumPy array of type {descr[:40]!r}")
    kind, size = match[1], int(match[2])
    if kind == "U":
        return 4 * size, 4
    width = size // 2 if kind == "c" else size
    return size, width if kind in "iufcmM" and width in (2, 4, 8) else 1


def _record_bytes(fields: object, depth: int) -> int:
    if not isinstance(fields, list) or depth > RECORD_DEPTH_MAX:
        raise ValueError("a NumPy array of a type that is none")
    total = 0
    for field in fields:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            raise ValueError("a NumPy array of records with a field that is none")
        inner = _item(field[1])[0] if isinstance(field[1], str) else _record_bytes(field[1], depth + 1)
        total += inner * (_count(field[2]) if len(field) == 3 else 1)
    return total
