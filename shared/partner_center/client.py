"""The calls of Partner Center's device batches, one method a call. Each succeeds, or raises whose fault it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import ValidationError

from shared.faults import NobodysFault
from shared.partner_center.errors import harmless, raise_for_refusal
from shared.partner_center.wire import BatchList, render_creation, tracking_uri

logger = logging.getLogger(__name__)

APPLICATION = "Autopilot Drop"
LONGEST_LOCATION = 2_048
_PIECE = 64 * 1024
# The archived SDK waits three minutes for an answer; a batch of 500 hashes is 2 MB to send.
TIMEOUT = httpx.Timeout(180.0, connect=10.0, write=60.0, pool=10.0)
LARGEST_ANSWER, LONGEST_ANSWER = 16 * 1024 * 1024, 60.0  # bytes, and seconds from its head to its end
LIMITS = httpx.Limits(max_connections=16, max_keepalive_connections=16)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that Partner Center took. `location` is the header, verbatim, or None where none came."""

    location: str | None
    tracking_uri: str | None
    request_id: str
    correlation_id: str


class PartnerCenter:
    """A client for one partner. `auth` puts the bearer token on each request."""

    def __init__(self, base_url: str, auth: httpx.Auth, *, http: httpx.Client | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        # Redirects are not followed: the token is for this host alone.
        hooks = {"response": [_as_it_comes]}
        self._http = http or httpx.Client(timeout=TIMEOUT, limits=LIMITS, follow_redirects=False, event_hooks=hooks)
        self._auth = auth

    def batches(self, customer_id: str) -> dict[str, str]:
        """The customer's batch ids as Partner Center spells them, by their case-folded form."""
        response, _ = self._call("GET", f"customers/{customer_id}/deviceBatches", str(uuid4()))
        try:
            listed = BatchList.model_validate_json(response.content)
        except ValidationError as error:
            raise NobodysFault("Partner Center's list of batches could not be read") from error
        return {batch.id.casefold(): batch.id for batch in listed.items}

    def create_batch(self, customer_id: str, batch_id: str, devices: bytes, request_id: str) -> Accepted:
        """Create `batch_id` with `devices`, a rendered JSON array. Raises BatchExists where there is one."""
        path = f"customers/{customer_id}/deviceBatches"
        return self._post(path, render_creation(batch_id, devices), request_id)

    def add_devices(self, customer_id: str, batch_id: str, devices: bytes, request_id: str) -> Accepted:
        """Append `devices` to a batch. Raises BatchNotFound where there is none (yet)."""
        path = f"customers/{customer_id}/deviceBatches/{quote(batch_id, safe='')}/devices"
        return self._post(path, devices, request_id, appending=True)

    def _post(self, path: str, body: bytes, request_id: str, *, appending: bool = False) -> Accepted:
        response, correlation_id = self._call("POST", path, request_id, body, appending=appending)
        location = response.headers.get("Location") or None
        if location and len(location) > LONGEST_LOCATION:
            logger.warning("batch.location_too_long request_id=%s length=%d", request_id, len(location))
            location = None
        return Accepted(location, tracking_uri(self._base_url, location), request_id, correlation_id)

    def _call(
        self, method: str, path: str, request_id: str, body: bytes | None = None, *, appending: bool = False
    ) -> tuple[httpx.Response, str]:
        correlation_id = str(uuid4())
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "MS-RequestId": request_id,
            "MS-CorrelationId": correlation_id,
            "X-Locale": "en-US",
            "MS-PartnerCenter-Application": APPLICATION,
        }
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        url = f"{self._base_url}/v1/{path}"
        try:
            with closing(_InPieces(body or b"")) as pieces:
                content = None if body is None else pieces
                response = self._http.request(method, url, content=content, headers=headers, auth=self._auth)
        except httpx.RequestError as error:
            words = harmless(str(error))  # they may quote what was sent, or what came
            raise NobodysFault(f"No answer from Partner Center: {type(error).__name__} {words}") from error
        logger.info(
            "partner_center.answered method=%s status=%d request_id=%s correlation_id=%s their_request_id=%s "
            "their_correlation_id=%s cv=%s server=%s",
            method,
            response.status_code,
            request_id,
            correlation_id,
            *(response.headers.get(h, "-") for h in ("MS-RequestId", "MS-CorrelationId", "MS-CV", "MS-ServerId")),
        )
        raise_for_refusal(response, appending=appending, request_id=request_id, correlation_id=correlation_id)
        return response, correlation_id


def _as_it_comes(response: httpx.Response) -> None:
    """Never unpacked: what cannot be would lose its Location, and what can may be of any size."""
    response.headers.pop("Content-Encoding", None)
    is_in_its_head = response.is_success and response.request.method == "POST"
    response.stream = _Body(cast(httpx.SyncByteStream, response.stream), may_break_off=is_in_its_head)


class _Body(httpx.SyncByteStream):
    """An answer's body, of which each piece may come in time and the whole not."""

    def __init__(self, pieces: httpx.SyncByteStream, *, may_break_off: bool, longest: float = LONGEST_ANSWER) -> None:
        self._pieces = pieces
        self._may_break_off = may_break_off
        self._longest = longest

    def __iter__(self) -> Iterator[bytes]:
        size, started = 0, time.monotonic()
        try:
            for piece in self._pieces:
                size += len(piece)
                if size > LARGEST_ANSWER or time.monotonic() - started > self._longest:
                    raise httpx.ReadError("the answer has no end")
                yield piece
        except httpx.TransportError:
            if not self._may_break_off:
                raise

    def close(self) -> None:
        self._pieces.close()


class _InPieces:
    """A body, sent piece by piece: the transport copies what is left of a piece for each TLS record that it fills.

    Closed, it lets go of the body: a response and its stream hold each other, and so the request, for a long time.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return (self._body[at : at + _PIECE] for at in range(0, len(self._body), _PIECE))

    def close(self) -> None:
        self._body = b""
