"""How long the app takes to be imported in a new process, against what no app of its kind can do without."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.report import Line

REPEATS = 11
FLOOR = "import azure.functions, azurefunctions.extensions.bindings.blob, httpx, pydantic, msal"


def run() -> Iterator[Line]:
    for code in (FLOOR, "import function_app"):
        _seconds(code)  # the byte code, the page cache
    ratios = [_seconds("import function_app") / _seconds(FLOOR) for _ in range(REPEATS)]
    yield Line("cold-start", statistics.median(ratios), 1.0)


def _seconds(code: str) -> float:
    before = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - before
