"""What the host listens to: blobs, queues and timers, and what becomes of an invocation that fails."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobClient, BlobProperties, BlobServiceClient
from azure.storage.queue import QueueClient, QueueMessage, QueueServiceClient

from local.triggers import BlobTrigger, Function, QueueTrigger, TimerTrigger
from local.worker_protocol import ModelBindingData, TypedData

if TYPE_CHECKING:
    from local.host import Host

HOLD = 12
"""Seconds a received message stays hidden unless renewed. The real host takes 600; nobody here waits so long
for the message of a host that was killed."""
_RETRIES = {"retry_total": 2, "initial_backoff": 1, "increment_base": 1}
"""Storage's own default waits 15 seconds; here every look is repeated anyway."""

Delivery = Callable[[], Coroutine[Any, Any, None]]


class Listener(Protocol):
    async def poll(self) -> list[Delivery]:
        """What has come since the last time, each ready to be carried out."""


@dataclass
class BlobListener:
    host: Host
    function: Function
    trigger: BlobTrigger
    seen: set[tuple[str, str]] = field(default_factory=set)

    async def poll(self) -> list[Delivery]:
        there = await asyncio.to_thread(self._list)
        fresh = [version for version in there if version not in self.seen]
        self.seen = set(there)
        return [partial(self._deliver, *v) for v in fresh if self.trigger.captures(v[0]) is not None]

    def _list(self) -> list[tuple[str, str]]:
        container = blob_service(self.trigger.connection).get_container_client(self.trigger.container)
        try:
            return [(str(blob.name), str(blob.etag)) for blob in container.list_blobs()]
        except ResourceNotFoundError:
            return []

    async def _deliver(self, name: str, etag: str) -> None:
        try:
            async with self.host.blob_slots:
                for _ in range(self.host.settings.blob_attempts):
                    if self.host.stopping.is_set() or await self._attempt(name):
                        return
                await asyncio.to_thread(self._poison, name, etag)
        except AzureError:
            self.seen.discard((name, etag))  # the storage failed, not the function: the event is still due
            raise

    async def _attempt(self, name: str) -> bool:
        blob = self._client(name)
        try:
            properties = await asyncio.to_thread(blob.get_blob_properties)
            value = self._reference(name) if self.trigger.by_reference else await asyncio.to_thread(_bytes, blob)
        except ResourceNotFoundError:
            say(f"blob '{self.trigger.container}/{name}' is gone; '{self.function.title}' is not run")
            return True
        return await self.host.invoke(self.function, value, self._metadata(blob, properties))

    def _client(self, name: str) -> BlobClient:
        return blob_service(self.trigger.connection).get_blob_client(self.trigger.container, name)

    def _reference(self, name: str) -> TypedData:
        address = {
            "Connection": self.trigger.connection,
            "ContainerName": self.trigger.container,
            "BlobName": name,
        }
        return TypedData(
            model_binding_data=ModelBindingData(
                version="1.0",
                source="AzureStorageBlobs",
                content_type="application/json",
                content=json.dumps(address).encode(),
            )
        )

    def _metadata(self, blob: BlobClient, properties: BlobProperties) -> dict[str, TypedData]:
        name = str(blob.blob_name)
        known = {
            "ContentLength": properties.size,
            "ContentType": properties.content_settings.content_type,
            "ETag": properties.etag,
            "LastModified": properties.last_modified.isoformat(),
        }
        captured = {key: TypedData(string=value) for key, value in (self.trigger.captures(name) or {}).items()}
        return captured | {
            "BlobTrigger": TypedData(string=f"{self.trigger.container}/{name}"),
            "Uri": TypedData(json=json.dumps(blob.url)),
            "Properties": TypedData(json=json.dumps(known)),
            "Metadata": TypedData(json=json.dumps(properties.metadata or {})),
        }

    def _poison(self, name: str, etag: str) -> None:
        message = {
            "Type": "BlobTrigger",
            "FunctionId": f"Host.{self.function.title}",
            "BlobType": "BlockBlob",
            "ContainerName": self.trigger.container,
            "BlobName": name,
            "ETag": etag,
        }
        week = int(timedelta(days=7).total_seconds())
        text = _to_base64(json.dumps(message).encode())
        _send(self.trigger.connection, "webjobs-blobtrigger-poison", text, time_to_live=week)
        say(f"blob '{self.trigger.container}/{name}' went to 'webjobs-blobtrigger-poison'")


@dataclass
class QueueListener:
    host: Host
    function: Function
    trigger: QueueTrigger
    running: int = 0

    async def poll(self) -> list[Delivery]:
        if self.running > self.host.settings.new_batch_threshold:
            return []
        messages = await asyncio.to_thread(self._receive)
        self.running += len(messages)
        return [partial(self._deliver, message) for message in messages]

    @property
    def _queue(self) -> QueueClient:
        return queue_service(self.trigger.connection).get_queue_client(self.trigger.queue)

    @property
    def _poison_queue(self) -> str | None:
        """A poison queue has none of its own."""
        return None if self.trigger.queue.endswith("-poison") else f"{self.trigger.queue}-poison"

    def _receive(self) -> list[QueueMessage]:
        try:
            size = self.host.settings.batch_size
            return list(self._queue.receive_messages(max_messages=size, visibility_timeout=HOLD))
        except ResourceNotFoundError:
            return []

    async def _deliver(self, message: QueueMessage) -> None:
        try:
            await self._process(message)
        finally:
            self.running -= 1

    async def _process(self, message: QueueMessage) -> None:
        body = self._decode(message)
        if body is None or (message.dequeue_count or 0) > self.host.settings.dequeue_limit:
            await asyncio.to_thread(self._poison, message)
        elif await self._invoke_held(message, body):
            await asyncio.to_thread(self._queue.delete_message, message)
        else:
            await asyncio.to_thread(self._failed, message)

    def _decode(self, message: QueueMessage) -> str | None:
        if not self.host.settings.base64:
            return str(message.content)
        try:
            return base64.b64decode(message.content, validate=True).decode(errors="replace")
        except (binascii.Error, ValueError):
            say(f"a message of '{self.trigger.queue}' is not Base64")
            return None

    async def _invoke_held(self, message: QueueMessage, body: str) -> bool:
        done = asyncio.Event()
        renewal = asyncio.create_task(self._hold(message, done))
        try:
            return await self.host.invoke(self.function, TypedData(string=body), _message_metadata(message, body))
        finally:
            done.set()
            await renewal  # not cancelled: the pop receipt of a renewal under way is needed to settle the message

    async def _hold(self, message: QueueMessage, done: asyncio.Event) -> None:
        while not await set_within(done, HOLD / 3):
            try:
                await asyncio.to_thread(self._hide, message, HOLD)
            except AzureError as error:
                say(f"a message of '{self.trigger.queue}' could not be renewed: {error}")

    def _hide(self, message: QueueMessage, seconds: int) -> None:
        updated = self._queue.update_message(message, content=message.content, visibility_timeout=seconds)
        message.pop_receipt = updated.pop_receipt

    def _failed(self, message: QueueMessage) -> None:
        if self._poison_queue is None:
            return  # stays hidden, and comes back when the time is over
        if (message.dequeue_count or 0) >= self.host.settings.dequeue_limit:
            self._poison(message)
        else:
            self._hide(message, int(self.host.settings.retry_after.total_seconds()))

    def _poison(self, message: QueueMessage) -> None:
        if self._poison_queue is None:
            return
        _send(self.trigger.connection, self._poison_queue, message.content, time_to_live=-1)
        self._queue.delete_message(message)
        say(f"message {message.id} of '{self.trigger.queue}' went to '{self._poison_queue}'")


@dataclass
class TimerListener:
    host: Host
    function: Function
    trigger: TimerTrigger
    checked: datetime | None = None
    running: bool = False

    async def poll(self) -> list[Delivery]:
        first, due = self.checked is None, self._due()
        if self.running or not (due or (first and self.trigger.run_on_startup)):
            return []
        self.running = True
        return [self._deliver]

    def _due(self) -> bool:
        now = datetime.now(UTC).replace(microsecond=0)
        since, self.checked = self.checked or now, now
        seconds = int((now - since).total_seconds())
        return any(since + timedelta(seconds=n) in self.trigger.schedule for n in range(1, seconds + 1))

    async def _deliver(self) -> None:
        info = {"IsPastDue": False, "ScheduleStatus": {}, "Schedule": {"AdjustForDST": True}}
        try:
            await self.host.invoke(self.function, TypedData(json=json.dumps(info)), {})
        finally:
            self.running = False


def listener_for(host: Host, function: Function) -> Listener:
    match function.trigger:
        case BlobTrigger() as blob:
            return BlobListener(host, function, blob)
        case QueueTrigger() as queue:
            return QueueListener(host, function, queue)
        case TimerTrigger() as timer:
            return TimerListener(host, function, timer)


def _bytes(blob: BlobClient) -> TypedData:
    return TypedData(bytes=blob.download_blob().readall())


def _message_metadata(message: QueueMessage, body: str) -> dict[str, TypedData]:
    """Numbers and dates as JSON: the worker decodes no other kind."""
    dates = {
        "ExpirationTime": message.expires_on,
        "InsertionTime": message.inserted_on,
        "NextVisibleTime": message.next_visible_on,
    }
    texts = {"QueueTrigger": body, "Id": message.id, "PopReceipt": message.pop_receipt}
    return (
        {name: TypedData(string=text) for name, text in texts.items()}
        | {name: TypedData(json=json.dumps(date.isoformat())) for name, date in dates.items() if date}
        | {"DequeueCount": TypedData(json=json.dumps(message.dequeue_count))}
    )


def write_output(output: Any, data: TypedData, encode: bool) -> None:
    for body in _bodies(data):
        text = _to_base64(body) if encode else body.decode()
        _send(output.connection, output.queue, text)


def _bodies(data: TypedData) -> list[bytes]:
    kind = data.WhichOneof("data")
    if kind != "json":
        value = getattr(data, str(kind))
        return [value if isinstance(value, bytes) else str(value).encode()]
    value = json.loads(data.json)
    return [_body(item) for item in (value if isinstance(value, list) else [value])]


def _body(item: Any) -> bytes:
    if isinstance(item, dict) and item.keys() == {"id", "body"}:  # how the worker writes a func.QueueMessage
        item = item["body"]
    return (item if isinstance(item, str) else json.dumps(item)).encode()


def _send(connection: str, name: str, text: str, time_to_live: int | None = None) -> None:
    queue = queue_service(connection).get_queue_client(name)
    with contextlib.suppress(ResourceExistsError):
        queue.create_queue()
    queue.send_message(text, time_to_live=time_to_live)


def _to_base64(body: bytes) -> str:
    return base64.b64encode(body).decode()


@cache
def blob_service(connection: str) -> BlobServiceClient:
    client: BlobServiceClient = _connect(BlobServiceClient, connection, f"{connection}__blobServiceUri")
    return client


@cache
def queue_service(connection: str) -> QueueServiceClient:
    client: QueueServiceClient = _connect(QueueServiceClient, connection, f"{connection}__queueServiceUri")
    return client


def _connect(kind: Any, connection: str, uri: str) -> Any:
    """A client of the host's own: by connection string, or by service URI and managed identity."""
    if text := os.environ.get(connection):
        return kind.from_connection_string(text, **_RETRIES)
    identity = ManagedIdentityCredential(client_id=os.environ.get(f"{connection}__clientId"))
    return kind(os.environ[uri], credential=identity, **_RETRIES)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def say(line: str) -> None:
    sys.stderr.write(f"host: {line.rstrip()}\n")
    sys.stderr.flush()
