"""The storage account: manifests in, reports out, messages onto the queues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import ContentSettings

from shared.faults import Fault, NobodysFault, OperatorsFault
from shared.manifest import is_addressable
from shared.messages import Channel, Message
from shared.plan import Upload

if TYPE_CHECKING:
    from azure.storage.blob import BlobProperties, ContainerClient, StorageStreamDownloader
    from azure.storage.queue import QueueClient

FOR_EVER = -1
LONGEST_DELAY = timedelta(days=7)
_CONTENT_TYPES = {"json": "application/json; charset=utf-8", "csv": "text/csv; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Dropped:
    """One version of a blob, opened. Its chunks are all of that version; ResourceModifiedError if it was replaced."""

    upload: Upload
    metadata: Mapping[str, str]
    _stream: StorageStreamDownloader[bytes] | None

    def chunks(self) -> Iterator[bytes]:
        return self._stream.chunks() if self._stream else iter(())


class Manifests:
    """The container that suppliers drop into. Nothing there is ever moved, changed or deleted."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    def open(self, name: str) -> Dropped | None:
        """The blob as it is now, or None if it is gone. One call for a blob of up to one chunk."""
        if not is_addressable(name):
            # The client would read another blob. It is refused by its name alone, and never opened.
            upload = Upload(
                container_url=address_of(self._container),
                container=self._container.container_name,
                name=name,
                etag="",
                received=datetime.now(UTC),
                size=1,
            )
            return Dropped(upload, {}, None)
        try:
            stream = self._container.download_blob(name, decompress=False)  # Content-Encoding is as the sender wrote it
        except ResourceNotFoundError:
            return None
        if _is_folder(stream.properties):
            return None
        metadata = {k.casefold(): v for k, v in stream.properties.metadata.items()}
        return Dropped(self._upload(name, stream.properties, metadata), metadata, stream)

    def list(self) -> Iterator[Upload]:
        """Every blob as it is now; whether it is a resubmission is not known from a listing."""
        for blob in self._container.list_blobs(include=["metadata"]):
            if not _is_folder(blob):
                yield self._upload(blob.name, blob, {})

    def _upload(self, name: str, properties: BlobProperties, metadata: Mapping[str, str]) -> Upload:
        return Upload(
            container_url=address_of(self._container),
            container=self._container.container_name,
            name=name,
            # A download's has quotes, a listing's has none; what cannot be opened has none either way.
            etag=properties.etag.strip('"') if is_addressable(name) else "",
            received=properties.last_modified,
            size=properties.size,
            resubmit=metadata.get("resubmit", "").casefold() == "true",
        )


class Reports:
    """The container that suppliers read."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    def write(self, name: str, data: bytes | IO[bytes], length: int | None = None) -> None:
        """`length`: of a stream, which is then never held whole."""
        self._container.upload_blob(name, data, length=length, overwrite=True, content_settings=_content(name))

    def write_latest(self, name: str, data: bytes, upload: Upload) -> None:
        """Write a report that several uploads share; that of a later upload is left as it is.

        The first of a name, as most are, takes one call.
        """
        blob = self._container.get_blob_client(name)
        received = upload.received.isoformat()
        metadata, content = {"received": received}, _content(name)
        etag = None
        for _ in range(5):
            with suppress(ResourceModifiedError, ResourceExistsError):
                blob.upload_blob(data, metadata=metadata, content_settings=content, **only_over(etag))
                return
            etag = None
            with suppress(ResourceNotFoundError):
                found = blob.get_blob_properties()
                if found.metadata.get("received", "") > received:
                    return
                etag = found.etag


class Queues:
    """The queues that others read, and the one by which parked work comes back. Messages live until they are read."""

    def __init__(self, channels: Mapping[Channel, QueueClient], retries: QueueClient) -> None:
        self._channels = channels
        self._retries = retries

    def send(self, message: Message) -> None:
        self._channels[message.channel].send_message(message.text, time_to_live=FOR_EVER)

    def wake(self, key: str, nonce: str, after: timedelta = timedelta(0)) -> None:
        """Have `resume_manifest` called with this upload, not before `after`."""
        self._queue({"key": key, "nonce": nonce}, after)

    def announce(self, name: str, key: str) -> None:
        """Have `resume_manifest` called with a blob that no event told us of."""
        self._queue({"name": name, "key": key}, timedelta(0))

    def _queue(self, wake_up: dict[str, str], after: timedelta) -> None:
        delay = int(min(after, LONGEST_DELAY).total_seconds())
        send = partial(self._retries.send_message, json.dumps(wake_up), time_to_live=FOR_EVER, visibility_timeout=delay)
        try:
            send()
        except ResourceNotFoundError:  # deleted while we run: no sweep could wake, remind or tell of it
            self._retries.create_queue()
            send()


def is_outage(error: AzureError) -> bool:
    """Whether storage did not answer, or as it does when it has too much to do. An answer that cannot be read is none:
    it may be the same for ever.
    """
    if not isinstance(error, HttpResponseError):
        return True
    status = error.status_code or 0
    return status >= 500 or status in (408, 429)


def fault_of(error: AzureError) -> Fault:
    """Whose fault it is that storage did not do as it was told: what a repeat cannot mend is the operator's."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if is_outage(error) or status in (None, 409, 412):
        return NobodysFault(f"No help from storage: {type(error).__name__} {status or ''}".strip())
    code = getattr(error, "error_code", None) or type(error).__name__
    return OperatorsFault(
        "storage-refused",
        f"The storage account refused with HTTP {status} {code}. Check the roles of the app's identity, the account's "
        "firewall, and that its containers and queues are still there.",
    )


def address_of(container: ContainerClient) -> str:
    """Its address, without the shared access signature that the client's own ends in where it was given one."""
    return str(container.url).partition("?")[0]


def _is_folder(blob: BlobProperties) -> bool:
    """Whether it is a folder of an account with a hierarchical namespace, as SFTP needs: those are listed as blobs."""
    return blob.size == 0 and "hdi_isfolder" in (blob.metadata or {})


def only_over(etag: str | None) -> dict[str, Any]:
    """Arguments for writing a blob over this version of it alone, or, without one, only where there is none."""
    if etag is None:
        return {"overwrite": False}
    return {"overwrite": True, "etag": etag, "match_condition": MatchConditions.IfNotModified}


def _content(name: str) -> ContentSettings:
    return ContentSettings(content_type=_CONTENT_TYPES[name.rsplit(".", 1)[1]])
