"""The storage account of every container and queue."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.settings import SettingsError, StorageSettings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.storage.blob import ContainerClient
    from azure.storage.queue import QueueClient

    from shared.messages import Channel

RETRIES_QUEUE = "intake-retries"
# A call that hangs must not eat an invocation: connect and read in seconds, then a few repeats. The storage clients
# have names of their own for it, and would wait 15 seconds before the first repeat.
_OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "read_timeout": 60,
    "retry_total": 4,
    "initial_backoff": 1,
    "increment_base": 2,
    "random_jitter_range": 1,
}
_CHUNK = 4 * 1024 * 1024
_BLOB_OPTIONS: dict[str, Any] = {
    "max_single_get_size": _CHUNK,
    "max_chunk_get_size": _CHUNK,
    "max_single_put_size": 2 * _CHUNK,
    "max_block_size": _CHUNK,
}


class Account:
    """Clients of one account. `creates`: what is missing of ours is made; without, its absence shows when it is used.

    Raises SettingsError where the settings name no account. `identity` is used where they hold no connection string.
    """

    def __init__(self, settings: StorageSettings, identity: TokenCredential, *, creates: bool = True) -> None:
        from azure.storage.blob import BlobServiceClient
        from azure.storage.queue import QueueServiceClient

        self._settings = settings
        self._creates = creates
        options = _OPTIONS
        try:
            if connection := settings.storage_connection:
                self.blobs = BlobServiceClient.from_connection_string(connection, **options, **_BLOB_OPTIONS)
                self._queues = QueueServiceClient.from_connection_string(connection, **options)
            else:
                self.blobs = BlobServiceClient(settings.blob_service_uri, identity, **options, **_BLOB_OPTIONS)
                self._queues = QueueServiceClient(settings.queue_service_uri, identity, **options)
        except ValueError:
            # The client's own words may repeat the connection string.
            raise SettingsError(
                "App settings: ManifestStorage must be a connection string, or ManifestStorage__blobServiceUri and "
                "ManifestStorage__queueServiceUri addresses that begin with https://"
            ) from None

    def container(self, name: str) -> ContainerClient:
        from azure.core.exceptions import ResourceExistsError

        client = self.blobs.get_container_client(name)
        if self._creates:
            with suppress(ResourceExistsError):
                client.create_container()
        return client

    def queue(self, name: str) -> QueueClient:
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.queue import TextBase64EncodePolicy

        # Base64, as Functions itself reads and writes by default.
        client = self._queues.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
        if self._creates:
            with suppress(ResourceExistsError):
                client.create_queue()
        return client

    def retries(self) -> QueueClient:
        """The queue by which parked work comes back."""
        return self.queue(RETRIES_QUEUE)

    def channels(self) -> dict[Channel, QueueClient]:
        """The queues that others read."""
        from shared.messages import Channel

        s = self._settings
        names = {
            Channel.RESULT: s.result_queue,
            Channel.OUTCOME: s.outcome_queue,
            Channel.REJECTION: s.rejection_queue,
            Channel.ALERT: s.alert_queue,
        }
        return {channel: self.queue(name) for channel, name in names.items()}
