"""A soak: many manifests, every server failing at random, two workers of which one is killed every few seconds.

    python -m tests.soak --manifests 2000

At the end every manifest must be accounted for, and no request posted again whose answer had been recorded. For the
workers time runs faster, so that parking and lost claims, which last minutes, are over in seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.process import BaseProcess
from typing import Any, Self
from uuid import uuid4

import pytest
from azure.storage.queue import TextBase64DecodePolicy

from local.cloud import LocalCloud
from local.simulators.faults import Fault, accept_then_reset, reset_after_reading, reset_before_reading, respond
from local.simulators.gateway import Gateway
from local.simulators.server import Simulator
from shared.ledger import State
from tests.soak_worker import retries, work
from tools.intake.__main__ import main as tools_intake

WORKERS = 2
KILLED_EVERY = 4.0  # seconds
AHEAD = 60  # manifests dropped and not done
FAILING = 0.05
FAULTS = (
    *(respond(status) for status in (500, 503)),
    reset_before_reading(),
    reset_after_reading(),
    accept_then_reset(),
)

# A worker is a fork of a process that has imported all of this, so that a killed one is soon replaced.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.soak_worker", "azure.identity", "azure.keyvault.secrets", "shared.token_life"])


# What is dropped


@dataclass(frozen=True, slots=True)
class Dropped:
    """One manifest, and what must become of it."""

    name: str
    verdict: str
    serials: tuple[str, ...]
    content: bytes

    @classmethod
    def number(cls, n: int, folder: str) -> Self:
        """Most are good, with one part or two; each tenth is bad, and each tenth holds what the one before it held."""
        kind = {3: "rejected", 7: "duplicate"}.get(n % 10, "accepted")
        of = n - 1 if kind == "duplicate" else n
        serials = tuple(f"SN-{of}-{i}" for i in range(of % 5 + 2))
        rows = "".join(f"{s},Contoso Ltd,Slate,Tag{of % 4}\n" for s in serials)
        header = "Colour" if kind == "rejected" else "Device Serial Number,Manufacturer name,Device model,Group Tag"
        return cls(f"{folder}/{n:05d}.csv", kind, serials, f"{header}\n{rows}".encode())


# The run


@dataclass
class Soak:
    """The cloud, failing; the workers, dying; and what came of it."""

    manifests: int
    speed: float = 30  # of the workers' time
    folder: str = field(default_factory=lambda: str(uuid4()))
    kills: int = 0
    resumed: int = 0
    start: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.dropped = [Dropped.number(n, self.folder) for n in range(self.manifests)]
        self.random = random.Random(self.manifests)  # noqa: S311

    def run(self, seconds: float) -> list[str]:
        """Run until all is done; returns what went wrong, in words."""
        with LocalCloud() as self.cloud, ExitStack() as stack:
            certificates, azurite = self.cloud.certificates, self.cloud.azurite
            self.blobs = stack.enter_context(Gateway(certificates, azurite.blob_url))
            self.queues = stack.enter_context(Gateway(certificates, azurite.queue_url))
            environment = stack.enter_context(pytest.MonkeyPatch.context())
            for name, value in certificates.environment().items():
                environment.setenv(name, value)  # the tools' clients look nowhere else
            self.retries = retries(self.cloud.queue_service())
            self.retries.create_queue()
            for server in self.servers:
                server.faults.add(*(_at_random(f) for f in FAULTS))
            workers = [self._start() for _ in range(WORKERS)]
            try:
                self._run_down(workers, seconds)
            finally:
                for worker in workers:
                    worker.kill()
                    worker.join()
            return list(self._wrongs())

    @property
    def servers(self) -> list[Simulator]:
        cloud = self.cloud
        named = [cloud.partner_center, cloud.entra, cloud.key_vault, cloud.managed_identity]
        return [*named, self.blobs, self.queues]

    @property
    def environment(self) -> dict[str, str]:
        customers = {self.folder: {"customerId": self.folder}}
        return {
            **self.cloud.settings(),
            "ManifestStorage__blobServiceUri": self.blobs.url,
            "ManifestStorage__queueServiceUri": self.queues.url,
            "CUSTOMERS": json.dumps(customers),
            "DEVICES_PER_REQUEST": "3",
            "SOAK_STORAGE": self.cloud.azurite.connection_string,
        }

    def _start(self) -> BaseProcess:
        worker = _FORKS.Process(target=work, args=(self.environment, self.start, self.speed), daemon=True)
        worker.start()
        return worker

    def _run_down(self, workers: list[BaseProcess], seconds: float) -> None:
        """Drop, a few ahead of the workers, and kill one of them now and then, until all is done."""
        end = time.monotonic() + seconds
        waiting = iter(self.dropped)
        dropped = 0
        while (left := self._left()) and time.monotonic() < end:
            print(f"{time.time() - self.start:.0f} s: {left} left", file=sys.stderr)
            ahead = dropped - (self.manifests - left)
            dropped += sum(1 for manifest in islice(waiting, max(AHEAD - ahead, 0)) if self._drop(manifest))
            time.sleep(KILLED_EVERY)
            self._resume_stalled()
            victim = self.kills % WORKERS
            workers[victim].kill()
            workers[victim].join()
            workers[victim] = self._start()
            self.kills += 1

    def _resume_stalled(self) -> None:
        """As an operator does who was told: some manifest was under way, or read, in five workers that were killed."""
        if any(self._list("intake-ledger", "problems/manifest-")):
            with redirect_stdout(sys.stderr):
                key = {"ManifestStorage": self.cloud.azurite.connection_string}  # he has no managed identity
                done = tools_intake(["resume", "--all-stalled"], os.environ | self.cloud.settings() | key) == 0
            self.resumed += done

    def _drop(self, manifest: Dropped) -> bool:
        """Most have an event, some have two, some have none."""
        self.cloud.drop(manifest.name, manifest.content)
        for _ in range(self.random.choice((0, 1, 1, 1, 1, 1, 1, 1, 2))):
            self.retries.send_message(json.dumps({"name": manifest.name}))
        return True

    def _left(self) -> int:
        """How many manifests are not done, and how many problems not over."""
        states = [State.of(b.metadata or {}) for b in self._list("intake-ledger", "uploads/")]
        return self.manifests - sum(s.done for s in states) + len(list(self._list("intake-ledger", "problems/")))

    def _list(self, container: str, prefix: str) -> Iterator[Any]:
        client = self.cloud.blob_service().get_container_client(container)
        return iter(client.list_blobs(name_starts_with=prefix, include=["metadata"])) if client.exists() else iter(())

    # What came of it

    def _wrongs(self) -> Iterator[str]:
        """Every promise that was broken."""
        if left := self._left():
            yield f"{left} are left, of manifests and problems"
            return
        batches = self.cloud.partner_center.batches(self.folder)
        registered = Counter(device["SerialNumber"] for devices in batches.values() for device in devices)
        sent = {serial for m in self.dropped if m.verdict != "rejected" for serial in m.serials}
        yield from (f"{serial} was sent {times} times" for serial, times in registered.items() if times > 1)
        yield from (f"{serial} was never sent" for serial in sent - registered.keys())
        yield from (f"{serial} was sent and should not have been" for serial in registered.keys() - sent)
        yield from self._wrong_messages()
        yield from self._posted_again()
        yield from self._wrong_reports()

    def _wrong_messages(self) -> Iterator[str]:
        texts: dict[str, str] = {}
        told = Counter[tuple[str, str]]()
        for queue in ("device-batch-results", "manifest-rejections", "operator-alerts"):
            for text in self._read(queue):
                event = json.loads(text)
                if texts.setdefault(event["id"], text) != text:
                    yield f"{event['id']} was said in two ways"
                elif "manifest" in event["data"]:
                    told[event["data"]["manifest"]["name"], event["type"].rpartition("drop.")[2]] += 1
        texts.clear()
        kinds = {"accepted": "upload.submitted", "rejected": "manifest.rejected", "duplicate": "manifest.duplicate"}
        said = {name for name, _ in told}
        for manifest in self.dropped:
            if manifest.name not in said:
                yield f"nobody was told of {manifest.name}"
        # Which of two with the same content came first is not ours to say.
        for name, kind in told:
            manifest = self.dropped[int(name[-9:-4])]
            same = manifest.verdict == "duplicate" or manifest.name[-5] == "6"
            if kind != kinds[manifest.verdict] and not same:
                yield f"{name} was {manifest.verdict} and told as {kind}"

    def _read(self, queue: str) -> Iterator[str]:
        client = self.cloud.queue_service().get_queue_client(queue, message_decode_policy=TextBase64DecodePolicy())
        return (m.content for m in client.receive_messages(visibility_timeout=3600))

    def _posted_again(self) -> Iterator[str]:
        """A request that left after the record of its answer was written."""
        recorded: dict[str, float] = {}
        for request in self.blobs.requests:
            if request.method == "PUT" and "/sends/" in request.path and request.carried_out:
                text = json.loads(request.body).get("text", "{}")
                if request_id := json.loads(text)["data"].get("requestId"):
                    recorded.setdefault(request_id, request.when)
        for post in self.cloud.partner_center.posts():
            written = recorded.get(post.headers["MS-RequestId"])
            # The record was under way from `written` on; a second is more than it needs.
            if written and post.when > written + 1:
                yield f"{post.headers['MS-RequestId']} was posted {post.when - written:.1f} s after its record"

    def _wrong_reports(self) -> Iterator[str]:
        container = self.cloud.blob_service().get_container_client("manifest-reports")
        for manifest in self.dropped:
            report = json.loads(container.download_blob(f"{manifest.name}.report.json").readall())
            if report["state"] not in ("submitted", "finished"):
                yield f"{manifest.name} is {report['state']} in its report"

    def figures(self) -> str:
        """What it was, in one line."""
        requests = [r for server in self.servers for r in server.requests]
        posts = self.cloud.partner_center.posts()
        answered = Counter(p.headers["MS-RequestId"] for p in posts if p.status == 202)
        return (
            f"{self.manifests} manifests in {time.time() - self.start:.0f} s: {len(requests)} calls, "
            f"{sum(1 for r in requests if r.status is None or r.status >= 429)} failed, {self.kills} workers killed, "
            f"{self.resumed} times an operator resumed what had stalled, "
            f"{len(answered)} requests accepted, {sum(answered.values()) - len(answered)} of them repeated unheard"
        )


def _at_random(fault: Fault) -> Fault:
    return Fault(reply=fault.reply, reset=fault.reset, times=None, fraction=FAILING / len(FAULTS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=int, default=2000)
    parser.add_argument("--speed", type=float, default=30, help="of the workers' time")
    parser.add_argument("--seconds", type=float, default=3600, help="until it is given up")
    options = parser.parse_args()
    soak = Soak(options.manifests, options.speed)
    wrongs = soak.run(options.seconds)
    print(soak.figures())
    for wrong in wrongs[:50]:
        print(wrong, file=sys.stderr)
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
