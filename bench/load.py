"""How long a manifest takes from the trigger's call to its message, and how many go through at once.

Every server answers after 20 ms. Six round trips no honest implementation can avoid: read the blob, write the plan,
list, POST, write the Location, send the message. They are made here by the same clients, one after the other.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from bench.report import Line
from bench.servers import CUSTOMER, Servers, servers
from shared import wiring
from shared.intake import Intake
from shared.messages import Channel, Message

LATENCY = 0.02  # seconds
DEVICES = 100
REPEATS = 21
MANIFESTS = 48


@dataclass(frozen=True)
class TimedQueues:
    """The queues; they note when a message was there."""

    queues: Any
    sent: list[float]

    def send(self, message: Message) -> None:
        self.queues.send(message)
        self.sent.append(time.perf_counter())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queues, name)


class Load:
    """One intake with its token, against servers that answer slowly."""

    def __init__(self, there: Servers) -> None:
        self._there = there
        self._numbers = count()
        intake = wiring.build(os.environ).intake
        self.sent: list[float] = []
        self._intake: Intake = replace(intake, queues=TimedQueues(intake.queues, self.sent))  # type: ignore[arg-type]

    def drop(self) -> str:
        n = next(self._numbers)
        rows = "".join(f"SN-{n}-{i},Contoso Ltd,Slate\n" for i in range(DEVICES))
        header = "Device Serial Number,Manufacturer name,Device model\n"
        return self._there.drop(f"{n}.csv", f"{header}{rows}".encode())

    def receive(self, path: str) -> float:
        """Seconds until its message is on the queue."""
        before = time.perf_counter()
        self._intake.receive(path)
        return self.sent[-1] - before

    def six_round_trips(self, path: str) -> float:
        """Seconds for what cannot be avoided, with a body of the same size."""
        intake, n = self._intake, next(self._numbers)
        ledger = intake.ledger._container
        before = time.perf_counter()
        dropped = intake.manifests.open(path)
        assert dropped
        data = b"".join(dropped.chunks())
        ledger.upload_blob(f"floor/{n}", data)
        intake.partner_center.batches(CUSTOMER)
        batch_id, request_id = f"Floor {n}", f"00000000-0000-0000-0000-{n:012d}"
        accepted = intake.partner_center.create_batch(CUSTOMER, batch_id, _devices(n), request_id)
        ledger.upload_blob(f"floor/{n}/1", str(accepted.location))
        intake.queues.send(Message(Channel.RESULT, str(accepted)))
        return time.perf_counter() - before


def _devices(n: int) -> bytes:
    rest = {"OemManufacturerName": "Contoso Ltd", "ModelName": "Slate"}
    return json.dumps([{"SerialNumber": f"F-{n}-{i}", **rest} for i in range(DEVICES)]).encode()


def run() -> Iterator[Line]:
    logging.disable(logging.WARNING)
    with servers(LATENCY) as there:
        os.environ |= there.environment
        load = Load(there)
        for _ in range(3):  # the token, the connections
            load.receive(load.drop())
            load.six_round_trips(load.drop())
        pairs = [(load.receive(load.drop()), load.six_round_trips(load.drop())) for _ in range(REPEATS)]
        taken, floor = (statistics.median(times) for times in zip(*pairs, strict=True))
        yield Line("load", taken / floor, 1.5)
        yield Line("load-milliseconds", taken * 1000)
        yield from _operations(there, load)
        for at_once in (1, 4, 16):
            yield Line(f"manifests-per-second-at-{at_once}", _throughput(load, at_once))


def _operations(there: Servers, load: Load) -> Iterator[Line]:
    path = load.drop()
    there.calls()
    load.receive(path)
    for server, calls in there.calls().items():
        yield Line(f"calls-of-{server.replace('_', '-')}", calls)


def _throughput(load: Load, at_once: int) -> float:
    paths = [load.drop() for _ in range(MANIFESTS)]
    receive: Callable[[str], float] = load.receive
    before = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(receive, paths))
    return MANIFESTS / (time.perf_counter() - before)
