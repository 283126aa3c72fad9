"""YAML 1.2 as plain values, with the line and column of each; what YAML can do beyond that is refused."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from refloat.digest import Json
from refloat.errors import ManifestError
from refloat.limits import MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX

EVENTS_MAX = 25_000  # keys, values and brackets of one manifest; half a second of parsing
MESSAGE_LENGTH_MAX = 500  # characters of what is said of one mistake; what was written may be a megabyte
NEAR_MAX = 100  # names that are looked through for a near one, at up to 0.3 ms each
NUMBER_DIGITS_MAX = 40  # beyond what a float or a counter can mean

CORRECT = "correct it, then run: refloat check"
"""What to do about a mistake that speaks for itself."""

FEWER = "is this the right file? A manifest is written by people"
"""What to do about more than a manifest can be."""

Path = tuple[str | int, ...]
"""Where a value stands: the keys and positions that lead to it."""

# The core schema of YAML 1.2, section 10.3.2, without octal and hexadecimal numbers.
_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# An escape can write what no path, name or command can hold, and what is no character at all.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_BEYOND_UNICODE = re.compile(r"\\U(?!000[0-9a-fA-F]|0010)[0-9a-fA-F]{8}")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Spot:
    """A place in the file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """A YAML document: its value, and where each key and each value of it starts."""

    value: Json
    keys: Mapping[Path, Spot]
    values: Mapping[Path, Spot]

    def spot(self, path: Path, *, key: bool = False) -> Spot:
        """Where ``path`` starts (its key, where asked for), or the nearest thing around it that is there."""
        for length in range(len(path), 0, -1):
            for places in (self.keys, self.values) if key else (self.values, self.keys):
                if path[:length] in places:
                    return places[path[:length]]
        return self.values.get((), Spot(1, 1))


def nearest(name: str, known: Collection[str]) -> str | None:
    """``did you mean 'x'?`` for the known name closest to ``name``; None where none is close."""
    near = difflib.get_close_matches(name[:100], itertools.islice(known, NEAR_MAX), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def shortened(text: str) -> str:
    """``text``, or as much of it as one reads."""
    return text if len(text) <= MESSAGE_LENGTH_MAX else f"{text[:MESSAGE_LENGTH_MAX]}…"


def read_document(content: bytes, *, file: str) -> Document:
    """The one document in ``content``.

    Raises ``ManifestError`` for what is too large, not UTF-8, empty, not YAML, more than one document, or
    uses tags, anchors, aliases, directives, duplicate keys, keys that are not text, or too much nesting.
    """
    text = _text(content, file)
    builder = _Builder(file)
    yaml = YAML(typ="safe", pure=True)
    try:
        for count, event in enumerate(yaml.parse(text)):
            if count > EVENTS_MAX:
                raise _wrong("the manifest has too many entries", event.start_mark, file, FEWER)
            builder.take(event)
    except YAMLError as error:
        raise _not_yaml(error, text, file) from error
    except (ValueError, OverflowError) as error:  # the parser does not look at what an escape comes to
        raise _no_character(error, text, file) from error
    return builder.document()


def _text(content: bytes, file: str) -> str:
    if len(content) > MANIFEST_BYTES_MAX:
        raise ManifestError(
            f"the manifest is larger than {MANIFEST_BYTES_MAX} bytes",
            file=file,
            next="is this the right file?",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        start = before.rfind(b"\n") + 1
        raise ManifestError(
            f"the manifest is not UTF-8 text: byte 0x{content[error.start]:02x} at offset {error.start}",
            line=before.count(b"\n") + 1,
            column=len(before[start:].decode("utf-8", "replace")) + 1,
            file=file,
            next="save the file as UTF-8; is it a text file at all?",
        ) from error
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        raise ManifestError("the manifest is empty", line=1, column=1, file=file, next="refloat init")
    return text


def _wrong(message: str, mark: StreamMark | None, file: str, next: str | None = None) -> ManifestError:
    line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
    return ManifestError(shortened(message), line=line, column=column, file=file, next=next or CORRECT)


def _at(offset: int, text: str) -> Spot:
    """The place of a character."""
    return Spot(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _no_character(error: Exception, text: str, file: str) -> ManifestError:
    found = _BEYOND_UNICODE.search(text)
    spot = _at(found.start(), text) if found else Spot(1, 1)
    what = f"{found[0]} is no character" if found else str(error)
    message = shortened(f"the manifest is not YAML: {what}")
    return ManifestError(message, line=spot.line, column=spot.column, file=file, next=CORRECT)


def _not_yaml(error: YAMLError, text: str, file: str) -> ManifestError:
    if isinstance(error, ReaderError):
        spot = _at(error.position, text)
        return ManifestError(
            f"the manifest holds a character that YAML does not allow: U+{ord(text[error.position]):04X}",
            line=spot.line,
            column=spot.column,
            file=file,
            next="remove it; is this a text file at all?",
        )
    if not isinstance(error, MarkedYAMLError):
        return ManifestError(f"the manifest is not YAML: {error}", file=file, next=CORRECT)
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    line_text = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    context = f"{error.context}, " if error.context else ""
    return _wrong(f"the manifest is not YAML: {context}{error.problem}", mark, file, _hint(error, line_text))


def _hint(error: MarkedYAMLError, line: str) -> str | None:
    if "\\t" in str(error.problem) or "\t" in line:
        return "use spaces; YAML does not allow tabs for indentation"
    if "${" in line:
        return 'put what holds ${…} in quotes: "${region.root}/models"'
    return None


@dataclass
class _Frame:
    """A mapping or a list that is being read."""

    container: dict[str, Json] | list[Json]
    path: Path
    key: str | None = None


@dataclass
class _Builder:
    """Turns parser events into values without recursion, so that nesting costs no stack."""

    file: str
    root: list[Json] = field(default_factory=list)
    stack: list[_Frame] = field(default_factory=list)
    keys: dict[Path, Spot] = field(default_factory=dict)
    values: dict[Path, Spot] = field(default_factory=dict)

    def document(self) -> Document:
        """What was read."""
        if not self.root:
            raise ManifestError(
                "the manifest is empty", line=1, column=1, file=self.file, next="refloat init"
            )
        return Document(self.root[0], self.keys, self.values)

    def take(self, event: Event) -> None:
        """One event of the parser."""
        if isinstance(event, DocumentStartEvent):
            self._start_document(event)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self.stack.pop()
        elif isinstance(event, NodeEvent):
            self._refuse_what_yaml_can_do_beyond_values(event)
            self._node(event)

    def _start_document(self, event: DocumentStartEvent) -> None:
        if self.root:
            raise self._wrong("the manifest has more than one document", event, "keep one; remove `---`")
        if event.version or event.tags:
            raise self._wrong(
                "the manifest has a YAML directive", event, "remove the lines that start with %"
            )

    def _refuse_what_yaml_can_do_beyond_values(self, event: NodeEvent) -> None:
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise self._wrong(
                "anchors (&) and aliases (*) are not allowed",
                event,
                "write the value out, or put it in quotes",
            )
        if getattr(event, "tag", None) is not None:
            raise self._wrong("a YAML tag (!) is not allowed", event, "remove the tag, or quote the value")

    def _node(self, event: NodeEvent) -> None:
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            self._key(frame, event)
        elif isinstance(event, ScalarEvent):
            self._put(event, self._scalar(event))
        else:
            self._open(event)

    def _open(self, event: NodeEvent) -> None:
        if len(self.stack) >= MANIFEST_DEPTH_MAX:
            raise self._wrong(f"the manifest is nested deeper than {MANIFEST_DEPTH_MAX} levels", event, FEWER)
        if not isinstance(event, MappingStartEvent | SequenceStartEvent):
            raise self._wrong("the manifest holds something that is not a value", event)
        container: dict[str, Json] | list[Json] = {} if isinstance(event, MappingStartEvent) else []
        self.stack.append(_Frame(container, self._put(event, container)))

    def _put(self, event: NodeEvent, value: Json) -> Path:
        """Add a value to what is being read; its path."""
        if not self.stack:
            self.root.append(value)
            path: Path = ()
        else:
            frame = self.stack[-1]
            path = (*frame.path, self._add(frame, value))
        nothing_there = isinstance(event, ScalarEvent) and event.start_mark.index == event.end_mark.index
        self.values[path] = self.keys.get(path, self._spot(event)) if nothing_there else self._spot(event)
        return path

    def _add(self, frame: _Frame, value: Json) -> str | int:
        if isinstance(frame.container, list):
            frame.container.append(value)
            return len(frame.container) - 1
        key, frame.key = frame.key, None
        assert key is not None  # a value in a mapping always follows its key
        frame.container[key] = value
        return key

    def _key(self, frame: _Frame, event: NodeEvent) -> None:
        if not isinstance(event, ScalarEvent):
            raise self._wrong(
                "a key must be text, not a list or a mapping", event, 'quote what starts with "{" or "["'
            )
        key = self._scalar(event)
        if not isinstance(key, str):
            raise self._wrong(
                f"a key must be text; {event.value!r} is not", event, f'write it as "{event.value}"'
            )
        if key in frame.container:
            first = self.keys[(*frame.path, key)]
            raise self._wrong(
                f"the key {key!r} stands twice; first in line {first.line}", event, "keep one of them"
            )
        frame.key = key
        self.keys[(*frame.path, key)] = self._spot(event)

    def _scalar(self, event: ScalarEvent) -> bool | int | float | str | None:
        text = str(event.value)
        unusable = _UNUSABLE.search(text)
        if unusable:
            what = f"U+{ord(unusable[0]):04X}, which no path, name or command can hold"
            raise self._wrong(f"a text with the character {what}", event, "leave it out")
        if not event.implicit[0]:  # quoted, or a block
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
            return text[0] in "tT"
        if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return self._number(event, text)
        return text

    def _number(self, event: ScalarEvent, text: str) -> int | float:
        if _NOT_FINITE.fullmatch(text) or len(text) > NUMBER_DIGITS_MAX or not math.isfinite(float(text)):
            raise self._wrong(f"{text[:50]} is not a number that can be kept", event, "quote it as text")
        return int(text) if _INTEGER.fullmatch(text) else float(text)

    def _spot(self, event: Event) -> Spot:
        return Spot(event.start_mark.line + 1, event.start_mark.column + 1)

    def _wrong(self, message: str, event: Event, next: str | None = None) -> ManifestError:
        return _wrong(message, event.start_mark, self.file, next)
