"""Probe `http`: asks an endpoint with JSON over HTTP and follows the answer into the prediction log."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from refloat.contracts import PROBE_ID_START, Answer, Question
from refloat.digest import Json, canonical_json
from refloat.errors import ManifestError
from refloat.manifest.document import nearest
from refloat.manifest.parse import dotted
from refloat.reach import place_of, port_of, trusted, why_silent

TIMEOUT_S = 10.0  # of one question, from the first byte sent to the last one received
CONNECT_S_MAX = 2.0  # to see whether anybody listens
PORT_MAX = 65_535
RESPONSE_BYTES_MAX = 4 * 1024 * 1024  # an answer that is larger is not one
LOG_POLL_S = 0.001  # finer than any figure that is reported
MARK = {"X-Refloat-Probe": "1"}
"""Tells the endpoint that no user asked, so that a log can keep the two apart."""
BAGGAGE, MEMBER = "baggage", "refloat.probe=1"
"""The same where the endpoint asks others: who follows W3C Baggage hands it on (https://www.w3.org/TR/baggage/)."""


def _address(url: str) -> str:
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.host or (parts.port or 0) > PORT_MAX:
        raise ValueError("is no address of HTTP")
    return url


class HttpSettings(BaseModel):
    """Settings of the probe; an address alone is the ``url``.

    ``log`` is the prediction log, JSON Lines on this machine, into which an answer must find its way;
    ``id_field`` is the field, of the request and of the log's records, that holds the question's own id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_address)]
    method: Literal["POST", "PUT"] = "POST"
    log: str = ""
    id_field: str = Field(default="id", min_length=1)
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)


class HttpProbe:
    """One client with connections of its own, for one thread."""

    def __init__(self, settings: Mapping[str, Json] | str, timeout_s: float = TIMEOUT_S) -> None:
        """Raises ``ManifestError`` for settings that are wrong; nothing is asked yet."""
        self._settings = _parse(settings)
        self._timeout_s = timeout_s
        # proxies and redirects would measure something else than this endpoint
        self._client = httpx.Client(
            timeout=timeout_s, follow_redirects=False, trust_env=False, verify=trusted()
        )

    def ask(self, question: Question) -> Answer:
        """Ask once; ``seconds`` runs from the first byte sent to the last one received."""
        return self._ask(question, _new_id())

    def trace(self, question: Question) -> Answer:
        """Ask once and wait until the answer stands in the log; without a log the response is the end."""
        name = _new_id()
        log = _Tail(Path(self._settings.log), self._settings.id_field) if self._settings.log else None
        began = time.perf_counter()
        answer = self._ask(question, name)
        if answer.error or log is None:
            return _through(answer, answer.seconds)
        if not log.shows(name, until=began + self._timeout_s):
            return _failed(question, f"answered, but not in the log within {self._timeout_s:g} s", answer)
        return _through(answer, time.perf_counter() - began)

    def unreachable(self) -> str:
        """Why nobody listens at the address; empty where somebody does. Nothing is asked."""
        url = self._settings.url
        try:
            socket.create_connection((httpx.URL(url).host, port_of(url)), CONNECT_S_MAX).close()
        except OSError as error:
            return why_silent(error, url)
        return ""

    def close(self) -> None:
        """Give back connections."""
        self._client.close()

    def _ask(self, question: Question, name: str) -> Answer:
        body = canonical_json({**question.request, self._settings.id_field: name})
        began = time.perf_counter()
        try:
            content = self._send(body, until=began + self._timeout_s)
            response = _document(content)
        except httpx.TimeoutException:
            return _failed(
                question, f"no answer within {self._timeout_s:g} s from {place_of(self._settings.url)}"
            )
        except httpx.HTTPError as error:
            return _failed(question, why_silent(error, self._settings.url))
        except _Unanswered as error:
            return _failed(question, str(error))
        return Answer(question, time.perf_counter() - began, response)

    def _send(self, body: bytes, *, until: float) -> bytes:
        headers = httpx.Headers({"Content-Type": "application/json"})
        headers.update(self._settings.headers)
        headers.update({**MARK, BAGGAGE: ",".join(filter(None, (headers.get(BAGGAGE), MEMBER)))})
        content = bytearray()
        with self._client.stream(
            self._settings.method, self._settings.url, content=body, headers=headers
        ) as reply:
            if not reply.is_success:
                raise _Unanswered(f"status {reply.status_code}")
            for piece in reply.iter_bytes():
                content += piece
                if len(content) > RESPONSE_BYTES_MAX:
                    raise _Unanswered(f"the response is larger than {RESPONSE_BYTES_MAX} bytes")
                if time.perf_counter() > until:
                    raise _Unanswered(f"not complete within {self._timeout_s:g} s")
        return bytes(content)


class _Unanswered(Exception):
    """What came back is no answer."""


class _Tail:
    """What is appended to a log from now on."""

    def __init__(self, path: Path, id_field: str) -> None:
        self._path = path
        self._id_field = id_field
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def shows(self, name: str, *, until: float) -> bool:
        """Whether a record with this id is appended before ``until``, on the performance counter."""
        while not self._appended(name):
            if time.perf_counter() > until:
                return False
            time.sleep(LOG_POLL_S)
        return True

    def _appended(self, name: str) -> bool:
        *lines, self._rest = (self._rest + self._read()).split(b"\n")
        return any(self._is(line, name) for line in lines)

    def _read(self) -> bytes:
        if not self._path.exists():
            return b""
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # a new log was begun
                self._offset, self._rest = 0, b""
            file.seek(self._offset)
            content = file.read()
        self._offset += len(content)
        return content

    def _is(self, line: bytes, name: str) -> bool:
        if name.encode() not in line:  # cheap: most records are other clients'
            return False
        try:
            record = json.loads(line)
        except ValueError:
            return False
        return isinstance(record, dict) and record.get(self._id_field) == name


def _new_id() -> str:
    return str(uuid.UUID(PROBE_ID_START + uuid.uuid4().hex[len(PROBE_ID_START) :]))


def _parse(settings: Mapping[str, Json] | str) -> HttpSettings:
    given = {"url": settings} if isinstance(settings, str) else settings
    try:
        return HttpSettings.model_validate(given)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0]) from None


def _refusal(detail: ErrorDetails) -> ManifestError:
    """What is wrong with one setting; what was written there stays out, since it may have come from a secret."""
    path = ("probe", "http", *detail["loc"])
    words, hint = str(detail.get("ctx", {}).get("error", detail["msg"])), None
    if detail["type"] == "missing":
        words = "is missing"
    elif detail["type"] == "extra_forbidden":
        words, hint = "is not known", nearest(str(detail["loc"][-1]), HttpSettings.model_fields)
    return ManifestError(
        f"{dotted(path)}: {words}", path=path, next=hint or 'write {http: "http://HOST:PORT/PATH"}'
    )


def _document(content: bytes) -> Mapping[str, Json]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Unanswered(f"the response is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _Unanswered("the response is not a JSON object")
    return document


def _through(answer: Answer, end_to_end_s: float | None) -> Answer:
    return Answer(answer.question, answer.seconds, answer.response, end_to_end_s, answer.error)


def _failed(question: Question, why: str, answered: Answer | None = None) -> Answer:
    seconds, response = (answered.seconds, answered.response) if answered else (None, {})
    return Answer(question, seconds, response, error=why)
