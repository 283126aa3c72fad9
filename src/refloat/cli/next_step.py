"""What to do next, so that it can be pasted: each command in it gets what was typed to say where everything is.

Whoever writes a `next` knows the verb and what it is about, and neither which manifest nor which vault was named on
the command line. In a text a command stands in backticks, or reaches to the end of its clause; a test parses each.
Whoever refuses by a rule that a person may override knows not even the verb: `--override RULE` alone stands for what
was typed, with the rule named.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from refloat.cli.line import FILE, LENGTH_MAX, behind_globals, hoisted

_VAULT = "--vault"
_PLACEHOLDERS = {"REGION": "--to", "RUN": "--resume", "POINT": "--point"}
_NAME = "refloat "
_COMMAND = re.compile(r"(?<![\w/\"-])refloat (?=[-a-z])")
_END = re.compile(r"`|[;,)](?=\s|$)|, or |\n|$")
_RULE = re.compile(r"`?--override (?P<rule>\w+)`?")

Verb = Callable[[Sequence[str]], tuple[int, frozenset[str]]]
"""How many of the words after `refloat` are a verb, 0 where none is, and the options that it takes."""


def commands(text: str, verb: Verb) -> Iterator[str]:
    """Every command in a text, as it stands there."""
    for start, end in spans(text):
        command = text[start:end].rstrip()
        if verb(command.split()[1:])[0]:
            yield command


def spans(text: str) -> list[tuple[int, int]]:
    """Where what may be a command begins and ends: the word refloat, to the end of its clause."""
    found = []
    for begin in _COMMAND.finditer(text):
        end = _END.search(text, begin.end())
        found.append((begin.start(), len(text) if end is None else end.start()))
    return found


@dataclass(frozen=True)
class Typed:
    """A command line: the last value of each option that a next one may need, by its name, and all of its words."""

    options: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Typed:
        """What stands on a command line, whatever the verb takes of it."""
        found: dict[str, str] = {}
        for word, value in zip(arguments, [*arguments[1:], ""], strict=False):
            name, joined, rest = _parted(word)
            if name.startswith("-"):
                found["--file" if name in FILE else name] = rest if joined else value
        kept = {name: value for name, value in found.items() if value and name in _KEPT}
        return cls(kept, tuple(hoisted(arguments)))

    def completed(self, text: str, verb: Verb) -> str:
        """``text``, each command in it with what it lacks."""
        parts, at = [], 0
        for start, end in spans(text):
            behind = start + len(_NAME)
            parts += [self._overriding(text[at:start], verb), _NAME, self._filled(text[behind:end], verb)]
            at = end
        return "".join([*parts, self._overriding(text[at:], verb)])

    def _overriding(self, text: str, verb: Verb) -> str:
        """A part without commands, each rule in it that may be overridden with the command that does so."""
        return _RULE.sub(lambda found: self._again(found, verb), text)

    def _again(self, found: re.Match[str], verb: Verb) -> str:
        """What was typed with a rule named; the option alone where that is too long, or takes none."""
        count, options = verb(behind_globals(self.words))
        again = shlex.join(["refloat", *self.words, "--override", found["rule"]])
        if not count or "--override" not in options or "--" in self.words or len(again) > LENGTH_MAX:
            return found[0]
        ends = _END.match(found.string, found.end()) and not found[0].startswith("`")
        return again if ends else f"`{again}`"

    def _filled(self, rest: str, verb: Verb) -> str:
        """What stands behind ``refloat``, with the manifest before it and the vault behind its verb."""
        words = [self._known(word) for word in rest.split(" ")]
        given = {word.partition("=")[0] for word in words}
        count, options = verb(words)
        if not count:
            return rest
        if _VAULT in options and _VAULT in self.options and _VAULT not in given:
            words[count:count] = [_VAULT, self._value(_VAULT)]
        if "--file" in self.options and not given & FILE:
            words[:0] = ["-f", self._value("--file")]
        return " ".join(words)

    def _known(self, word: str) -> str:
        """What a placeholder stands for, where that was typed."""
        option = _PLACEHOLDERS.get(word, "")
        return self._value(option) if option in self.options else word

    def _value(self, option: str) -> str:
        return shlex.quote(self.options[option])


def _parted(word: str) -> tuple[str, str, str]:
    """An option, what joins a value to it, and the value: `-f` may have it right behind it."""
    if word.startswith("-f") and len(word) > 2:
        return "-f", "-f", word[2:]
    return word.partition("=")


_KEPT = frozenset({"--file", _VAULT, *_PLACEHOLDERS.values()})
