"""References are resolved late, for one region, and what they bring in is never shown."""

from __future__ import annotations

import pytest
from pydantic import Field, field_validator

from refloat.contracts import Settings
from refloat.errors import ManifestError, UsageError
from refloat.manifest.model import Manifest, Sandbox, Verification
from refloat.manifest.resolve import Resolver, redact
from refloat.manifest.sandbox import in_sandbox, replica_of


class Place(Settings):
    path: str
    port: int = 0
    options: dict[str, object] = Field(default_factory=dict)
    names: list[str] = Field(default_factory=list)

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError(f"{value!r} is not absolute")
        return value


def manifest(**changed: object) -> Manifest:
    document = {
        "version": 1,
        "pipeline": "notes",
        "regions": {
            "eu": {
                "vault": "s3://${env:BUCKET}/eu",
                "vars": {"root": "/srv/${region}", "port": "8101", "deep": "${region.root}/deep"},
                "addresses": {
                    "models": "s3://models-eu/",
                    "big": "s3://models-eu/big/",
                    "shared": "s3://all/",
                },
            },
            "us": {
                "vault": "/v/us",
                "vars": {"root": "/mnt/us", "port": "8102"},
                "addresses": {"models": "s3://models-us/", "big": "s3://big-us/", "shared": "s3://all/"},
            },
        },
        "primary": "eu",
        "components": {
            "docs": {"kind": "files", "with": {"path": "${region.root}/docs", "port": "${region.port}"}}
        },
    }
    return Manifest.model_validate({**document, **changed})


def component(**said: object) -> Manifest:
    return manifest(components={"docs": {"kind": "files", **said}})


def read_file(path: str) -> str:
    if path == "/run/secrets/key":
        return "from a file\n"
    raise FileNotFoundError(path)


@pytest.fixture
def late() -> Resolver:
    return Resolver(
        {"BUCKET": "dr-bucket", "PASSWORD": "hunter22", "EMPTY": "", "TRICK": "${env:PASSWORD}"}, read_file
    )


def test_settings_differ_by_region(late: Resolver):
    assert late.settings(manifest(), "docs", "eu", Place) == Place(path="/srv/eu/docs", port=8101)
    assert late.settings(manifest(), "docs", "us", Place) == Place(path="/mnt/us/docs", port=8102)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:PASSWORD}", "hunter22"),
        ("${file:/run/secrets/key}", "from a file"),
        ("${region}", "eu"),
        ("${pipeline}/${region.deep}", "notes//srv/eu/deep"),
        ("${region.models}m", "s3://models-eu/m"),
        ("$${region}", "${region}"),
        ("a $$ b $ c", "a $$ b $ c"),
        ("$${env:PASSWORD} ${region}", "${env:PASSWORD} eu"),
        ("${env:EMPTY}", ""),
        ("${env:TRICK}", "${env:PASSWORD}"),
    ],
)
def test_a_reference_stands_for_its_value(late: Resolver, text: str, value: str):
    assert late.value(text, manifest(), "eu") == value


def test_references_are_found_at_any_depth_and_other_values_stay(late: Resolver):
    value = {"a": ["${region}", 1, None, True], "b": {"c": "${pipeline}"}}
    assert late.value(value, manifest(), "us") == {"a": ["us", 1, None, True], "b": {"c": "notes"}}


def test_at_changes_mappings_deeply_and_replaces_lists(late: Resolver):
    world = component(
        **{
            "with": {"path": "/a", "options": {"x": {"y": 1, "z": 2}, "w": 1}, "names": ["a", "b"]},
            "at": {"us": {"options": {"x": {"y": 3}}, "names": ["c"]}},
        }
    )
    assert late.settings(world, "docs", "us", Place).options == {"x": {"y": 3, "z": 2}, "w": 1}
    assert late.settings(world, "docs", "us", Place).names == ["c"]
    assert late.settings(world, "docs", "eu", Place).names == ["a", "b"]


def test_at_alone_is_enough(late: Resolver):
    world = component(at={"eu": {"path": "/a"}})
    assert late.settings(world, "docs", "eu", Place).path == "/a"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("${regoin}", "nothing is called ${regoin}", "'region'"),
        ("${home}", "nothing is called ${home}", "env:NAME"),
        ("${}", "nothing is called ${}", "known"),
        ("${region.prt}", "eu has no variable or address called 'prt'", "'port'"),
        ("${region", "has no `}`", "$${"),
        ("${a${region}}", "has no `}`", "$${"),
        ("${env:NOPE}", "not set: NOPE", "set them"),
        ("${file:/nope}", "cannot be read: /nope", "set them"),
    ],
)
def test_a_reference_to_nothing_is_refused(late: Resolver, text: str, message: str, hint: str):
    with pytest.raises(ManifestError) as caught:
        late.value(text, manifest(), "eu")
    assert message in caught.value.message
    assert hint in str(caught.value.next)


def test_a_file_that_is_not_text_counts_as_unreadable():
    def binary(path: str) -> str:
        return b"\xff".decode("utf-8")

    with pytest.raises(ManifestError, match="cannot be read: key"):
        Resolver({}, binary).value("${file:key}", manifest(), "eu")


def test_variables_that_go_in_a_circle_are_refused(late: Resolver):
    regions = {"eu": {"vault": "/v", "vars": {"a": "${region.b}", "b": "${region.a}"}}}
    with pytest.raises(ManifestError, match=r"circle: region\.a to region\.b to region\.a"):
        late.value("${region.a}", manifest(regions=regions), "eu")


@pytest.mark.parametrize("last", ["", "x" * 100])
def test_variables_that_double_each_other_end_at_once(late: Resolver, last: str):
    doubled = {f"v{i}": f"${{region.v{i + 1}}}" * 2 for i in range(60)}
    regions = {"eu": {"vault": "/v", "vars": {**doubled, "v60": last}}}
    world = manifest(
        regions=regions, components={"docs": {"kind": "files", "with": {"path": "${region.v0}"}}}
    )
    if last:
        with pytest.raises(ManifestError, match="resolves to more than"):
            late.value("${region.v0}", world, "eu")
    else:
        assert late.value("${region.v0}", world, "eu") == ""
    assert late.missing(world, ["eu"]) == []


# ---------------------------------------------------------------------------------------------- what is missing


def test_all_that_is_missing_is_listed_at_once():
    world = manifest(
        components={
            "docs": {
                "kind": "files",
                "with": {"path": "${env:ONE}", "x": ["${file:/two}", "$${env:ESCAPED}"]},
            },
            "more": {"kind": "files", "with": {"path": "${env:ONE}"}, "at": {"us": {"path": "${env:THREE}"}}},
        },
        verify={"docs": {"probe": {"http": "${env:FOUR}"}, "golden": "g", "bounds": {"p": {"at_most": 1}}}},
    )
    nothing = Resolver({}, read_file)
    assert nothing.missing(world, ["eu"]) == ["env:BUCKET", "env:ONE", "file:/two", "env:FOUR"]
    assert nothing.missing(world, ["eu", "us"]) == [
        "env:BUCKET",
        "env:ONE",
        "file:/two",
        "env:FOUR",
        "env:THREE",
    ]
    with pytest.raises(ManifestError) as caught:
        nothing.require(world, ["eu"])
    assert "not set: BUCKET, ONE, FOUR; files that cannot be read: /two" in caught.value.message


def test_what_a_variable_refers_to_is_missing_too():
    regions = {"eu": {"vault": "/v", "vars": {"a": "${region.b}", "b": "${env:DEEP}"}}}
    world = manifest(regions=regions, components={"docs": {"kind": "files", "with": {"path": "${region.a}"}}})
    assert Resolver({}, read_file).missing(world, ["eu"]) == ["env:DEEP"]


def test_nothing_missing_is_no_error(late: Resolver):
    late.require(manifest(), ["eu", "us"])


# -------------------------------------------------------------------------------------------------- secrets


def test_what_came_from_outside_is_known_as_secret(late: Resolver):
    late.value(["${env:PASSWORD}", "${file:/run/secrets/key}", "${region}", "${env:EMPTY}"], manifest(), "eu")
    assert late.secrets == {"hunter22", "from a file"}


def test_looking_for_what_is_missing_learns_no_secret(late: Resolver):
    late.missing(manifest(), ["eu"])
    assert late.secrets == frozenset()


def test_redaction_takes_the_longest_first_and_leaves_short_words():
    assert redact("hunter22 hunter2 at 12", ["hunter2", "hunter22", "12"]) == "*** *** at 12"


def test_settings_that_are_refused_name_the_key_and_hide_the_secret(late: Resolver):
    with pytest.raises(ManifestError) as caught:
        late.settings(component(**{"with": {"path": "${env:PASSWORD}"}}), "docs", "eu", Place)
    assert "components.docs.with.path (in eu)" in caught.value.message
    assert "hunter22" not in caught.value.message


def test_an_unknown_setting_names_the_nearest(late: Resolver):
    with pytest.raises(ManifestError) as caught:
        late.settings(component(**{"with": {"path": "/a", "prt": 1}}), "docs", "eu", Place)
    assert "components.docs.with.prt (in eu): is not known" in caught.value.message
    assert caught.value.next == "did you mean 'port'?"


def test_a_missing_setting_is_named_with_what_the_kind_takes(late: Resolver):
    with pytest.raises(ManifestError) as caught:
        late.settings(component(), "docs", "us", Place)
    assert "components.docs.with.path (in us): is missing" in caught.value.message
    assert "path, port, options, names" in str(caught.value.next)


# ------------------------------------------------------------------------------------------------ addresses


def test_addresses_are_paired_longest_first_and_equal_ones_left_out(late: Resolver):
    pairs = late.addresses(manifest(), "eu", "us")
    assert list(pairs.items()) == [
        ("s3://models-eu/big/", "s3://big-us/"),
        ("s3://models-eu/", "s3://models-us/"),
    ]


def test_addresses_of_a_region_to_itself_are_none(late: Resolver):
    assert late.addresses(manifest(), "eu", "eu") == {}


def test_an_address_without_a_counterpart_is_refused(late: Resolver):
    world = manifest(regions={"eu": {"vault": "/e", "addresses": {"models": "x"}}, "us": {"vault": "/u"}})
    with pytest.raises(ManifestError, match=r"regions\.us\.addresses: no counterpart to models of eu"):
        late.addresses(world, "eu", "us")


def test_the_vaults_address_is_resolved(late: Resolver):
    assert late.vault(manifest(), "eu") == "s3://dr-bucket/eu"


# ---------------------------------------------------------------------------------------------- in a sandbox


def test_a_sandbox_says_where_things_are_and_the_point_what_they_are() -> None:
    carried = Manifest.model_validate(
        {
            "version": 1,
            "pipeline": "notes",
            "regions": {"eu": {"vault": "v"}},
            "primary": "eu",
            "components": {
                "pages": {
                    "kind": "k",
                    "with": {"path": "/srv/${region}", "port": 7},
                    "at": {"bench": {"port": 1}},
                },
                "texts": {"kind": "k", "with": {"path": "${region.root}/t"}},
            },
            "verify": {
                "texts": {"probe": {"http": "x"}, "golden": "g", "bounds": {"errors": {"at_most": 0.5}}}
            },
        }
    )
    asked = {"probe": {"http": "${region.root}"}, "golden": "g", "bounds": {"a": {"at_least": 1.0}}}
    today = carried.model_copy(
        update={
            "sandboxes": {
                "bench": Sandbox.model_validate({"vars": {"root": "/b"}, "at": {"texts": {"names": ["n"]}}})
            },
            "verify": {name: Verification.model_validate(asked) for name in ("pages", "gone")},
        }
    )
    there = in_sandbox(carried, today, "bench")
    resolver = Resolver({}, lambda path: "")
    pages = resolver.settings(there, "pages", "bench", Place)
    assert (pages.path, pages.port) == ("/srv/bench", 7), (
        "what the point said of a region called so is no matter"
    )
    assert resolver.settings(there, "texts", "bench", Place) == Place(path="/b/t", names=["n"])
    assert there.verify.keys() == {"pages"}, "what today's manifest asks, of what the point has"
    assert resolver.value(there.verify["pages"].probe, there, "bench") == {"http": "/b"}
    assert replica_of(today, "bench") == "eu"
    with pytest.raises(UsageError, match="knows no sandbox 'bnch'") as error:
        in_sandbox(carried, today, "bnch")
    assert "bench" in str(error.value.next)
    with pytest.raises(UsageError, match="knows no sandbox"):
        in_sandbox(carried, carried, "bench")
