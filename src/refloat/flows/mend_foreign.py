"""Set aside what lies in a vault and is not the vault's, so that a check ends well and a prune goes on.

It comes last, when nothing is left to mend from elsewhere. What was never ours goes without asking. What may have been
ours goes so as well, where nothing is lost with it: every point of every region has all that it needs, in packs that
sound index objects list. So a damaged index object that no region has whole goes when its packs are listed anew. Of
the rest, as of key objects that cannot be read, a person says so first: rule ``foreign_objects``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from refloat.errors import Missing, StoreError
from refloat.vault import layout
from refloat.vault.aside import first_break
from refloat.vault.check import CheckReport
from refloat.vault.foreign import SetAside, set_objects_aside
from refloat.vault.keys import Role
from refloat.vault.quarantine import stored_whole
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.vault.whose import ASKED, Whose, is_asked, newer_format_of, whose

FOREIGN_OBJECTS = "foreign_objects"
GO_ON = f"`refloat vault repair --override {FOREIGN_OBJECTS}` sets it aside"
_DOUBTS = "it may have been this vault's, and nobody has it whole"
_MOST = "more than half of the objects of this region would be set aside"


@dataclass(frozen=True)
class Found:
    """What a check found wrong in a region, by name: whose it is, of what may be set aside, and of nothing else why.

    ``loses``: what else is wrong there, so that what points need may be lacking.
    """

    whose: Mapping[str, Whose] = field(default_factory=dict)
    newer: Mapping[str, str] = field(default_factory=dict)
    loses: bool = False


def mend_foreign(
    vault: Vault, reports: Mapping[str, CheckReport], overrides: frozenset[str]
) -> dict[str, SetAside]:
    """Set aside what the checks of all regions name and is not the vault's. Raises ``StoreError``."""
    replicas = list(vault.replicas.values())
    found = vault.each(lambda one: look_at(one, reports[one.region], replicas))
    nothing_lost = not vault.unreachable and not any(one.loses for one in found.values())
    allowed = FOREIGN_OBJECTS in overrides
    return vault.each(
        lambda one: _mend(one, found[one.region], overrides, doubts=not allowed and not nothing_lost)
    )


def look_at(replica: Replica, report: CheckReport, replicas: Sequence[Replica]) -> Found:
    """Whose what a check found wrong is. Raises ``StoreError``."""
    others = [one for one in replicas if one is not replica]
    found: dict[str, Whose] = {}
    newer: dict[str, str] = {}
    loses = False
    for name in (damage.object for damage in report.damaged if not damage.malformed):
        stored = _stored(replica, name) if is_asked(name) else None
        of = Whose.OURS if stored is None else whose(name, stored, replica, others)
        if stored is not None and of is Whose.NEWER:
            error = layout.newer_format(name, newer_format_of(stored) or 0)
            newer[name] = f"{error.message}; {error.next}"
        if of in (Whose.FOREIGN, Whose.DOUBTFUL):
            found[name] = of
        loses = loses or not (of is Whose.FOREIGN or _is_of_use_no_more(name, of, stored))
    return Found(found, newer, loses)


def _is_of_use_no_more(name: str, of: Whose, stored: bytes | None) -> bool:
    """Whether what may have been ours is needed by nothing, where nothing else is wrong.

    A key may be, for ever; and what has its name was written so, as by a writer who was vouched for since.
    """
    whole = stored is not None and layout.has_its_name(name, stored)
    return of is Whose.DOUBTFUL and not name.startswith(layout.KEYS) and not whole


def _stored(replica: Replica, name: str) -> bytes | None:
    """An object's bytes; None where it is gone, or not all of them can be had, so that nothing is known of it."""
    with suppress(Missing, StoreError):
        return stored_whole(replica.store, name)
    return None


def _mend(replica: Replica, found: Found, overrides: frozenset[str], *, doubts: bool) -> SetAside:
    left = dict(found.newer)
    reasons: dict[str, str] = {}
    for name, of in found.whose.items():
        if of is Whose.FOREIGN:
            reasons[name] = "it is not of this vault"
        elif not doubts:
            reasons[name] = "it is not what was written, and nothing needs it"
        else:
            left[name] = f"{_DOUBTS}; {GO_ON}"
    why = _hindrance(replica, reasons, overrides)
    if why is not None:
        return SetAside({}, {**left, **dict.fromkeys(reasons, why)})
    done = set_objects_aside(replica, reasons, overrides)
    return SetAside(done.done, {**left, **done.left})


def _hindrance(replica: Replica, names: Collection[str], overrides: frozenset[str]) -> str | None:
    """Why nothing is set aside in a region; None where it is."""
    if not names:
        return None
    if not replica.keyring.can(Role.OPERATOR):
        return f"to set it aside takes the key of an {Role.OPERATOR}"
    if first_break(replica.log(layout.AUDIT_STREAM, Role.OPERATOR)) is not None:
        return f"it is set aside when the log {layout.AUDIT_STREAM} of the region is mended"
    there = sum(1 for prefix in ASKED for _ in replica.store.list(prefix))
    if 2 * len(names) > there and FOREIGN_OBJECTS not in overrides:
        return f"{_MOST}; {GO_ON}"
    return None
