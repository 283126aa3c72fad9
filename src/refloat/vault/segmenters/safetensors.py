"""Segmenter 2: safetensors, which names each tensor with its type and place in a JSON header.

https://github.com/huggingface/safetensors#format. The header is read, never trusted: what it says of a tensor must
fit the file and itself.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from itertools import pairwise

from refloat.limits import MIB
from refloat.vault.segmenters.spans import SPANS_MAX, RandomAccess, Span, read_exactly

ID = 2
NAME = "safetensors"

HEADER_BYTES_MAX = 32 * MIB  # the format allows 100 MB; SPANS_MAX tensors need 30, parsed ten times that
COMMAS_MAX = 10 * SPANS_MAX  # a tensor has 4 to 8; bounds how many values a hostile header unfolds to
DIMENSIONS_MAX = 64
METADATA = "__metadata__"
_PREFIX_BYTES = 8
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_WIDTHS = {64: 8, 32: 4, 16: 2}


def recognised(head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that starts with ``head`` looks like safetensors; they have no magic."""
    if len(head) < _PREFIX_BYTES + 2:
        return False
    (length,) = struct.unpack_from("<Q", head)
    starts = head[_PREFIX_BYTES : _PREFIX_BYTES + 1] == b"{" and head[_PREFIX_BYTES + 1 :][:1] in b'"} \n\r\t'
    return starts and 2 <= length <= size - _PREFIX_BYTES


def spans(file: RandomAccess) -> list[Span]:
    """The header and each tensor. Raises ``ValueError`` for a header that does not fit the file or itself."""
    (length,) = struct.unpack("<Q", read_exactly(file, 0, _PREFIX_BYTES))
    if length > HEADER_BYTES_MAX:
        raise ValueError(f"a safetensors header of {length} bytes is too long")
    header = _parse(read_exactly(file, _PREFIX_BYTES, length))
    base = _PREFIX_BYTES + length
    found = [Span(0, base)]
    found += [_tensor(name, entry, base) for name, entry in header.items() if name != METADATA]
    found.sort(key=lambda span: (span.start, span.length))
    for before, after in pairwise(found):
        if before.start + before.length > after.start:
            raise ValueError(f"tensor {after.name[:80]!r} overlaps what is before it")
    if found[-1].start + found[-1].length > file.size:
        raise ValueError("a safetensors header tells of more bytes than the file has")
    return [span for span in found if span.length]


def _parse(raw: bytes) -> Mapping[str, object]:
    if raw.count(b"{") > SPANS_MAX or raw.count(b"[") > 2 * SPANS_MAX or raw.count(b",") > COMMAS_MAX:
        raise ValueError(f"a safetensors header of more than {SPANS_MAX} tensors")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("a safetensors header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("a safetensors header is no object")
    metadata = header.get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata of a safetensors header are not strings")
    return header


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a safetensors header has a key twice")
    return value


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} stands in a safetensors header")


def _tensor(name: str, entry: object, base: int) -> Span:
    if not isinstance(entry, dict):
        raise ValueError(f"tensor {name[:80]!r} is no object")
    dtype, shape = entry.get("dtype"), _numbers(entry.get("shape"), name)
    offsets = _numbers(entry.get("data_offsets"), name)
    if not isinstance(dtype, str) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"tensor {name[:80]!r} has no type or no place")
    start, length = offsets[0], offsets[1] - offsets[0]
    bits = _BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != length * 8:
        raise ValueError(f"the shape of tensor {name[:80]!r} does not fit its length")
    width = 4 if dtype == "C64" else _WIDTHS.get(bits or 0, 1)
    return Span(base + start, length, width, name)


def _numbers(value: object, name: str) -> list[int]:
    if not isinstance(value, list) or len(value) > DIMENSIONS_MAX:
        raise ValueError(f"tensor {name[:80]!r} has no list of numbers where one belongs")
    if not all(type(number) is int and 0 <= number < 2**63 for number in value):
        raise ValueError(f"tensor {name[:80]!r} has a number that is none")
    return value
