"""What the failure of an object store means: whether another try can help, why it failed, what to do."""

from __future__ import annotations

import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from refloat.errors import DeadlineExceeded, Missing, RefloatError, Retry, StoreError, StoreFull
from refloat.manifest.address import access_of

CREDENTIALS_ADVICE = "set the credentials in the environment (AWS_ACCESS_KEY_ID and the like)"
AZURE_ADVICE = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"
GOOGLE_ADVICE = "set GOOGLE_SERVICE_ACCOUNT in the environment to the path of a service account's JSON"

_ADDRESS_QUERY = re.compile(r"\?[^\s\"'<>]*")  # signed addresses carry their signature there
_STATUS = re.compile(r"status code: (\d{3})|\(code: (\d{3})\)")  # the latter of one delete in a batch
_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>|\(code: ([A-Za-z]+)\)")
_KIND = re.compile(r"kind: (Timeout|Connect)\b")
_KINDS = {"Timeout": "it did not answer in time", "Connect": "it cannot be reached"}
_NOBODY_THERE = re.compile(
    r'"tcp connect error",\s*(\S+),\s*Os \{\s*code: \d+,\s*kind: \w+,\s*message: "([^"]+)"'
)
_NO_SUCH_NAME = '"dns error"'
_BROKEN = re.compile(r"HTTP error: (error sending request|request or response body error)")
_BROKEN_SAID = "the connection broke"
_EXPIRED = ("ExpiredToken", "RequestExpired", "TokenRefreshRequired")
_WRONG = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed")
_CLOCK = ("RequestTimeTooSkewed",)
_EXPIRED_SAID = (
    "not valid in the specified time frame",
    "Signed expiry time",
)  # Azure's code is as of a wrong key
_WRONG_SAID = "failed to authenticate the request"
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "ResourceNotFound")
_NO_BUCKET_SAID = "The specified container does not exist"
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_REDIRECTED = "redirect without LOCATION"  # S3's answer for a bucket of another region
_FULL = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage")
_NO_CREDENTIALS = (
    "169.254.169.254",
    "metadata.google.internal",
)  # the machine's own credentials were asked for: none were given
_PLAIN_HTTP = "BadScheme"
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
_TRANSIENT_STATUS = (408, 409, 425, 429)  # and everything from 500 up but 501

_Meaning = tuple[Retry, str, str]


def missing(url: str, name: str) -> Missing:
    """The error for an object that is not there."""
    return Missing(f"{name} is not in {url}", file=name)


def typed(url: str, verb: str, name: str, error: Exception) -> RefloatError:
    """The error of ours that a failure is, with what can be said of it, and no secret."""
    text = str(error)
    if isinstance(error, FileNotFoundError) and not _lacks_bucket(text) and verb != "write":
        return missing(url, name)
    retry, reason, advice = _judge(url, error, text)
    kind = StoreFull if _is_full(code_of(text), status_of(text)) else StoreError
    return kind(f"cannot {verb} {name} in {url}: {reason}", file=name, retry=retry, next=advice)


def may_have_landed(error: Exception) -> bool:
    """Whether a write that failed so may have been done all the same: nobody answered, or the server broke."""
    status = status_of(str(error))
    return status is None or status >= 500


def is_silence(error: Exception | None) -> bool:
    """Whether nobody said anything within the time that was given: not even that it is busy, or not there."""
    if error is None:
        return False
    if isinstance(error, DeadlineExceeded):
        return True
    found = _KIND.search(str(error))
    return status_of(str(error)) is None and found is not None and found[1] == "Timeout"


def name_is_taken(text: str) -> bool:
    """Whether an "already exists" is one. S3 also answers 409 where another write to the name is under way."""
    return status_of(text) != 409 or code_of(text) in ("BlobAlreadyExists", "FileAlreadyExists")


def may_only_create(text: str) -> bool:
    """Whether Azure may mean a name that is taken: it says so to who may create and not write over what is there."""
    return code_of(text) == "AuthorizationPermissionMismatch"


def status_of(text: str) -> int | None:
    """The HTTP status that an error tells of."""
    found = _STATUS.search(text)
    return int(found[1] or found[2]) if found else None


def code_of(text: str) -> str:
    """The store's own code for what is wrong; empty where there is none, as in the answer to a HEAD."""
    found = _CODE.search(text)
    return (found[1] or found[2]) if found else ""


def reason_of(error: Exception) -> str:
    """One line without queries: they may be signed."""
    text = str(error)
    code, status, kind = code_of(text), status_of(text), _KIND.search(text)
    if code:
        return f"{status} {code}" if status else code
    if kind and kind[1] == "Connect":
        return _not_reached(text)
    if kind:
        return _KINDS[kind[1]]
    if status:
        return f"it answered {status}"
    if _BROKEN.search(text):
        return _BROKEN_SAID
    return _ADDRESS_QUERY.sub("?…", text.strip().split("\n", 1)[0])[:300]


def _not_reached(text: str) -> str:
    """Why no connection came about, and with whom, as far as the client says it."""
    if (found := _NOBODY_THERE.search(text)) is not None:
        return f"{found[2].lower()} at {found[1]}"
    reason = _KINDS["Connect"]
    return f"{reason}: its name leads to no address" if _NO_SUCH_NAME in text else reason


def credentials_advice(url: str) -> str:
    """Where the store at an address takes its credentials from."""
    if access_of(url).has_credentials:
        return "correct the credentials that `store` of the region names in the manifest"
    return {"az": AZURE_ADVICE, "gs": GOOGLE_ADVICE}.get(url.partition("://")[0], CREDENTIALS_ADVICE)


def _lacks_bucket(text: str) -> bool:
    return code_of(text) in _NO_BUCKET or _NO_BUCKET_SAID in text


def _is_full(code: str, status: int | None) -> bool:
    return code in _FULL or status == 507


def _judge(url: str, error: Exception, text: str) -> _Meaning:
    if isinstance(error, DeadlineExceeded):
        return Retry.LATER, _KINDS["Timeout"], "see whether the store can be reached, and try again"
    return (
        _credentials(error, text, credentials_advice(url))
        or _bucket(error, code_of(text), text)
        or _answer(error, code_of(text), status_of(text))
    )


def _credentials(error: Exception, text: str, advice: str) -> _Meaning | None:
    code, status = code_of(text), status_of(text)
    if any(asked in text for asked in _NO_CREDENTIALS):
        return Retry.NEVER, "there are no credentials", advice
    if code in _EXPIRED or any(said in text for said in _EXPIRED_SAID):
        return (
            Retry.NEVER,
            f"the credentials have expired ({reason_of(error)})",
            f"get new ones and {advice}",
        )
    if code in _CLOCK:
        return (
            Retry.NEVER,
            f"this machine's clock is wrong ({reason_of(error)})",
            "set the clock (NTP), and try again",
        )
    if isinstance(error, UnauthenticatedError) or status == 401 or code in _WRONG or _WRONG_SAID in text:
        return Retry.NEVER, f"the credentials are wrong ({reason_of(error)})", advice
    if isinstance(error, PermissionDeniedError) or status == 403 or code == "AccessDenied":
        return Retry.NEVER, "these credentials may not", "allow it in the bucket's policy, or use others"
    return None


def _bucket(error: Exception, code: str, text: str) -> _Meaning | None:
    if isinstance(error, FileNotFoundError) or _lacks_bucket(text):
        return Retry.NEVER, "the bucket does not exist", "make the bucket, or correct its name"
    if code in _ELSEWHERE or _REDIRECTED in text:
        why = f" ({reason_of(error)})" if code else ""
        return (
            Retry.NEVER,
            f"the bucket is in another region{why}",
            "set AWS_REGION, or `region` of `store`, to the region of the bucket",
        )
    if (untrusted := _CERTIFICATE.search(text)) is not None:
        return (
            Retry.NEVER,
            f"its certificate is not trusted ({untrusted[1]})",
            "name the authority that signed it: `ca` of `store` in the manifest, or AWS_CA_BUNDLE",
        )
    if _PLAIN_HTTP in text:
        return (
            Retry.NEVER,
            "its endpoint is plain http, which is for this machine alone",
            "use an https:// endpoint; or, in a network of your own, `allow_http` of `store`, or AWS_ALLOW_HTTP=true",
        )
    return None


def _answer(error: Exception, code: str, status: int | None) -> _Meaning:
    if _is_full(code, status):
        return (
            Retry.LATER,
            f"it is full ({reason_of(error)})",
            "free space there or raise the quota, and try again",
        )
    if status == 501:
        return (
            Retry.NEVER,
            f"it does not know how ({reason_of(error)})",
            "use a store that honours conditional writes (If-None-Match)",
        )
    if status is not None and status < 500 and status not in _TRANSIENT_STATUS:
        return Retry.NEVER, reason_of(error), "check the address, the region and the bucket"
    return Retry.LATER, reason_of(error), "see whether the store can be reached, and try again"
