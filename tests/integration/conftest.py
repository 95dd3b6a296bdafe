"""One test's own corner of the local cloud: a customer, a folder, queues, and an intake on the real clients."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol
from uuid import uuid4

import pytest
from azure.storage.queue import TextBase64DecodePolicy

from local.cloud import LocalCloud
from local.simulators.gateway import Gateway
from local.simulators.server import ReceivedRequest
from shared import wiring
from shared.intake import Intake, Patience
from shared.wiring import Services
from tests.schemas import checked

IMPATIENT = Patience(attempts=3, timeout=10, wait_initial=0.01, wait_max=0.02, wait_jitter=0.01)


@dataclass
class Corner:
    cloud: LocalCloud
    customer: str = field(default_factory=lambda: str(uuid4()))
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queues = {
            name: f"{name.split('_')[0].lower()}-{self.customer}"
            for name in ("RESULT_QUEUE", "OUTCOME_QUEUE", "REJECTION_QUEUE", "ALERT_QUEUE")
        }
        self.folder = self.customer
        self._intake: Intake | None = None
        self._services: Services | None = None
        self._after = timedelta(0)

    @property
    def environment(self) -> dict[str, str]:
        """The app settings."""
        customers = {"CUSTOMERS": json.dumps({self.folder: {"customerId": self.customer, "batchId": "Standard"}})}
        return self.cloud.settings() | self.queues | customers | self.settings

    @property
    def intake(self) -> Intake:
        if self._intake is None:
            self._intake = self.at(timedelta(0))
        return self._intake

    def drop(self, name: str, data: bytes, metadata: dict[str, str] | None = None) -> str:
        """Upload as a supplier does; returns the blob's name."""
        self.cloud.drop(path := f"{self.folder}/{name}", data, metadata)
        return path

    def deliver(self, name: str, data: bytes, metadata: dict[str, str] | None = None) -> str:
        """Upload, and let the intake hear of it."""
        path = self.drop(name, data, metadata)
        self.intake.receive(path)
        return path

    def key(self, path: str) -> str:
        """The key of a dropped manifest's record."""
        blob = self.cloud.blob_service().get_blob_client("manifests", path)
        etag = blob.get_blob_properties().etag.strip('"')
        return sha256(f"manifests/{path}\n{etag}".encode()).hexdigest()

    def wake(self) -> int:
        """Let parked manifests' time come; returns how many were woken."""
        messages = self.wake_ups()
        for message in messages:
            key = json.loads(message)["key"]
            blob = self.cloud.blob_service().get_blob_client("intake-ledger", f"uploads/{key}")
            metadata = blob.get_blob_properties().metadata
            blob.set_blob_metadata(metadata | {"due": "2020-01-01T00:00:00+00:00"})
            self.intake.resume(message)
        return len(messages)

    def at(self, after: timedelta) -> Intake:
        """The intake as if so much later."""
        return replace(self.services(after).intake, patience=IMPATIENT)

    def services(self, after: timedelta = timedelta(0)) -> Services:
        return wiring.build(self.environment, lambda: datetime.now(UTC) + after)

    def same_services(self, after: timedelta) -> Services:
        """One worker's, the same each time, for whom so much time has passed by now."""
        self._after = after
        if self._services is None:
            self._services = wiring.build(self.environment, lambda: datetime.now(UTC) + self._after)
            tokens = self._services.token_life.tokens
            tokens._monotonic = lambda: time.monotonic() + self._after.total_seconds()
        return self._services

    def carry_out(self, intake: Intake) -> list[str]:
        """What `resume_manifest` would be called with now, carried out."""
        queue = self.cloud.queue_service().get_queue_client(
            "intake-retries", message_decode_policy=TextBase64DecodePolicy()
        )
        messages = list(queue.receive_messages(visibility_timeout=600))
        for message in messages:
            intake.resume(message.content)
            queue.delete_message(message)
        return [m.content for m in messages]

    def queued(self) -> list[str]:
        """What `resume_manifest` would be called with now; it stays there."""
        queue = self.cloud.queue_service().get_queue_client(
            "intake-retries", message_decode_policy=TextBase64DecodePolicy()
        )
        return [m.content for m in queue.peek_messages(max_messages=32)]

    def forget_problem(self, code: str) -> None:
        """Tests share the ledger: another may have told the operators of this problem already."""
        blob = self.cloud.blob_service().get_blob_client("intake-ledger", f"problems/{code}")
        if blob.exists():
            blob.delete_blob()

    def wake_ups(self) -> list[str]:
        """The wake-ups of this corner's manifests, also those that are still delayed."""
        mine = []
        for blob in (
            self.cloud.blob_service()
            .get_container_client("intake-ledger")
            .list_blobs(name_starts_with="uploads/", include=["metadata"])
        ):
            nonce = (blob.metadata or {}).get("nonce")
            if nonce and self.customer in self.ledger_text(blob.name):
                mine.append(json.dumps({"key": blob.name.removeprefix("uploads/"), "nonce": nonce}))
        return mine

    def ledger_text(self, name: str) -> str:
        return self.cloud.blob_service().get_blob_client("intake-ledger", name).download_blob().readall().decode()

    def texts(self, queue: str) -> list[str]:
        """Every message on a queue, in order of arrival; they stay there."""
        client = self.cloud.queue_service().get_queue_client(
            self.queues[queue], message_decode_policy=TextBase64DecodePolicy()
        )
        return [m.content for m in client.peek_messages(max_messages=32)]

    @property
    def results(self) -> list[dict[str, Any]]:
        return [checked(t) for t in self.texts("RESULT_QUEUE")]

    @property
    def rejections(self) -> list[dict[str, Any]]:
        return [checked(t) for t in self.texts("REJECTION_QUEUE")]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [checked(t) for t in self.texts("ALERT_QUEUE")]

    def report(self, path: str) -> dict[str, Any]:
        """The latest report of a manifest, as its supplier finds it beside it."""
        report: dict[str, Any] = json.loads(self.report_file(f"{path}.report.json"))
        return report

    def report_file(self, name: str) -> bytes:
        return self.cloud.blob_service().get_blob_client("manifest-reports", name).download_blob().readall()

    def report_files(self, path: str) -> list[str]:
        container = self.cloud.blob_service().get_container_client("manifest-reports")
        return sorted(b.name for b in container.list_blobs(name_starts_with=path))

    @property
    def calls(self) -> list[ReceivedRequest]:
        """What Partner Center received for this customer, lists included."""
        return [r for r in self.cloud.partner_center.requests if self.customer in r.path]

    @property
    def posts(self) -> list[ReceivedRequest]:
        return [r for r in self.calls if r.method == "POST"]

    @property
    def batches(self) -> dict[str, list[dict[str, Any]]]:
        """Device batches as Partner Center has them now."""
        return self.cloud.partner_center.batches(self.customer)


def sweep(corner: Corner, after: timedelta, services: Services | None = None) -> list[str]:
    """Sweep as if so much later, and carry out what was queued then and by that; returns what the sweep queued."""
    services = services or corner.services(after)
    services.sweep.run()
    intake = replace(services.intake, patience=IMPATIENT)
    queued = corner.carry_out(intake)
    while corner.carry_out(intake):
        pass
    return queued


@dataclass
class Gated:
    """A corner whose storage lies behind gateways."""

    corner: Corner
    blobs: Gateway
    queues: Gateway


@contextmanager
def gated(cloud: LocalCloud) -> Iterator[Gated]:
    with ExitStack() as stack:
        blobs = stack.enter_context(Gateway(cloud.certificates, cloud.azurite.blob_url))
        queues = stack.enter_context(Gateway(cloud.certificates, cloud.azurite.queue_url))
        uris = {"ManifestStorage__blobServiceUri": blobs.url, "ManifestStorage__queueServiceUri": queues.url}
        corner = Corner(cloud, settings=uris)
        assert corner.intake  # which creates what is missing
        blobs.requests.clear()
        queues.requests.clear()
        yield Gated(corner, blobs, queues)


class Die(Protocol):
    """Runs a use case in a process of its own that dies at a step; returns minus the signal, or the number of steps.

    `argument` is that of the call, if it has one; `after`: as if it were so much later.
    """

    def __call__(
        self,
        corner: Corner,
        argument: str,
        step: int,
        call: str = "intake.receive",
        after: timedelta = timedelta(0),
    ) -> int: ...


@pytest.fixture(scope="module")
def die(cloud: LocalCloud) -> Iterator[Die]:
    command = [sys.executable, "-m", "tests.integration.die_at"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as deaths:
        stdin, stdout = deaths.stdin, deaths.stdout
        assert stdin is not None
        assert stdout is not None

        def die(
            corner: Corner,
            argument: str,
            step: int,
            call: str = "intake.receive",
            after: timedelta = timedelta(0),
        ) -> int:
            order = {
                "step": step,
                "call": call,
                "arguments": [argument] if argument else [],
                "after": after.total_seconds(),
                "environment": corner.environment,
            }
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            return int(stdout.readline())

        yield die


@pytest.fixture
def corner(cloud: LocalCloud) -> Corner:
    return Corner(cloud)


@pytest.fixture(scope="session")
def lone_cloud() -> Iterator[LocalCloud]:
    """For one test after the other: each finds it as new."""
    with LocalCloud() as cloud:
        yield cloud


@pytest.fixture
def lone(lone_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Corner:
    """A corner with a cloud of its own: a sweep sees all that lies in it."""
    as_new(lone_cloud)
    for name, value in lone_cloud.settings().items():
        monkeypatch.setenv(name, value)
    return Corner(lone_cloud)


def as_new(cloud: LocalCloud) -> None:
    """Storage is empty, the vault holds what it did at first, and nothing is refused."""
    blobs, queues = cloud.blob_service(), cloud.queue_service()
    for container in blobs.list_containers():
        blobs.delete_container(container)
    for queue in queues.list_queues():
        queues.delete_queue(queue)
    for simulator in (cloud.partner_center, cloud.entra, cloud.key_vault, cloud.managed_identity):
        simulator.faults.clear()
        simulator.requests.clear()
    cloud.entra.refuse(None)
    cloud.entra.before_answering = lambda: None
    cloud.key_vault.denied.clear()
    cloud.seed()


@pytest.fixture
def new_corner(cloud: LocalCloud) -> Callable[..., Corner]:
    """A corner with settings of its own."""
    return lambda **settings: Corner(cloud, settings=settings)


@pytest.fixture(autouse=True)
def no_faults_left(request: pytest.FixtureRequest) -> Any:
    """A fault that one test planned must not meet the next."""
    yield
    if "cloud" in request.fixturenames:
        cloud = request.getfixturevalue("cloud")
        for simulator in (cloud.partner_center, cloud.entra, cloud.key_vault, cloud.managed_identity):
            simulator.faults.clear()
        cloud.entra.refuse(None)
