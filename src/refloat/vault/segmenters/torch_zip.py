"""Segmenter 3: what ``torch.save`` writes, a zip archive of storages, and DCP shards, which are several in a row.

torch/serialization.py and caffe2/serialize/inline_container.cc for the archive,
torch/distributed/checkpoint/filesystem.py for ``.distcp`` (https://github.com/pytorch/pytorch). The pickle beside the
storages is walked opcode by opcode for names and types; nothing is imported, called or built. What the walk cannot
tell costs compression only: a storage then has its number for a name and elements of one byte.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from refloat.limits import MIB
from refloat.vault.segmenters.spans import (
    NAME_CHARS_MAX,
    SMALL_BYTES,
    SPANS_MAX,
    RandomAccess,
    Span,
    read_exactly,
)
from refloat.vault.segmenters.zipped import (
    Archive,
    Member,
    first_name,
    is_undated,
    read_archive,
    with_tails,
)

ID = 3
NAME = "torch zip"

PICKLE_BYTES_MAX = 32 * MIB  # of all pickles of a file; a state dict of 100,000 tensors has 15
OPCODES_MAX = 4_000_000  # of all pickles of a file: 40 a tensor; a million takes 2 s
FRAMES_MAX = 12  # innermost containers that give a name: state / 17 / exp_avg is three
TUPLE_ITEMS_MAX = 16  # longer tuples hold no reference to a storage
KEY_LOOKS_BACK = 6  # items of a frame that are looked at for its last key

PICKLE = "/data.pkl"
_WIDTHS = {
    **dict.fromkeys(("Double", "Long", "ComplexDouble", "float64", "int64", "uint64", "complex128"), 8),
    **dict.fromkeys(("Float", "Int", "ComplexFloat", "QInt32", "float32", "int32", "uint32", "complex64"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short", "float16", "bfloat16", "int16", "uint16", "complex32"), 2),
}


def recognised(head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that starts with ``head`` is a zip archive that begins as ``torch.save``'s do.

    Where the name goes beyond ``head``, the missing date must do.
    """
    name, whole = first_name(head)
    return name.endswith(PICKLE) if whole else is_undated(head)


def spans(file: RandomAccess) -> list[Span]:
    """The storages and other large members. Raises ``ValueError`` for what is no row of such archives."""
    budget = _Budget()
    found: list[Span] = []
    archives = _archives(file)
    for number, archive in enumerate(archives):
        names = _Names(archive, str(number) if len(archives) > 1 else "")
        storages = _storages(file, names.pickle, budget)
        for member in archive.members:
            number_of = names.storage(member)
            if member.length and (number_of or member.length >= SMALL_BYTES):
                known = storages.get(number_of, _Storage())
                found.append(_span(member, names.unique(member, known.name), known.width))
    return with_tails(found, longest=file.size)


@dataclass(slots=True)
class _Budget:
    """What may still be spent on pickles."""

    opcodes: int = OPCODES_MAX
    bytes: int = PICKLE_BYTES_MAX


@dataclass(slots=True)
class _Storage:
    """What a pickle says of a storage."""

    name: str = ""
    width: int = 1


class _Names:
    """The names within one archive; ``prefix`` tells apart the archives of a file."""

    def __init__(self, archive: Archive, prefix: str) -> None:
        pickles = [member for member in archive.members if member.name.endswith(PICKLE)]
        if len(pickles) != 1:
            raise ValueError("a zip archive is not one that torch wrote")
        self.pickle = pickles[0]
        self._folder = self.pickle.name.removesuffix(PICKLE) + "/"
        self._prefix = f"{prefix}:" if prefix else ""
        self._given: set[str] = set()

    def storage(self, member: Member) -> str:
        """The key of a storage; empty for any other member."""
        below = member.name.removeprefix(self._folder + "data/")
        return below if below != member.name else ""

    def unique(self, member: Member, name: str) -> str:
        """``name``, or else what the archive calls the member."""
        if not name or name in self._given or len(name) > NAME_CHARS_MAX:
            name = member.name.removeprefix(self._folder)
        self._given.add(name)
        return self._prefix + name


def _archives(file: RandomAccess) -> list[Archive]:
    """The archives of a file in order, found from the end of the last."""
    found: list[Archive] = []
    end, members = file.size, 0
    while end > 0:
        archive = read_archive(file, end)
        end, members = archive.start, members + len(archive.members) + 1
        found.append(archive)
        if members > SPANS_MAX:
            raise ValueError(f"a row of zip archives with more than {SPANS_MAX} members")
    if not found:
        raise ValueError("an empty file is no zip archive")
    return found[::-1]


def _span(member: Member, name: str, width: int) -> Span:
    fits = member.stored and member.length % width == 0
    return Span(member.start, member.length, width if fits else 1, name)


def _storages(file: RandomAccess, member: Member, budget: _Budget) -> Mapping[str, _Storage]:
    """What the pickle says of each storage, by key; what was found until it broke or the budget was spent."""
    if not member.stored or member.length > budget.bytes:
        return {}
    budget.bytes -= member.length
    walk = _Walk()
    raw = read_exactly(file, member.start, member.length)
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(raw)):
            budget.opcodes -= 1
            if budget.opcodes < 0:
                break
            walk.step(opcode, argument)
    except (ValueError, IndexError, OverflowError):
        return walk.storages
    return walk.storages


# ------------------------------------------------------------------------------------------------- walking a pickle


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that the pickle would import; it is only compared."""

    name: str

    @property
    def width(self) -> int:
        """Of ``torch FloatStorage`` or ``torch uint16``; 0 for what is no type of elements."""
        module, _, name = self.name.partition(" ")
        return _WIDTHS.get(name.removesuffix("Storage"), 1) if module == "torch" else 0


@dataclass(slots=True)
class _Dict:
    """A dict that the pickle would build: whether it has got something."""

    filled: bool = False


@dataclass(frozen=True, slots=True)
class _Reference:
    """A storage, by key."""

    key: str


class _Kind:
    """Any other value: it is of no interest what it would be."""


_LIST, _OTHER = _Kind(), _Kind()
_ORDERED = {"collections OrderedDict", "collections defaultdict"}
_TENSOR_V3 = "torch._utils _rebuild_tensor_v3"  # names the type itself, for types that have no storage class
_FILLS = {"SETITEMS": 0, "APPENDS": 0, "ADDITEMS": 0, "SETITEM": 2, "APPEND": 1, "BUILD": 1}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(slots=True)
class _Walk:
    """The stack of a pickle machine with nothing on it but texts, numbers, and what kind of thing would be there."""

    storages: dict[str, _Storage] = field(default_factory=dict)
    _stack: list[object] = field(default_factory=list)
    _marks: list[int] = field(default_factory=list)
    _memo: dict[int, object] = field(default_factory=dict)

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """One opcode. Raises ``ValueError`` or ``IndexError`` where the pickle is broken."""
        name = opcode.name
        if name == "MARK":
            self._marks.append(len(self._stack))
        elif name in _TEXTS or name in _NUMBERS:
            plain = isinstance(argument, str) or (isinstance(argument, int) and abs(argument) < 2**63)
            self._stack.append(argument if plain else _OTHER)
        elif name in _PUTS or name == "MEMOIZE":
            self._memo[argument if isinstance(argument, int) else len(self._memo)] = self._stack[-1]
        elif name in _GETS:
            self._stack.append(self._memo.get(argument, _OTHER) if isinstance(argument, int) else _OTHER)
        elif name in _FILLS:
            self._fill(name)
        elif name == "BINPERSID":
            self._stack.append(self._reference(self._stack.pop()))
        elif name == "REDUCE":
            arguments, function = self._stack.pop(), self._stack.pop()
            self._stack.append(self._reduced(function, arguments))
        else:
            self._push(opcode, argument)

    def _push(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """An opcode that makes a value of what it takes off the stack."""
        name = opcode.name
        if name in ("EMPTY_DICT", "EMPTY_LIST"):
            self._stack.append(_Dict() if name == "EMPTY_DICT" else _LIST)
        elif name == "GLOBAL":
            self._stack.append(_Global(str(argument)))
        elif name == "STACK_GLOBAL":
            attribute, module = self._stack.pop(), self._stack.pop()
            plain = isinstance(module, str) and isinstance(attribute, str)
            self._stack.append(_Global(f"{module} {attribute}") if plain else _OTHER)
        elif name == "TUPLE":
            self._stack.append(_tuple(self._pop_frame()))
        elif name in _TUPLES:
            self._stack.append(_tuple(self._pop(_TUPLES[name])))
        else:
            self._any(opcode)

    def _any(self, opcode: pickletools.OpcodeInfo) -> None:
        """An opcode that we know no more of than how many values it takes and gives."""
        before = opcode.stack_before
        if pickletools.markobject in before:
            self._pop_frame()
            before = before[: before.index(pickletools.markobject)]
        self._pop(len(before))
        if pickletools.markobject not in opcode.stack_after:
            self._stack.extend([_OTHER] * len(opcode.stack_after))

    def _pop(self, count: int) -> list[object]:
        if count > len(self._stack):
            raise ValueError("a pickle takes more than there is")
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _pop_frame(self) -> list[object]:
        if not self._marks:
            raise ValueError("a pickle goes back to a mark that is not there")
        return self._pop(len(self._stack) - self._marks.pop())

    def _fill(self, name: str) -> None:
        """What goes into a container; the container stays."""
        count = _FILLS[name]
        if count:
            self._pop(count)
        else:
            self._pop_frame()
        if isinstance(container := self._stack[-1], _Dict) and name != "BUILD":
            container.filled = True

    def _reference(self, identity: object) -> object:
        """The storage that a persistent id, ``("storage", type, key, place, elements)``, tells of."""
        if not isinstance(identity, tuple) or len(identity) < 3 or identity[0] != "storage":
            return _OTHER
        kind, key = identity[1], identity[2]
        if not isinstance(key, str):
            return _OTHER
        if key not in self.storages and len(self.storages) < SPANS_MAX:
            width = kind.width if isinstance(kind, _Global) else 1
            self.storages[key] = _Storage(self._path(), width or 1)
        return _Reference(key)

    def _reduced(self, function: object, arguments: object) -> object:
        if not isinstance(function, _Global):
            return _OTHER
        if function.name in _ORDERED:
            return _Dict()
        if function.name == _TENSOR_V3 and isinstance(arguments, tuple) and arguments:
            storage = self.storages.get(arguments[0].key) if isinstance(arguments[0], _Reference) else None
            widths = [item.width for item in arguments if isinstance(item, _Global) and item.width]
            if storage is not None and widths:
                storage.width = widths[-1]
        return _OTHER

    # ------------------------------------------------------------------------------------------ where we are in it

    def _path(self) -> str:
        """The keys that lead to what is being built, outermost first, such as ``state.17.exp_avg``."""
        parts: list[str] = []
        for start, end in pairwise([0, *self._marks[-FRAMES_MAX:], len(self._stack)]):
            parts += self._labels(start, end)
        path = ".".join(parts)
        return path if len(path) <= NAME_CHARS_MAX else ""

    def _labels(self, start: int, end: int) -> list[str]:
        """The keys of one frame: the last one, and those of the containers that stand open below it."""
        below = self._stack[start - 1] if start else _OTHER
        if isinstance(below, _Global):
            return []  # arguments of a call
        if below is _LIST:
            return [str(end - start - (end > start and isinstance(self._stack[end - 1], _Global)))]
        return list(self._keys(start, end))[::-1]

    def _keys(self, start: int, end: int) -> Iterator[str]:
        at = end - 1
        while at >= max(start, end - KEY_LOOKS_BACK):
            item = self._stack[at]
            if isinstance(item, str | int):
                yield str(item)[: NAME_CHARS_MAX + 1]
                open_below = self._stack[at - 1] if at - 2 >= start else None
                if not isinstance(open_below, _Dict) or open_below.filled:
                    return
                at -= 1
            at -= 1


def _tuple(items: list[object]) -> object:
    """A tuple of plain things; tuples in it are of no interest, so that nothing grows by being repeated."""
    if len(items) > TUPLE_ITEMS_MAX:
        return _OTHER
    return tuple(_OTHER if isinstance(item, tuple) else item for item in items)
