"""A point's body is refused where it is not one, however well it is signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.digest import object_name
from refloat.errors import Damaged
from refloat.flows import points
from refloat.testing.world import World
from refloat.vault.layout import point_name
from refloat.vault.points import seal_point


@pytest.mark.parametrize("name", ["../escaped", "/etc", ".", "", "A", "a/b", "a" * 65])
def test_a_component_whose_name_leads_elsewhere_is_damage(name: str, tmp_path: Path) -> None:  # fault 60
    world = World.small(tmp_path, group="")
    replica = world.vault().replicas["eu"]
    body = dict(replica.read_point(world.protect().name))
    body["components"] = {name: body["components"]["pages"]}  # type: ignore[call-overload,index]
    stored = seal_point(replica.keyring, body)
    world.stores["eu"].create(point_name(object_name(stored)), stored)
    with pytest.raises(Damaged, match="fields are wrong"):
        points.read(replica, object_name(stored))
