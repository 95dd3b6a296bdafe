"""A server in front of a real one: it passes everything on, and misbehaves as planned.

Azurite does what storage does, but not what a network does: answers that are lost, delays, connections that break.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import httpx

from local.certificates import Certificates
from local.simulators.faults import Reply, json_reply
from local.simulators.server import ReceivedRequest, Simulator

_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "host", "date"}


class Gateway(Simulator):
    """Stands in for the server at `target`; paths stay as they are."""

    def __init__(self, certificates: Certificates, target: str) -> None:
        super().__init__(certificates)
        self._target = httpx.URL(target)
        context = ssl.create_default_context(cafile=str(certificates.ca))
        self._client = httpx.Client(verify=context, timeout=60, limits=httpx.Limits(max_connections=None))

    @property
    def url(self) -> str:
        return f"{super().url}{self._target.path}"

    def stop(self) -> None:
        super().stop()
        self._client.close()

    def carry_out(self, request: ReceivedRequest) -> Reply:
        url = self._target.copy_with(raw_path=request.target.encode("ascii"))
        headers = _to_pass_on(request.headers.items())
        try:
            with self._client.stream(request.method, url, headers=headers, content=request.body) as answer:
                body = b"".join(answer.iter_raw())
        except httpx.TransportError as error:
            return json_reply(502, {"message": f"{type(error).__name__} behind the gateway"})
        return Reply(answer.status_code, body, _to_pass_on(_as_sent(answer)), answer.reason_phrase)


def _as_sent(answer: httpx.Response) -> Iterable[tuple[str, str]]:
    """Headers in their own case, which metadata's names keep."""
    return ((name.decode("ascii"), value.decode("latin-1")) for name, value in answer.headers.raw)


def _to_pass_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _OF_THE_CONNECTION}
