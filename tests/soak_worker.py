"""One of the soak's workers."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from azure.storage.queue import QueueClient, QueueServiceClient, TextBase64DecodePolicy, TextBase64EncodePolicy

from shared import wiring

THREADS = 4  # manifests at once, as host.json has it


def work(environment: dict[str, str], start: float, speed: float) -> None:
    """Carry out what is queued, as the host does, and sweep, as its timer does, until killed."""
    os.environ |= environment

    def clock() -> datetime:
        return datetime.fromtimestamp(start, UTC) + timedelta(seconds=(time.time() - start) * speed)

    services = wiring.build(os.environ, clock)
    for _ in range(THREADS):
        threading.Thread(target=_carry_out, args=[services, environment["SOAK_STORAGE"]], daemon=True).start()
    while True:
        period = 600 / speed
        time.sleep(period - time.time() % period)
        _is_well(services.sweep.run)


def _carry_out(services: wiring.Services, connection: str) -> None:
    queue = retries(QueueServiceClient.from_connection_string(connection))
    while True:
        message = queue.receive_message(visibility_timeout=30)
        if message is None:
            time.sleep(0.2)
        elif _is_well(partial(services.intake.resume, message.content)) or (message.dequeue_count or 0) >= 5:
            queue.delete_message(message)


def _is_well(call: Callable[[], object]) -> bool:
    """A failed invocation does not end a worker."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        print(f"invocation.failed {type(error).__name__} {str(error)[:200]!r}", file=sys.stderr)
        return False
    return True


def retries(service: QueueServiceClient) -> QueueClient:
    return service.get_queue_client(
        "intake-retries",
        message_encode_policy=TextBase64EncodePolicy(),
        message_decode_policy=TextBase64DecodePolicy(),
    )
