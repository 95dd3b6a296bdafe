"""The local cloud in a process of its own, so that what it costs is not the intake's."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from local.cloud import LocalCloud
from local.simulators.gateway import Gateway

CUSTOMER = "c7f3c849-129f-4b85-a96d-4f8e88b315a3"


@dataclass(frozen=True, slots=True)
class Servers:
    """`environment`: the app settings that lead to them."""

    environment: dict[str, str]
    _pipe: Connection

    def drop(self, name: str, data: bytes | Callable[[], bytes]) -> str:
        """Drop a manifest as a supplier does, made there if it is a function; returns its path."""
        self._ask("drop", name, data)
        return f"contoso/{name}"

    def calls(self) -> dict[str, int]:
        """How many calls each of them had since this was last asked."""
        calls: dict[str, int] = self._ask("calls")
        return calls

    def _ask(self, *order: Any) -> Any:
        self._pipe.send(order)
        return self._pipe.recv()


@contextmanager
def servers(latency: float) -> Iterator[Servers]:
    """All of them, each of whose answers takes so many seconds."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, latency), daemon=True)
    process.start()
    try:
        yield Servers(ours.recv(), ours)
        ours.send(("stop",))
    finally:
        process.join(10)
        process.kill()


def _serve(pipe: Connection, latency: float) -> None:
    with LocalCloud() as cloud, ExitStack() as stack:
        blobs = stack.enter_context(Gateway(cloud.certificates, cloud.azurite.blob_url))
        queues = stack.enter_context(Gateway(cloud.certificates, cloud.azurite.queue_url))
        named = {"blobs": blobs, "queues": queues, "partner_center": cloud.partner_center}
        for server in named.values():
            server.latency = latency
        pipe.send(
            cloud.settings()
            | {
                "ManifestStorage__blobServiceUri": blobs.url,
                "ManifestStorage__queueServiceUri": queues.url,
                "CUSTOMERS": json.dumps({"contoso": {"customerId": CUSTOMER, "batchId": "Standard"}}),
            }
        )
        while True:
            match pipe.recv():
                case ("drop", name, data):
                    cloud.drop(f"contoso/{name}", data() if callable(data) else data)
                    pipe.send(None)
                case ("calls",):
                    counts = {name: len(server.requests) for name, server in named.items()}
                    for server in named.values():
                        server.requests.clear()
                    pipe.send(counts)
                case _:
                    return
