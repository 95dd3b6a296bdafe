"""The product on one machine: the local cloud, the function app on its host, and a watch on all that comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import TextBase64DecodePolicy

from local.cloud import LocalCloud

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".local-cloud"
QUEUES = ("device-batch-results", "device-batch-outcomes", "manifest-rejections", "operator-alerts")
_READY_SECONDS = 60
_STOP_SECONDS = 15


class StackError(RuntimeError):
    """The stack does not come up, or fell over; the text says where to look."""


class Stack:
    """Everything, started; ended on leaving, whatever happened."""

    def __init__(self, name: str) -> None:
        self.log = STATE / f"{name}.log"
        self._running = ExitStack()

    def __enter__(self) -> Self:
        STATE.mkdir(exist_ok=True)
        with ExitStack() as starting:
            self.cloud = starting.enter_context(LocalCloud())
            log = starting.enter_context(self.log.open("w"))
            self._host = self._start_host(log, starting)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _start_host(self, log: IO[str], stack: ExitStack) -> subprocess.Popen[bytes]:
        ready = STATE / f"ready-{os.getpid()}"
        stack.callback(ready.unlink, missing_ok=True)
        host = subprocess.Popen(
            [sys.executable, "-m", "local.host", "--app", ROOT, "--ready-file", ready, "--with-parent"],
            cwd=ROOT,
            env=os.environ | self.cloud.settings(),
            stdin=subprocess.PIPE,  # never written to: the host ends when it closes, however we end
            stdout=log,
            stderr=log,
            process_group=0,  # a Ctrl-C is ours to pass on, when what runs has been shown
        )
        stack.callback(_end, host)
        end = time.monotonic() + _READY_SECONDS
        while not ready.exists():
            if host.poll() is not None or time.monotonic() > end:
                raise StackError(f"The function app did not start. See {self.log}")
            time.sleep(0.05)
        return host

    def check(self) -> None:
        """Raises StackError where the host has ended by itself."""
        if self._host.poll() is not None:
            raise StackError(f"The function app ended with code {self._host.returncode}. See {self.log}")


def _end(host: subprocess.Popen[bytes]) -> None:
    host.terminate()
    try:
        host.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        host.kill()
        host.wait()
    if host.stdin:
        host.stdin.close()


@dataclass(frozen=True, slots=True)
class Event:
    """What came out: a `report`, a `call` that Partner Center received, or a message (`kind` is its queue)."""

    kind: str
    manifest: str
    data: dict[str, Any]


@dataclass
class Watch:
    """What has come out since the last look. It takes the messages off the queues, as a consumer does."""

    cloud: LocalCloud
    _reports: dict[str, str] = field(default_factory=dict)
    _calls: int = 0

    def look(self) -> Iterator[Event]:
        yield from self._look_at_reports()
        yield from self._look_at_calls()
        for queue in QUEUES:
            yield from self._look_at(queue)

    def _look_at_reports(self) -> Iterator[Event]:
        container = self.cloud.blob_service().get_container_client("manifest-reports")
        try:
            listed = list(container.list_blobs())
        except ResourceNotFoundError:
            return
        for blob in listed:
            if blob.name.endswith(".report.json") and self._reports.get(blob.name) != blob.etag:
                self._reports[blob.name] = blob.etag
                report = json.loads(container.download_blob(blob.name).readall())
                if blob.name != f"{report['manifest']['name']}.report.json":  # that one is the same again
                    yield Event("report", report["manifest"]["name"], report)

    def _look_at_calls(self) -> Iterator[Event]:
        calls = self.cloud.partner_center.requests[self._calls :]
        for call in calls:
            if call.status is None:
                return  # still being answered
            self._calls += 1
            size = len(call.body)
            yield Event("call", "", {"method": call.method, "path": call.path, "status": call.status, "bytes": size})

    def _look_at(self, queue: str) -> Iterator[Event]:
        client = self.cloud.queue_service().get_queue_client(queue, message_decode_policy=TextBase64DecodePolicy())
        try:
            for message in client.receive_messages():
                event = json.loads(message.content)
                client.delete_message(message)
                about = event["data"].get("manifest", {}).get("name", event["subject"])  # an alert is of no manifest
                yield Event(queue, about, event)
        except ResourceNotFoundError:
            return
