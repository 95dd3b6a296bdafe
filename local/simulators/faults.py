"""What may go wrong between a client and a server, to be planned by a test.

    partner_center.faults.add(respond(503, on="POST *"))
    partner_center.faults.add(accept_then_reset(on="POST /v1/customers/*/deviceBatches", times=2))

`on` is a glob over "METHOD /path", without case and without the query. `times=None` is for ever.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, TypedDict, Unpack


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None

    @property
    def phrase(self) -> str:
        return self.reason if self.reason is not None else HTTPStatus(self.status).phrase


def json_reply(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(
        status,
        json.dumps(document).encode(),
        {"Content-Type": "application/json; charset=utf-8", **(headers or {})},
    )


class Reset(Enum):
    """When the connection is closed with RST, as a crash or an impatient gateway does."""

    BEFORE_READING = auto()
    AFTER_READING = auto()
    AFTER_CARRYING_OUT = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    on: str = "*"
    times: int | None = 1
    after: int = 0  # so many matching requests go unharmed first
    fraction: float = 1.0  # of the matching requests
    reply: Reply | None = None  # instead of carrying the request out
    delay: float = 0.0  # seconds, after it was carried out and before anything is answered
    until: threading.Event | None = None  # the same, until this is set
    reset: Reset | None = None
    bytes_per_second: float | None = None  # of the answer, its head included


class Matching(TypedDict, total=False):
    """Which requests a fault strikes: see Fault."""

    on: str
    times: int | None
    after: int
    fraction: float


def respond(
    status: int,
    body: bytes | str | dict[str, Any] = b"",
    headers: Mapping[str, str] | None = None,
    reason: str | None = None,
    **matching: Unpack[Matching],
) -> Fault:
    if isinstance(body, dict):
        headers = {"Content-Type": "application/json", **(headers or {})}
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    return Fault(reply=Reply(status, content, headers or {}, reason), **matching)


def reset_before_reading(**matching: Unpack[Matching]) -> Fault:
    return Fault(reset=Reset.BEFORE_READING, **matching)


def reset_after_reading(**matching: Unpack[Matching]) -> Fault:
    """Read to its end, and not carried out."""
    return Fault(reset=Reset.AFTER_READING, **matching)


def accept_then_reset(**matching: Unpack[Matching]) -> Fault:
    """Carried out; the client never learns it."""
    return Fault(reset=Reset.AFTER_CARRYING_OUT, **matching)


def accept_then_hang(seconds: float, **matching: Unpack[Matching]) -> Fault:
    """Carried out; the connection stays open and silent for so long, and is then cut."""
    return Fault(delay=seconds, reset=Reset.AFTER_CARRYING_OUT, **matching)


def slow(seconds: float, **matching: Unpack[Matching]) -> Fault:
    """Carried out at once, and answered so much later."""
    return Fault(delay=seconds, **matching)


def hold(until: threading.Event, **matching: Unpack[Matching]) -> Fault:
    """Carried out at once, and answered when `until` is set."""
    return Fault(until=until, **matching)


def trickle(bytes_per_second: float, **matching: Unpack[Matching]) -> Fault:
    return Fault(bytes_per_second=bytes_per_second, **matching)


class FaultPlan:
    """The faults still to come. The first that fits a request is taken, and counted down."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []
        self._random = random.Random(seed)  # noqa: S311  (a run must be repeatable)

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._planned += faults

    def clear(self) -> None:
        with self._lock:
            self._planned.clear()

    @property
    def left(self) -> list[Fault]:
        with self._lock:
            return list(self._planned)

    def take(self, method: str, path: str) -> Fault | None:
        call = f"{method} {path}".lower()
        with self._lock:
            for place, fault in enumerate(self._planned):
                if not fnmatchcase(call, fault.on.lower()):
                    continue
                if fault.after:
                    self._planned[place] = replace(fault, after=fault.after - 1)
                elif self._random.random() < fault.fraction:
                    self._count_down(place, fault)
                    return fault
        return None

    def _count_down(self, place: int, fault: Fault) -> None:
        if fault.times == 1:
            del self._planned[place]
        elif fault.times is not None:
            self._planned[place] = replace(fault, times=fault.times - 1)
