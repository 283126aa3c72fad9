"""Orders of components: deterministic, and never against what they say of each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.manifest.graph import capture_order, cycle_in, order_by_needs, order_of_need, units
from refloat.manifest.model import Manifest


def manifest(
    components: dict[str, dict[str, object]], groups: dict[str, list[str]] | None = None
) -> Manifest:
    return Manifest.model_validate(
        {
            "version": 1,
            "pipeline": "p",
            "regions": {"here": {"vault": "/v"}},
            "primary": "here",
            "components": {name: {"kind": "files", **said} for name, said in components.items()},
            "groups": {name: {"members": members} for name, members in (groups or {}).items()},
        }
    )


def test_what_is_needed_starts_first():
    world = manifest(
        {"web": {"needs": ["model", "cache"]}, "model": {"needs": ["disk"]}, "cache": {}, "disk": {}}
    )
    assert order_by_needs(world, world.components) == ["cache", "disk", "model", "web"]


def test_needs_hold_through_components_that_are_not_asked_for():
    world = manifest({"web": {"needs": ["model"]}, "model": {"needs": ["disk"]}, "disk": {}})
    assert order_by_needs(world, ["web", "disk"]) == ["disk", "web"]


def test_ties_keep_the_order_of_the_manifest():
    world = manifest({name: {} for name in "zyxabc"})
    assert order_by_needs(world, "abcxyz") == list("zyxabc")


def test_what_serving_needs_comes_first_with_what_that_needs_in_its_turn():
    world = manifest(
        {
            "lab": {"tier": "development"},
            "logs": {},
            "web": {"tier": "critical", "needs": ["model"]},
            "model": {"tier": "development", "needs": ["disk"]},
            "disk": {},
        }
    )
    assert order_of_need(world, world.components) == ["disk", "model", "web", "logs", "lab"]
    assert order_of_need(world, ["lab", "web"]) == ["web", "lab"]


def test_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        order_by_needs(manifest({"a": {}}), ["b"])


def test_pointers_are_captured_before_what_they_point_to():
    world = manifest({"data": {}, "index": {"refers_to": ["data"]}, "flags": {"refers_to": ["index"]}})
    assert capture_order(world, {}, world.components) == ["flags", "index", "data"]


def test_kinds_point_too():
    world = manifest(
        {"data": {"kind": "files"}, "index": {"kind": "lancedb"}, "registry": {"kind": "mlflow"}}
    )
    kinds = {"mlflow": ("lancedb",), "lancedb": ("files",)}
    assert capture_order(world, kinds, world.components) == ["registry", "index", "data"]


def test_what_a_component_says_outweighs_its_kind():
    world = manifest({"data": {"kind": "files", "refers_to": ["index"]}, "index": {"kind": "lancedb"}})
    assert capture_order(world, {"lancedb": ("files",)}, world.components) == ["data", "index"]


def test_kinds_that_point_at_each_other_still_have_one_order():
    world = manifest({"one": {"kind": "a"}, "two": {"kind": "b"}})
    kinds = {"a": ("b",), "b": ("a",)}
    assert capture_order(world, kinds, world.components) == ["one", "two"]


def test_a_kind_that_points_at_itself_puts_the_first_component_first():
    world = manifest({"one": {"kind": "a"}, "two": {"kind": "a"}})
    assert capture_order(world, {"a": ("a",)}, world.components) == ["one", "two"]


def test_capture_order_holds_through_components_that_are_not_members():
    world = manifest({"data": {}, "index": {"refers_to": ["data"]}, "flags": {"refers_to": ["index"]}})
    assert capture_order(world, {}, ["data", "flags"]) == ["flags", "data"]


def test_groups_that_share_a_member_are_one_unit():
    world = manifest({name: {} for name in "abcdef"}, {"g": ["f", "b"], "h": ["b", "d"], "i": ["c"]})
    assert units(world) == [("a",), ("b", "d", "f"), ("c",), ("e",)]


def test_a_third_group_joins_two_that_shared_nothing():
    world = manifest({name: {} for name in "abcd"}, {"g": ["a", "b"], "h": ["c", "d"], "i": ["d", "a"]})
    assert units(world) == [("a", "b", "c", "d")]


def test_a_cycle_is_named_along_its_edges():
    assert cycle_in({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) in (
        list("abca"),
        list("bcab"),
        list("cabc"),
    )
    assert cycle_in({"a": ["a"]}) == ["a", "a"]
    assert cycle_in({"a": ["b"], "b": [], "c": ["b"]}) is None


def test_a_long_chain_costs_no_stack():
    chain = {f"c{i}": [f"c{i + 1}"] for i in range(20_000)}
    assert cycle_in(chain) is None


@st.composite
def worlds(draw: st.DrawFn) -> Manifest:
    count = draw(st.integers(1, 7))
    names = [f"c{i}" for i in range(count)]
    order = draw(st.permutations(names))
    said = {}
    for position, name in enumerate(order):
        later = order[position + 1 :]
        said[name] = {
            "kind": draw(st.sampled_from("pqr")),
            "refers_to": draw(st.lists(st.sampled_from(later), unique=True)) if later else [],
            "needs": draw(st.lists(st.sampled_from(later), unique=True)) if later else [],
        }
    return manifest({name: said[name] for name in names})


KINDS = st.dictionaries(st.sampled_from("pqr"), st.lists(st.sampled_from("pqr")).map(tuple))


@given(worlds(), KINDS)
def test_every_order_is_whole_and_keeps_what_components_say(
    world: Manifest, kinds: dict[str, tuple[str, ...]]
):
    captured = capture_order(world, kinds, world.components)
    started = order_by_needs(world, world.components)
    assert sorted(captured) == sorted(started) == sorted(world.components)
    for name, component in world.components.items():
        assert all(captured.index(name) < captured.index(target) for target in component.refers_to)
        assert all(started.index(name) > started.index(needed) for needed in component.needs)
