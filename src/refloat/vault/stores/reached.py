"""How a bucket is reached, as obstore takes it: by what its address says, and the environment where it says nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from refloat.errors import UsageError
from refloat.manifest.address import Access, access_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
}
_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP"}
_OF_ONE = {
    "s3": ("region", "access_key_id", "secret_access_key", "session_token"),
    "az": ("account", "account_key", "sas_token"),
    "gs": ("service_account_key",),
}
_ENDPOINT_KEY = {"s3": "endpoint", "az": "endpoint", "gs": "base_url"}
_PEM = "-----BEGIN CERTIFICATE-----"
_TRUE = ("1", "true", "yes", "on")

Credentials = Callable[[], Mapping[str, object]]


@dataclass(frozen=True)
class Reached:
    """What obstore is given. Credentials come by a call, so that none of the environment's are mixed in."""

    config: Mapping[str, object]
    options: ClientConfig
    credentials: Credentials | None = None


def reach(address: str) -> Reached:
    """How the bucket at an address is reached. Raises ``UsageError`` for what its kind of store does not take."""
    access, scheme = access_of(address), address.partition("://")[0]
    for kind, keys in _OF_ONE.items():
        for key in keys if kind != scheme else ():
            if getattr(access, key):
                raise UsageError(
                    f"`{key}` of `store` is for {kind}://, not for {address}", next=f"remove `{key}`"
                )
    config: dict[str, object] = {_ENDPOINT_KEY[scheme]: access.endpoint} if access.endpoint else {}
    if scheme == "s3":
        config |= {"region": access.region} if access.region else {}
        config |= {} if access.path_style else {"virtual_hosted_style_request": True}
    elif scheme == "az":
        config |= {"account_name": access.account} if access.account else {}
    elif access.service_account_key:
        config |= {"service_account_key": access.service_account_key}
    return Reached(config, _options(scheme, access), _credentials(access))


def _options(scheme: str, access: Access) -> ClientConfig:
    options: ClientConfig = {"allow_http": _may_be_plain(scheme, access)}
    trusted = certificates(access)
    if trusted:
        options["root_certificate"] = trusted
    if access.proxy:
        options["proxy_url"] = access.proxy
    return options


def certificates(access: Access) -> str:
    """The certificates to trust beside the system's, as PEM: the access's, else those that ``AWS_CA_BUNDLE`` names.

    Raises ``UsageError`` for what is none.
    """
    bundle = os.environ.get("AWS_CA_BUNDLE", "")
    try:
        text = access.ca or (Path(bundle).read_text() if bundle else "")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"AWS_CA_BUNDLE cannot be read: {error}", next="let it name a PEM file") from None
    if text and _PEM not in text:
        name = "`ca` of `store`" if access.ca else "AWS_CA_BUNDLE"
        raise UsageError(f"{name} is no certificate", next="give PEM text: ca: ${file:ca.pem}")
    return text


def _may_be_plain(scheme: str, access: Access) -> bool:
    """Whether plain HTTP may be spoken: on this machine, or where somebody said so."""
    asked = os.environ.get(_ALLOW_HTTP[scheme], "").lower() in _TRUE
    named = [os.environ[name] for name in _ENDPOINTS[scheme] if os.environ.get(name)]
    endpoints = [access.endpoint] if access.endpoint else named
    return access.allow_http or asked or any(urlsplit(one).hostname in _LOOPBACK for one in endpoints)


def _credentials(access: Access) -> Credentials | None:
    found: dict[str, object] = {}
    if access.access_key_id:
        found = {
            "access_key_id": access.access_key_id,
            "secret_access_key": access.secret_access_key,
            "token": access.session_token or None,
        }
    elif access.account_key:
        found = {"access_key": access.account_key}
    elif access.sas_token:
        found = {"sas_token": access.sas_token}
    return (lambda: {**found, "expires_at": None}) if found else None
