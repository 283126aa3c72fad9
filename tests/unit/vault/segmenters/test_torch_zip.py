"""What torch writes is cut at its storages; nothing of it is unpickled or unpacked, and what lies is refused.

``tests/golden/segmenters/`` was written once, on 2026-11-25, by torch 2.13.0+cpu and safetensors 0.8.0, with ``m`` a
``Sequential(Linear(6, 5), Linear(5, 2))``, ``o`` its ``Adam`` after one step, ``half`` a bfloat16 ``arange(8)``:

    torch.save({"model": m.state_dict(), "optimizer": o.state_dict(), "step": 3, "half": half, "tied": half,
                "wide": zeros(3, dtype=complex128), "f8": zeros(4).to(float8_e4m3fn),
                "u16": zeros(4, dtype=uint16), "mask": ones(5, dtype=bool)}, "checkpoint.pt")
    dcp.save({"w": arange(12.0).reshape(3, 4), "b": ones(4, dtype=float16), "i": arange(3),
              "note": {"epoch": 1}}, checkpoint_id="dcp")                         # dcp/__0_0.distcp is shard.distcp
    save_file({**m.state_dict(), "half": half, "c": zeros(2, dtype=complex64)}, "model.safetensors")
"""

from __future__ import annotations

import io
import struct
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.testing.memory_file import Held
from refloat.vault.segmenters import safetensors
from refloat.vault.segmenters.spans import Span, cut
from refloat.vault.segmenters.torch_zip import ID, recognised, spans

GOLDEN = Path(__file__).parents[3] / "golden" / "segmenters"


def named(content: bytes) -> dict[str, int]:
    return {span.name: span.width for span in spans(Held(content))}


# -------------------------------------------------------------------------------------------- what torch has written


def test_a_checkpoint_of_torch_is_cut_at_its_storages_by_name() -> None:
    content = (GOLDEN / "checkpoint.pt").read_bytes()
    assert ID == 3
    assert recognised(content[:64], len(content))
    adam = [f"optimizer.state.{n}.{what}" for n in range(4) for what in ("step", "exp_avg", "exp_avg_sq")]
    model = ["model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias"]
    assert named(content) == {
        **dict.fromkeys([*model, *adam], 4),
        "half": 2,
        "wide": 8,
        "f8": 1,
        "u16": 2,
        "mask": 1,
    }
    half = next(span for span in spans(Held(content)) if span.name == "half")
    assert content[half.start :][:16] == b"".join(struct.pack("<f", value)[2:] for value in range(8))
    assert [segment.key for segment in cut(spans(Held(content)), len(content))][1] == "model.0.weight+15"


def test_a_shard_of_a_distributed_checkpoint_is_a_row_of_archives() -> None:
    content = (GOLDEN / "shard.distcp").read_bytes()
    assert recognised(content[:64], len(content))
    assert named(content) == {"1:data/0": 4, "2:data/0": 2, "3:data/0": 8}
    first = spans(Held(content))[0]
    assert content[first.start :][:48] == struct.pack("<12f", *range(12))


def test_a_file_of_safetensors_itself_is_cut_at_its_tensors() -> None:
    content = (GOLDEN / "model.safetensors").read_bytes()
    assert safetensors.recognised(content[:64], len(content))
    widths = {span.name: span.width for span in safetensors.spans(Held(content))}
    assert widths == {"": 1, "0.weight": 4, "0.bias": 4, "1.weight": 4, "1.bias": 4, "half": 2, "c": 4}


def test_a_long_name_that_the_first_bytes_do_not_hold_is_recognised_by_the_missing_date() -> None:
    content = (GOLDEN / "checkpoint.pt").read_bytes()
    assert recognised(content[:40], len(content))
    assert not recognised(archive(b"")[:32], 1000)
    assert not recognised(b"PK\3\4", 4)


# ------------------------------------------------------------------------------------------------- archives by hand


def archive(pickled: bytes, method: int = zipfile.ZIP_STORED, **storages: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as target:
        target.writestr("a/data.pkl", pickled)
        for key, content in storages.items():
            target.writestr(f"a/data/{key}", content)
    return stream.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(key: str, kind: str = "FloatStorage") -> bytes:
    identity = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + b"K\2tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + b"K\0tR"


def state(**tensors: bytes) -> bytes:
    return b"\x80\2}(" + b"".join(text(name) + value for name, value in tensors.items()) + b"u."


def test_a_dict_of_one_a_list_and_an_ordered_dict_give_names() -> None:
    one = b"\x80\2}" + text("w") + tensor("0") + b"s."
    assert named(archive(one, **{"0": bytes(8)})) == {"w": 4}
    row = b"\x80\2](" + tensor("0") + tensor("1", "HalfStorage") + b"e."
    assert named(archive(row, **{"0": bytes(8), "1": bytes(4)})) == {"0": 4, "1": 2}
    ordered = b"\x80\2ccollections\nOrderedDict\n)R(" + text("w") + tensor("0") + b"u."
    assert named(archive(ordered, **{"0": bytes(8)})) == {"w": 4}


def test_a_name_twice_a_storage_twice_and_one_that_the_pickle_does_not_tell_of() -> None:
    twice = b"\x80\2}(" + text("w") + tensor("0") + text("w") + tensor("1") + text("v") + tensor("0") + b"u."
    content = archive(twice, **{"0": bytes(8), "1": bytes(8), "2": bytes(8)})
    assert named(content) == {"w": 4, "data/1": 4, "data/2": 1}


def test_elements_that_do_not_fit_the_storage_have_no_width() -> None:
    assert named(archive(state(w=tensor("0")), **{"0": bytes(7)})) == {"w": 1}


def test_a_compressed_archive_is_not_unpacked() -> None:
    content = archive(state(w=tensor("0")), zipfile.ZIP_DEFLATED, **{"0": bytes(50_000_000)})
    began = time.thread_time()
    assert named(content) == {"data/0": 1}
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    ("before", "command", "after"),
    [
        (b"cos\nsystem\n(", "touch {}", b"tR."),
        (b"(", "touch {}", b"ios\nsystem\n."),
        (b"\x80\4\x8c\2os\x8c\6system\x93", "touch {}", b"\x85R."),
        (b"cbuiltins\nexec\n(", "open('{}', 'w')", b"tR."),
    ],
)
def test_a_pickle_that_would_run_something_runs_nothing(
    before: bytes, command: str, after: bytes, tmp_path: Path
) -> None:
    pickled = before + text(command.format(tmp_path / "ran")) + after
    assert named(archive(pickled, **{"0": bytes(8)})) == {"data/0": 1}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "pickled",
    [
        *[
            b"",
            b"t.",
            b"u.",
            b"s.",
            b"R.",
            b"Q.",
            b"q\0.",
            b"\xff",
            b"X\xff\xff\xff\xffa",
            b"0.",
            b"1.",
            b"\x93.",
        ],
        *[b"\x8d" + struct.pack("<Q", 2**63 - 1), b"I" + b"9" * 5000 + b"\n.", b"\x8b\xff\xff\xff\x7f"],
    ],
)
def test_a_broken_pickle_costs_only_the_names(pickled: bytes) -> None:
    assert named(archive(pickled, **{"0": bytes(8)})) == {"data/0": 1}


def test_a_pickle_that_nests_or_repeats_without_end_is_walked_in_bounded_time() -> None:
    began = time.thread_time()
    deep = b"\x80\2" + b"](" * 50_000 + tensor("0") + b"."
    bomb = b"\x80\2)q\0" + b"h\0h\0h\0h\0(h\0h\0h\0tq\0" * 20_000 + b"."
    wide = b"\x80\2}(" + text("k" * 100_000) + b"q\0" + b"h\0" * 50_000 + tensor("0") * 200 + b"."
    for pickled in (deep, bomb, wide):
        found = named(archive(pickled, **{"0": bytes(8)}))
        assert set(found) - {"data.pkl"} in ({"data/0"}, {"1.1.1.1.1.1.1.1.1.1.0"})
    assert time.thread_time() - began < 8


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4",
        archive(b"")[:-1],
        b"x" + archive(b""),
        archive(b"") + b"x",
        archive(b"") + bytes(200),
        archive(b"").replace(b"data.pkl", b"data.xyz"),
    ],
)
def test_what_is_no_row_of_archives_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        spans(Held(content))


def test_archives_in_a_row_are_told_apart_by_number() -> None:
    one = archive(state(w=tensor("0")), **{"0": bytes(8)})
    found = spans(Held(one * 3))
    assert [span.name for span in found] == ["0:w", "1:w", "2:w"]
    assert [span.start - found[0].start for span in found] == [0, len(one), 2 * len(one)]
    assert found[2] == Span(found[0].start + 2 * len(one), 8, 4, "2:w")


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        return archive(draw(st.binary(max_size=300)), **{"0": bytes(8)})
    name = draw(st.sampled_from(["checkpoint.pt", "shard.distcp"]))
    content = bytearray((GOLDEN / name).read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1) | st.integers(len(content) - 900, len(content) - 1))
        content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


@settings(max_examples=150, deadline=None)
@given(broken())
def test_fuzz_torch_zip(content: bytes) -> None:
    try:
        found = spans(Held(content))
        cut(found, len(content))
    except ValueError as error:
        assert str(error)
