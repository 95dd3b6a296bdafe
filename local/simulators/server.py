"""The base of every simulator: an HTTP/1.1 server that records what it gets and misbehaves as planned."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

from local.certificates import Certificates
from local.simulators.faults import Fault, FaultPlan, Reply, Reset, json_reply

_log = logging.getLogger(__name__)
_HANDSHAKE_SECONDS = 10
_LONGEST_HOLD = 60.0  # seconds


class ConnectionCutError(Exception):
    """The fault plan ended the connection, or the client did."""


@dataclass(slots=True)
class ReceivedRequest:
    method: str
    target: str  # as it was sent, still encoded: path and query
    path: str  # the same, without the query
    query: dict[str, str]
    headers: HTTPMessage  # looked up without case; its keys are spelled as they were sent
    connection: int  # which of the server's connections, counted from 1
    when: float  # time.monotonic()
    body: bytes = b""
    carried_out: bool = False  # reached the service itself, which may have refused it
    status: int | None = None  # None: nothing was answered
    location: str | None = None  # the answer's header, even if the answer was lost

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def bearer(self) -> str:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else ""


type Handler = Callable[..., Reply]
type Route = tuple[str, re.Pattern[str], Handler]


def route(method: str, path: str, handler: Handler) -> Route:
    """`{name}` in the path is one segment, decoded and passed to the handler. Paths match without case."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
    return method, re.compile(f"{pattern}/?", re.IGNORECASE), handler


class Simulator:
    """A server on a free port of 127.0.0.1, over TLS with certificates. Started again, it keeps its port."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        self.faults = FaultPlan()
        self.latency = 0.0  # seconds before every answer
        self.requests: list[ReceivedRequest] = []
        self.stopping = threading.Event()
        self.lock = threading.RLock()
        self.routes: list[Route] = []
        self._certificates = certificates
        self._port = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        if not self._port:
            raise RuntimeError(f"{type(self).__name__} was not started")
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> Self:
        context = self._certificates.server_context() if self._certificates else None
        self.stopping.clear()
        self._server = _Server(self._port, self, context)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stops listening and cuts every connection, answered or not."""
        server, self._server = self._server, None
        self.stopping.set()
        if server:
            server.shutdown()
            server.server_close()
            server.cut_all()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def record(self, request: ReceivedRequest) -> None:
        with self.lock:
            self.requests.append(request)

    def carry_out(self, request: ReceivedRequest) -> Reply:
        for method, pattern, handler in self.routes:
            found = pattern.fullmatch(request.path)
            if found and method == request.method:
                segments = {name: unquote(value) for name, value in found.groupdict().items()}
                with self.lock:
                    return handler(request, **segments)
        return self.not_found(request)

    def not_found(self, request: ReceivedRequest) -> Reply:
        return json_reply(404, {"message": f"{request.method} {request.path} is not simulated"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, simulator: Simulator, context: ssl.SSLContext | None) -> None:
        self.simulator = simulator
        self._context = context
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self.connections = itertools.count(1)
        super().__init__(("127.0.0.1", port), _RequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Runs in the connection's own thread: a client that stalls in its handshake holds up nobody."""
        connection = self._secured(request)
        with self._open_lock:
            self._open.add(connection)
        try:
            if not self.simulator.stopping.is_set():
                _RequestHandler(connection, client_address, self)
        finally:
            with self._open_lock:
                self._open.discard(connection)
            connection.close()

    def _secured(self, request: socket.socket) -> socket.socket:
        if self._context is None:
            return request
        request.settimeout(_HANDSHAKE_SECONDS)
        secured = self._context.wrap_socket(request, server_side=True)
        secured.settimeout(None)
        return secured

    def cut_all(self) -> None:
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections break here by design: nothing to print, unless it is our own mistake."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("connection.failed")


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        server = cast(_Server, self.server)
        self._simulator = server.simulator
        self._number = next(server.connections)

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        try:
            self._serve()
        except (ConnectionCutError, OSError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _serve(self) -> None:
        request = self._received()
        self._simulator.record(request)
        fault = self._simulator.faults.take(request.method, request.path) or Fault()
        self._reset_if(fault, Reset.BEFORE_READING)
        request.body = self._body()
        self._reset_if(fault, Reset.AFTER_READING)
        reply = fault.reply or self._carried_out(request)
        request.location = reply.headers.get("Location")
        self._wait(self._simulator.latency + fault.delay)
        if fault.until:
            fault.until.wait(_LONGEST_HOLD)
        self._reset_if(fault, Reset.AFTER_CARRYING_OUT)
        # Before the bytes leave: who has the answer in hand may look here at once.
        request.status = reply.status
        self._send(self._encoded(reply), fault.bytes_per_second)

    def _received(self) -> ReceivedRequest:
        parts = urlsplit(self.path)
        query = {name.lower(): values[0] for name, values in parse_qs(parts.query).items()}
        return ReceivedRequest(
            self.command, self.path, parts.path, query, cast(HTTPMessage, self.headers), self._number, time.monotonic()
        )

    def _carried_out(self, request: ReceivedRequest) -> Reply:
        request.carried_out = True
        try:
            return self._simulator.carry_out(request)
        except Exception:  # noqa: BLE001  (a client must not hang for a bug in here)
            _log.exception("simulator.failed %s %s", request.method, request.path)
            return Reply(500, b"the simulator itself failed, see its log", {"Content-Type": "text/plain"})

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(self._chunks())
        return self._exactly(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> list[bytes]:
        chunks: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self._exactly(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return chunks

    def _exactly(self, size: int) -> bytes:
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionCutError
        return body

    def _encoded(self, reply: Reply) -> bytes:
        headers = {"Date": self.date_time_string(), **reply.headers}
        body = reply.body
        if headers.get("Transfer-Encoding") == "chunked":
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        elif not any(name.lower() == "content-length" for name in headers):
            headers["Content-Length"] = str(len(body))
        if self.close_connection:
            headers.setdefault("Connection", "close")
        lines = [f"HTTP/1.1 {reply.status} {reply.phrase}", *(f"{name}: {headers[name]}" for name in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if self.command == "HEAD" else body)

    def _send(self, answer: bytes, bytes_per_second: float | None) -> None:
        if bytes_per_second is None:
            self.wfile.write(answer)
            return
        for byte in answer:
            self._wait(1 / bytes_per_second)
            self.wfile.write(bytes([byte]))

    def _wait(self, seconds: float) -> None:
        if seconds and self._simulator.stopping.wait(seconds):
            raise ConnectionCutError

    def _reset_if(self, fault: Fault, moment: Reset) -> None:
        if fault.reset is not moment:
            return
        # Lingering for zero seconds makes the kernel send RST. The descriptor is closed beneath Python's
        # reader and writer, which would keep it open.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        raise ConnectionCutError
