"""An Azure Functions host for one machine: `python -m local.host [--app DIR]`.

It runs the app on Microsoft's own worker library, takes its settings from the environment, and does what the
real host does between a storage account and a function, refusals included: what passes here passes on Azure.

    index    the worker imports the app, `triggers` judges it   wrong ──► "No job functions found.", exit 1
    listen   blobs: an unseen (name, ETag) in the listing is one event, for there is no Event Grid here
             queues: receive, and keep the message hidden while the function runs
             timers: NCRONTAB in UTC
    invoke   in the worker's thread pool; outputs are written after success only
    fail     blobs: again at once, then `webjobs-blobtrigger-poison`
             queues: visible again, then `{queue}-poison`

What was seen is remembered in memory alone: a restart delivers every blob again, as Azure may at any time.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from azure.core.exceptions import AzureError

from local.listeners import Delivery, Listener, TimerListener, listener_for, say, set_within, write_output
from local.triggers import AppError, Function, HostSettings, describe
from local.worker_protocol import TypedData, Worker, WorkerError

GRACE = 5.0
"""Seconds that running invocations are given to end after SIGTERM."""
TIMED_OUT = 3
"""Exit code after `functionTimeout`."""


class Host:
    """One app, its functions, and everything they listen to."""

    def __init__(self, app: Path, poll: float = 0.25) -> None:
        self.app = app
        self.poll_interval = poll
        self.worker = Worker()
        self.stopping = asyncio.Event()
        self.running: set[asyncio.Task[None]] = set()

    async def start(self) -> list[Function]:
        """Index the app; AppError where Azure would find no functions in it."""
        self.settings = HostSettings.read(self.app / "host.json")
        self.poll_interval = min(self.poll_interval, self.settings.longest_poll.total_seconds())
        self.blob_slots = asyncio.Semaphore(self.settings.blob_degree)
        try:
            indexed = await self.worker.index(self.app)
        except WorkerError as error:
            raise AppError(f"{error}\n{error.stack_trace}") from error
        if not indexed:
            raise AppError(f"no functions in {self.app / 'function_app.py'}")
        self.functions = [describe(metadata, os.environ) for metadata in indexed]
        self.listeners = [listener_for(self, function) for function in self.functions]
        return self.functions

    async def run(self, ready: Path | None = None) -> None:
        """Listen until `stopping` is set; running invocations are then given a few seconds."""
        for listener in self.listeners:
            await self._poll(listener)
        say(f"listening to {len(self.listeners)} functions")
        if ready:
            _write_atomically(ready, str(os.getpid()))
        await asyncio.gather(*(self._listen(listener) for listener in self.listeners))
        await self._end()

    async def run_once(self) -> None:
        """Deliver what is there now and all that follows from it; timers only if they run on startup."""
        listeners = self.listeners
        while not self.stopping.is_set():
            deliveries = [delivery for listener in listeners for delivery in await listener.poll()]
            if not deliveries:
                return
            self._begin(deliveries)
            while self.running and not self.stopping.is_set():
                await asyncio.wait(self.running, timeout=0.2)
            listeners = [listener for listener in self.listeners if not isinstance(listener, TimerListener)]
        await self._end()

    async def invoke(self, function: Function, value: TypedData, metadata: dict[str, TypedData]) -> bool:
        """Run a function once and write its outputs; False if either failed."""
        say(f"Executing '{function.title}'")
        started = time.monotonic()
        try:
            failure = await asyncio.wait_for(self._attempt(function, value, metadata), self._timeout)
        except TimeoutError:
            _die_of_timeout(function, self.settings.function_timeout)
        took = f"Duration={(time.monotonic() - started) * 1000:.0f}ms"
        say(f"Executed '{function.title}' ({'Failed' if failure else 'Succeeded'}, {took})")
        if failure:
            say(failure)
        return failure is None

    async def _attempt(self, function: Function, value: TypedData, metadata: dict[str, TypedData]) -> str | None:
        try:
            outputs = await self.worker.invoke(function.id, function.parameter, value, metadata)
            for name, data in outputs.items():
                await asyncio.to_thread(write_output, function.outputs[name], data, self.settings.base64)
        except WorkerError as error:
            return f"{error}\n{error.stack_trace}"
        except AzureError as error:
            return f"the outputs could not be written: {error}"
        return None

    @property
    def _timeout(self) -> float | None:
        limit = self.settings.function_timeout
        return limit.total_seconds() if limit else None

    async def _listen(self, listener: Listener) -> None:
        while not await set_within(self.stopping, self.poll_interval):
            await self._poll(listener)

    async def _poll(self, listener: Listener) -> None:
        try:
            deliveries = await listener.poll()
        except AzureError as error:
            say(f"cannot poll: {error}")
            await set_within(self.stopping, 2)
            return
        self._begin(deliveries)

    def _begin(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            task = asyncio.create_task(self._carry_out(delivery))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def _end(self) -> None:
        if self.running:
            await asyncio.wait(self.running, timeout=GRACE)
        if self.running:
            say(f"{len(self.running)} invocations did not end within {GRACE:.0f} s and are abandoned")
            _exit_now(0)

    async def _carry_out(self, delivery: Delivery) -> None:
        try:
            await delivery()
        except AzureError as error:
            say(f"a delivery could not be settled: {error}")


def _write_atomically(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _die_of_timeout(function: Function, limit: timedelta | None) -> NoReturn:
    """A thread cannot be stopped, so the process is, with every other invocation in it, as on Azure."""
    say(f"functionTimeout of {limit} exceeded by '{function.title}': the worker process ends")
    _exit_now(TIMED_OUT)


def _exit_now(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set_up_logs() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    quiet = ("azure.core.pipeline.policies.http_logging_policy", "azure.functions", "azure.identity")
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def _enter(app: Path) -> None:
    """As on Azure: the app's folder is the working directory, and imports come from there, not from here."""
    started = {"", str(Path.cwd())}
    sys.path[:] = [str(app), *(path for path in sys.path if path not in started)]
    os.chdir(app)


def _print_functions(functions: list[Function]) -> None:
    for function in functions:
        fields = {"name": function.name, "trigger": function.trigger_type, "bindings": function.bindings}
        print(json.dumps(fields))


async def _main(options: argparse.Namespace) -> int:
    host = Host(options.app, options.poll)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the app prints is no part of the list
            functions = await host.start()
    except AppError as error:
        say(f"No job functions found.\n{error}")
        return 1
    if options.list:
        _print_functions(functions)
        return 0
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, host.stopping.set)
    if options.with_parent:
        asyncio.get_running_loop().add_reader(sys.stdin, host.stopping.set)
    try:
        await (host.run_once() if options.once else host.run(options.ready_file))
    except AzureError as error:
        say(f"cannot poll: {error}")
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.host", description="Run a function app on this machine.")
    parser.add_argument("--app", type=Path, default=Path(), help="the folder of function_app.py and host.json")
    parser.add_argument("--poll", type=float, default=0.25, metavar="SECONDS", help="pause between two looks")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="written once everything is listened to")
    parser.add_argument("--once", action="store_true", help="deliver what is there now, then exit")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input closes")
    parser.add_argument("--list", action="store_true", help="print the functions as JSON lines, then exit")
    options = parser.parse_args(arguments)
    options.app = options.app.resolve()
    if options.ready_file:
        options.ready_file = options.ready_file.resolve()
    _set_up_logs()
    _enter(options.app)
    return asyncio.run(_main(options))


if __name__ == "__main__":
    sys.exit(main())
