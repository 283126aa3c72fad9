"""The address of a region's replica together with how its store is reached, where the manifest says so."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Access:
    """How a bucket is reached, resolved; what is empty comes from the environment, as for a bare address.

    ``region`` and ``path_style`` are S3's; ``account`` is Azure's. ``ca`` is PEM text: certificates that are trusted
    beside those of the system.
    """

    endpoint: str = ""
    region: str = ""
    path_style: bool = True
    allow_http: bool = False
    proxy: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    account: str = ""
    account_key: str = field(default="", repr=False)
    sas_token: str = field(default="", repr=False)
    service_account_key: str = field(default="", repr=False)

    @property
    def has_credentials(self) -> bool:
        """Whether none are taken from the environment."""
        return bool(self.access_key_id or self.account_key or self.sas_token or self.service_account_key)


class Address(str):
    """A URL that knows how its store is reached; as text, and wherever it is written, the URL alone.

    Two are equal only where both are: buckets of two servers may have one name.
    """

    access: Access

    def __new__(cls, url: str, access: Access) -> Address:
        """The address ``url``, reached by ``access``."""
        made = super().__new__(cls, url)
        made.access = access
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other) and self.access == other.access

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), self.access))

    def __str__(self) -> str:
        return self[:]

    def at(self, url: str) -> Address:
        """Another spelling of the URL, reached in the same way."""
        return Address(url, self.access)


def access_of(url: str) -> Access:
    """How the store at an address is reached; by the environment alone for plain text."""
    return url.access if isinstance(url, Address) else Access()
