"""Runs a use case in processes that die (SIGKILL) at a given step: one line of JSON in, one number out, for each.

A step is the moment after an answer came, from whichever server: to die there is to die anywhere before the next
request leaves. In: `step` (0 is never), `call` (as `intake.receive`), its `arguments`, how many seconds later (`after`)
it is to take place, and the `environment`. Out: how many steps there were, or minus the signal. Each is a fork of this
process, in which everything is imported already and no thread has been started.
"""

import importlib
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import httpcore
import urllib3

from shared import wiring

# What the composition root imports when it is first asked.
for module in ("azure.keyvault.secrets", "shared.account", "shared.identity", "shared.sweep", "shared.token_life"):
    importlib.import_module(module)

steps = 0
last = 0


def step() -> None:
    global steps
    steps += 1
    if steps == last:
        os.kill(os.getpid(), signal.SIGKILL)


def count(kind: Any, method: str) -> None:
    """Have every call of a client library's own `method` be a step."""
    call = getattr(kind, method)

    def counted(*args: Any, **kwargs: Any) -> Any:
        answer = call(*args, **kwargs)
        step()
        return answer

    setattr(kind, method, counted)


def carry_out(order: dict[str, Any]) -> None:
    global last
    os.environ.update(order["environment"])
    after = timedelta(seconds=order["after"])
    services = wiring.build(os.environ, lambda: datetime.now(UTC) + after)
    last = order["step"]
    count(urllib3.connectionpool.HTTPConnectionPool, "urlopen")
    count(httpcore.ConnectionPool, "handle_request")
    attrgetter(order["call"])(services)(*order["arguments"])


def fork(order: dict[str, Any]) -> int:
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            carry_out(order)
            os.write(writing, str(steps).encode())
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else int(said.read() or 0)


if __name__ == "__main__":
    for line in sys.stdin:
        print(fork(json.loads(line)), flush=True)
