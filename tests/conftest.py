"""What all tests share: where the reference samples lie, and one local cloud for each test process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.cloud import LocalCloud

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def samples() -> Path:
    folder = SHARED / "samples"
    if not folder.is_dir():
        pytest.skip(f"the reference samples are not at {folder}")
    return folder


@contextmanager
def new_cloud() -> Iterator[LocalCloud]:
    """A local cloud. The real clients find its certificate authority and its identity in the environment alone."""
    with LocalCloud() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.settings().items():
            patch.setenv(name, value)
        yield cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """The whole local cloud. Tests keep out of each other's way by using customers and queues of their own."""
    with new_cloud() as cloud:
        yield cloud
