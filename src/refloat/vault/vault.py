"""A vault: its replicas, one in each region, as far as they can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from refloat.clock import Clock
from refloat.errors import RefloatError, StoreError, VaultError, WrongKey
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica
from refloat.vault.stores import open_store


class Vault:
    """The replicas that answered, and for each other region the error that it gave."""

    def __init__(self, replicas: Mapping[str, Replica], unreachable: Mapping[str, RefloatError]) -> None:
        self.replicas = dict(replicas)
        self.unreachable = dict(unreachable)

    @classmethod
    def open(cls, urls: Mapping[str, str], key_file: KeyFile, clock: Clock) -> Vault:
        """Open every region's replica, at the same time; a region that does not answer is no error here.

        Raises ``StoreError`` where none answers, and at once whatever says that the key or a replica is
        the wrong one, since that does not get better by going on.
        """
        with ThreadPoolExecutor(max_workers=len(urls)) as pool:
            opening = {
                region: pool.submit(_open, region, url, key_file, clock) for region, url in urls.items()
            }
        replicas: dict[str, Replica] = {}
        unreachable: dict[str, RefloatError] = {}
        for region, opened in opening.items():
            result = opened.result()
            if isinstance(result, Replica):
                replicas[region] = result
            else:
                unreachable[region] = result
        if not replicas:
            raise _none_answers(unreachable)
        return cls(replicas, unreachable)

    def sound(self) -> Vault:
        """The same without the regions whose log of points cannot be read: one that is damaged stops no other.

        Raises ``VaultError`` or ``StoreError`` where none is left.
        """
        replicas, unreachable = dict(self.replicas), dict(self.unreachable)
        for region, replica in self.replicas.items():
            try:
                replica.points()
            except (VaultError, StoreError) as error:
                unreachable[region] = error.at(region=region)
                del replicas[region]
        if not replicas:
            raise _none_answers(unreachable)
        return Vault(replicas, unreachable)


def _none_answers(unreachable: Mapping[str, RefloatError]) -> RefloatError:
    """The one region's own error, or one that names every region's."""
    first = next(iter(unreachable.values()))
    if len(unreachable) == 1:
        return first
    told = "; ".join(f"{region}: {error.message}" for region, error in unreachable.items())
    return StoreError(f"no region's vault answers: {told}", next=first.next)


def _open(region: str, url: str, key_file: KeyFile, clock: Clock) -> Replica | RefloatError:
    try:
        return Replica.open(region, open_store(url), key_file, clock)
    except WrongKey as error:
        raise error.at(region=region) from error
    except RefloatError as error:
        return error.at(region=region)
