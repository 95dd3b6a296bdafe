"""A storage account for each test process, and hosts that end with their test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContainerClient
from azure.storage.queue import QueueClient

from local.cloud import LocalCloud

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"


def eventually[T](look: Callable[[], T], seconds: float = 90) -> T:
    """What `look` sees as soon as it is truthy."""
    end = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < end:
        time.sleep(0.05)
    assert seen, f"not seen within {seconds} s"
    return seen


@dataclass
class Runtime:
    """Starts hosts as processes of their own; names of containers and queues are new for each test."""

    cloud: LocalCloud
    folder: Path
    name: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:12]}")
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def container(self) -> ContainerClient:
        return self.cloud.blob_service().get_container_client(self.name)

    def queue(self, suffix: str = "") -> QueueClient:
        return self.cloud.queue_service().get_queue_client(self.name + suffix)

    @property
    def settings(self) -> dict[str, str]:
        own = {"CONTAINER": self.name, "QUEUE": self.name, "CALLS": str(self.folder / "calls")}
        return {**os.environ, **self.cloud.settings(), **own, "PYTHONPATH": str(ROOT)}

    def start(self, app: str, *options: str, **settings: str) -> subprocess.Popen[str]:
        """A host that listens, or with --once has begun."""
        ready = self.folder / f"ready-{len(self.started)}"
        command = [
            sys.executable,
            "-m",
            "local.host",
            "--app",
            APPS / app,
            "--poll",
            "0.1",
            "--ready-file",
            ready,
        ]
        host = subprocess.Popen(
            [*command, *options],
            env=self.settings | settings,
            stderr=self.log.open("a"),
            text=True,
        )
        self.started.append(host)
        if "--once" not in options:
            eventually(lambda: ready.exists() or host.poll() is not None)
        return host

    def finish(self, *options: str, app: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """A host run to its end."""
        command = [sys.executable, "-m", "local.host", "--app", app, *options]
        env = self.settings | settings
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def calls(self) -> list[dict[str, Any]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        for host in self.started:
            host.send_signal(signal.SIGKILL)
            host.wait()


@pytest.fixture
def runtime(cloud: LocalCloud, tmp_path: Path) -> Iterator[Runtime]:
    with contextlib.closing(Runtime(cloud, tmp_path)) as runtime:
        yield runtime


@pytest.fixture
def lone_runtime(tmp_path: Path) -> Iterator[Runtime]:
    """With a cloud of its own: the app's queues have fixed names, on which other tests may have left work."""
    with LocalCloud() as cloud, contextlib.closing(Runtime(cloud, tmp_path)) as runtime:
        yield runtime
