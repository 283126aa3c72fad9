"""A bucket with object lock, in which the first version of a name is the object and nothing hides it.

A lock keeps versions: whoever holds a credential can still put a delete marker or another version over a name. Names
are written once, so what came first is the truth, and what came later is somebody's who had no business there. The
exception is what was put under a name before its object was written: it is not what the name says, which a *judge*
tells, and the first version that is counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from refloat.contracts import Keeping, ObjectInfo, Put
from refloat.digest import may_be_named
from refloat.errors import Missing, Retry, StoreError
from refloat.limits import MIB
from refloat.vault.stores.failures import missing
from refloat.vault.stores.names import checked, checked_prefix, is_name
from refloat.vault.stores.object import ObjectStore, open_bucket
from refloat.vault.stores.patience import Patience
from refloat.vault.stores.versions import Version, VersionedBucket, Versions

PROOF_S = 60.0  # how long the object of a proof stays: beyond the difference of two clocks, and soon over

FRESH_BYTES_MAX = (
    8 * MIB
)  # what was judged is kept until it is read, so that a log is fetched once: of 8,000 entries

Judge = Callable[[str, bytes], bool]


def open_kept(url: str, patience: Patience) -> Keeping | None:
    """The bucket as it keeps versions; None where it locks none, or ``boto3`` is not there to ask it."""
    try:
        bucket = VersionedBucket.open(url, patience)
    except ImportError:
        return None
    if bucket.locks() is False:
        return None
    return KeptStore(open_bucket(url, patience, checksums=True), bucket, may_be_named)


class KeptStore:
    """A bucket as its object lock keeps it. Threads may share it.

    What was chosen as the object of a name stays so while it is there, so it is asked for once.
    """

    def __init__(self, plain: ObjectStore, bucket: VersionedBucket, judge: Judge) -> None:
        self.url = plain.url
        self._plain = plain
        self._bucket = bucket
        self._judge = judge
        self._lock = threading.Lock()
        self._known: dict[str, Versions] = {}
        self._chosen: dict[str, tuple[Version, bool]] = {}
        self._until: dict[str, datetime] = {}
        self._fresh: dict[str, bytes] = {}
        self._fresh_bytes = 0

    def judged(self, judge: Judge) -> KeptStore:
        """The same with another judge."""
        return KeptStore(self._plain, self._bucket, judge)

    # ------------------------------------------------------------------------------------------- a store

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """Write ``content`` unless an object has the name; what is there and is none is written over.

        The bucket's own order decides between two that write at once: the first version counts.
        """
        content = bytes(content)
        put = self._plain.create(name, content)
        self._forget(name)
        if put is Put.EXISTS and self.holds(name):
            return put
        if put is Put.EXISTS:
            self._plain.put_over(name, content)
            self._forget(name)
        if len(self._versions(name).versions) == 1:
            return Put.CREATED
        return Put.CREATED if self._read(name, self._choose(name)[0]) == content else Put.EXISTS

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes of the object from ``start``, fewer where it ends. Raises ``Missing``."""
        version, _ = self._choose(checked(name))
        left = max(version.size - start, 0)
        wanted = left if length is None else min(length, left)
        if (content := self._take_fresh(name)) is not None:
            return content[start : start + wanted]
        return self._read(name, version, start, wanted)

    def size(self, name: str) -> int | None:
        """The object's size in bytes, or None."""
        try:
            return self._choose(checked(name))[0].size
        except Missing:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below ``prefix``, those that something lies over, too; the oldest first.

        So nobody keeps another from being seen by writing many. Where a name has several versions the size is the
        first one's; ``size`` tells which counts.
        """
        found = self._bucket.all_below(checked_prefix(prefix))
        with self._lock:
            self._known.update(found)
        first = {name: of.versions[0] for name, of in found.items() if of.versions and is_name(name)}
        ordered = sorted(first.items(), key=lambda one: (one[1].written_at, one[0]))
        return (ObjectInfo(name, version.size) for name, version in ordered)

    def delete(self, name: str) -> None:
        """Remove every version and marker. Raises ``StoreError`` where one is locked."""
        self._forget(checked(name))
        for version in self._versions(name).ids:
            with suppress(Missing):
                self._bucket.remove(name, version)
        self._forget(name)

    # ------------------------------------------------------------------------------------------- versions

    def holds(self, name: str) -> bool:
        """Whether one of the versions under a name is what the name says."""
        try:
            version, sure = self._choose(name)
        except Missing:
            return False
        if sure:
            return True
        content = self._read(name, version)
        if self._judge(name, content):
            with self._lock:
                self._chosen[name] = (version, True)
                if self._fresh_bytes + len(content) <= FRESH_BYTES_MAX:
                    self._fresh[name] = content
                    self._fresh_bytes += len(content)
            return True
        self._forget(name)  # the next to ask may find that it was written meanwhile
        return False

    def covered(self) -> Mapping[str, str]:
        """Each object that something lies over, and what does."""
        found = self._bucket.all_below("")
        with self._lock:
            self._known.update(found)
        over: dict[str, str] = {}
        for name, of in found.items():
            with suppress(Missing):  # a prune was quicker
                if is_name(name) and (reason := self._cover(name, of)):
                    over[name] = reason
        return over

    def _cover(self, name: str, of: Versions) -> str:
        if not of.versions or of.top == of.versions[0].id:
            return ""
        if of.top in of.markers:
            return "a delete marker lies over it"
        chosen, _ = self._choose(name)
        top = next((one for one in of.versions if one.id == of.top), chosen)
        return "" if self._is_same(name, top, chosen) else "something else was written over it"

    def _is_same(self, name: str, one: Version, other: Version) -> bool:
        """Whether two versions have equal bytes. Equal ones may have other marks, as one that came in parts has."""
        if (one.size, one.mark) == (other.size, other.mark):
            return True
        return one.size == other.size and self._read(name, one) == self._read(name, other)

    def uncover(self, name: str) -> str:
        """Remove the markers; where another version is on top then, write a copy of the object over it."""
        self._forget(name)
        markers = self._versions(name).markers
        for marker in markers:
            with suppress(Missing):
                self._bucket.remove(name, marker)
        self._forget(name)
        if not self._cover(name, self._versions(name)):
            return "the delete marker was removed" if markers else ""
        self._plain.put_over(name, self._read(name, self._choose(name)[0]))
        self._forget(name)
        return "its own version was written over what lay there"

    def written_at(self, name: str) -> datetime:
        """When the object was written, by the bucket's clock. Raises ``Missing``."""
        return self._choose(name)[0].written_at

    # ------------------------------------------------------------------------------------------- locks

    def locked_until(self, name: str) -> datetime | None:
        """Until when nobody at all can remove the object. Raises ``Missing``."""
        return self._bucket.locked_until(name, self._choose(name)[0].id)

    def removable_from(self, name: str) -> datetime | None:
        """When the last lock of any version ends: what somebody put over an object is locked, too."""
        ends = (self._bucket.locked_until(name, one.id) for one in self._versions(name).versions)
        return max((end for end in ends if end is not None), default=None)

    def lock(self, name: str, least: datetime, until: datetime) -> None:
        """See that the object is locked to ``least``, else lock it to ``until``, and ask again whether it is.

        A lock never becomes shorter, so one that was seen is not asked for again.
        """
        version = self._choose(name)[0].id
        if self._until.get(name, _NEVER) >= least:
            return
        found = self._bucket.locked_until(name, version)
        if found is None or found < least:
            self._bucket.lock(name, version, _whole_seconds(until))
            found = self._bucket.locked_until(name, version)
        if found is None or found < least:
            raise StoreError(
                f"{self.url} took the lock of {name}, and does not keep it",
                file=name,
                retry=Retry.LATER,
                next="see what the bucket says of its object lock: it must keep COMPLIANCE retention",
            )
        self._until[name] = found

    def prove(self, name: str) -> str | None:
        """Lock a small object for a minute, then try to remove it and to shorten the lock; what was wrong, or None."""
        until = _whole_seconds(datetime.now(UTC) + timedelta(seconds=PROOF_S))
        version = self._bucket.put_locked(name, b"this object proves that locks are kept", until)
        if not version:
            return "it keeps no versions"
        if self._bucket.locked_until(name, version) != until:
            return "it does not keep the lock that an object is written with"
        if not self._bucket.refuses(lambda: self._bucket.remove(name, version)):
            return "it lets a locked version be removed"
        if not self._bucket.refuses(lambda: self._bucket.lock(name, version, until - timedelta(seconds=30))):
            return "it lets a lock be shortened"
        if self._bucket.locked_until(name, version) != until:
            return "it refuses to shorten a lock, and has done so"
        return None

    def lock_what_comes(self, days: int) -> None:
        """Let the bucket lock every new object for so many days, unless it does so for longer already."""
        if self._bucket.default_days() < days:
            self._bucket.set_default_days(days)

    # ------------------------------------------------------------------------------------------- choosing

    def _versions(self, name: str) -> Versions:
        with self._lock:
            known = self._known.get(name)
        if known is None or not known.versions:  # what was not there may be by now
            known = self._bucket.all_of(name)
            with self._lock:
                self._known[name] = known
        return known

    def _choose(self, name: str) -> tuple[Version, bool]:
        """The version that is the object, and whether the judge has said so. Raises ``Missing``."""
        with self._lock:
            chosen = self._chosen.get(name)
        if chosen is not None:
            return chosen
        versions = self._versions(name).versions
        if not versions:
            raise missing(self.url, name)
        if len(versions) == 1:
            return versions[0], False
        good = next((one for one in versions if self._judge(name, self._read(name, one))), None)
        if good is None:
            return versions[0], False
        with self._lock:
            self._chosen[name] = (good, True)
        return good, True

    def _read(self, name: str, version: Version, start: int = 0, length: int | None = None) -> bytes:
        length = version.size - start if length is None else length
        if length <= 0:
            return b""
        try:
            return self._plain.get_version(name, version.id, start, length)
        except Missing:
            self._forget(name)
            raise

    def _take_fresh(self, name: str) -> bytes | None:
        """The object's bytes, where the judge has seen them and nobody has read them since."""
        with self._lock:
            content = self._fresh.pop(name, None)
            self._fresh_bytes -= len(content or b"")
        return content

    def _forget(self, name: str) -> None:
        self._take_fresh(name)
        with self._lock:
            for known in (self._known, self._chosen):
                known.pop(name, None)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _whole_seconds(moment: datetime) -> datetime:
    """Not before ``moment``, as a bucket keeps times."""
    return moment.replace(microsecond=0) + timedelta(seconds=1 if moment.microsecond else 0)
