"""`make run`: the stack stays up, and what is put into `drop/{customer}/` is uploaded as a supplier would upload it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from rich.console import Console

from local.cloud import CUSTOMERS
from local.screen import Lines, print_message, print_report
from local.stack import ROOT, Stack, Watch

DROP = ROOT / "drop"


class DropFolder:
    """The files below a folder that are new or changed, each once it has stopped growing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[int, int]] = {}
        self._uploaded: dict[Path, tuple[int, int]] = {}

    def ready(self) -> list[Path]:
        """Files that are as they were at the last look, and not uploaded as they are."""
        now = {path: _version(path) for path in self._folder.rglob("*") if path.is_file()}
        steady = [p for p, version in now.items() if self._seen.get(p) == version != self._uploaded.get(p)]
        self._seen = now
        self._uploaded |= {path: now[path] for path in steady}
        return sorted(steady)

    def name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def run(console: Console, folder: Path = DROP) -> int:
    """Until Ctrl-C; returns the exit code."""
    for customer in CUSTOMERS:
        (folder / customer).mkdir(parents=True, exist_ok=True)
    drop = DropFolder(folder)
    console.print("Starting the local cloud …")
    try:
        with Stack("run") as stack, Lines(console) as view:
            watch = Watch(stack.cloud)
            folders = ", ".join(f"{folder.name}/{customer}/" for customer in CUSTOMERS)
            console.print(f"Put manifests into {folders} (log: {stack.log}). Ctrl-C ends everything.")
            # KeyboardInterrupt is lost where it strikes while Python finalizes an object.
            ended = threading.Event()
            signal.signal(signal.SIGINT, lambda *_: ended.set())
            while not ended.wait(0.3):
                stack.check()
                for path in drop.ready():
                    data = path.read_bytes()
                    stack.cloud.drop(drop.name(path), data)
                    view.dropped(drop.name(path), len(data))
                for event in watch.look():
                    view.show(event)
                    if event.kind not in ("report", "call"):
                        print_message(console, event)
                    elif event.kind == "report" and event.data["findings"]:
                        print_report(console, event.data)
    except KeyboardInterrupt:  # while it starts
        pass
    console.print("Ended.")
    return 0


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
