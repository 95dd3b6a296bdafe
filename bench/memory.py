"""How much more memory an intake takes for 100,000 devices with hashes than for 1,000, from blob to posted requests."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from bench.report import Line
from bench.servers import servers
from local.examples import hardware_hash

FEW, MANY = 1_000, 100_000
_HEADER = "Device Serial Number,Windows Product ID,Hardware Hash"


def run() -> Iterator[Line]:
    with servers(0) as there:
        paths = [there.drop(f"{n}.csv", partial(_manifest, n)) for n in (FEW, MANY)]
        few, many = (_peak(there.environment, path) for path in paths)
    yield Line("memory-few", few, unit=" MB")
    yield Line("memory-growth", many - few, 32, " MB")


def _manifest(count: int) -> bytes:
    rows = (f"S-{n:08d},,{hardware_hash(f'S-{n:08d}', 'Contoso', 'Slate')}" for n in range(count))
    return "\r\n".join([_HEADER, *rows, ""]).encode("utf-8")


def _peak(environment: dict[str, str], path: str) -> float:
    """Megabytes that a process of its own needed at the most."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_intake, args=(environment, path, theirs))
    process.start()
    theirs.close()
    peak: float = ours.recv()
    process.join()
    return peak


def _intake(environment: dict[str, str], path: str, pipe: Connection) -> None:
    from shared import wiring

    os.environ |= environment
    intake = wiring.services().intake
    intake.receive(path)
    (state,) = (e.state for e in intake.ledger.entries() if intake.ledger.plan(e.key).upload.name == path)
    assert state.done
    pipe.send(_high_water_mark())


def _high_water_mark() -> float:
    """Megabytes, as Linux tells them. What getrusage tells would count what the parent held."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024
