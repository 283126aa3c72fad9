"""Whatever becomes of a real manifest, ``parse`` returns one or raises ``ManifestError``, and soon."""

from __future__ import annotations

import re
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.errors import ManifestError
from refloat.manifest.parse import parse
from refloat.point.evaluate import syntax_error

SECONDS_MAX = 2.0  # of processor time
EXAMPLE = (Path(__file__).parents[3] / "examples/pydocs_assistant/refloat.yaml").read_text()
LINES = [line for line in EXAMPLE.splitlines() if line.strip() and not line.lstrip().startswith("#")]
KEYS = sorted(set(re.findall(r"\b[a-z_]+(?=:)", EXAMPLE)))
ODD = [
    "~",
    "true",
    "-1",
    "1e400",
    ".inf",
    "9" * 41,
    "9" * 5000 + "d",
    "-5s",
    "5 parsecs",
    "1.25y",
    "0x",
    '""',
    '"\\0"',
    '"\\ud800"',
    '"\\U00110000"',
    '"${env:"',
    '"${region.root}${region.root}"',
    "[]",
    "{}",
    "[[[]]]",
    "{a: {b: c}}",
    "[a, a]",
    "&a x",
    "*a",
    "!!python/object:x",
    "!!binary aGk=",
    "!foo",
    "<<: {a: b}",
    "|\n  text",
    ">-\n\n\t x",
    "? [a]",
    "%YAML 1.1",
    "---",
    "...",
    "'",
    '"',
    "{",
    "]",
    "# end",
    "\ufeff",
    "\u2028",
    "(" * 300,
    "a" + "[0]" * 300 + " == 1",
    "s3://a:b@c/d",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real manifest of which lines, keys, values or bytes are otherwise."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        here = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "move", "shift", "key", "value", "odd"])):
            case "drop":
                del lines[here]
            case "double":
                lines.insert(here, lines[here])
            case "move":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(here))
            case "shift":
                lines[here] = draw(st.sampled_from([" ", "\t", "- ", "      "])) + lines[here]
            case "key":
                lines[here] = re.sub(r"\b[a-z_]+(?=:)", draw(st.sampled_from(KEYS)), lines[here], count=1)
            case "value":
                lines[here] = re.sub(r"(?<=: )[^{\[].*$", lambda _: draw(st.sampled_from(ODD)), lines[here])
            case _:
                lines.insert(here, draw(st.sampled_from(ODD)))
    content = "\n".join(lines).encode()
    if draw(st.integers(0, 3)) == 0:
        start = draw(st.integers(0, len(content)))
        content = content[:start] + draw(st.binary(max_size=6)) + content[start + draw(st.integers(0, 40)) :]
    return content


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_a_damaged_manifest_is_parsed_or_refused_with_its_place(content: bytes) -> None:  # fault 61
    began_s = time.thread_time()
    try:
        parse(content, syntax=syntax_error)
    except ManifestError as error:
        assert error.message
        assert error.next
        assert error.line is not None
        assert 1 <= error.line <= content.count(b"\n") + content.count(b"\r") + 10
    assert time.thread_time() - began_s < SECONDS_MAX


def test_the_manifest_that_is_damaged_is_a_good_one() -> None:
    assert parse("\n".join(LINES).encode(), syntax=syntax_error).pipeline == "pydocs_assistant"
