"""Two containers: one read by reference through Event Grid, one with its content through a pattern."""

import json
import os
import threading
import time
from pathlib import Path

import azure.functions as func
import azurefunctions.extensions.bindings.blob as blob

app = func.FunctionApp()
_lock = threading.Lock()
_attempts: dict[str, int] = {}


def record(**call: object) -> None:
    with _lock, Path(os.environ["CALLS"]).open("a") as calls:
        calls.write(json.dumps(call) + "\n")


@app.function_name("by_reference")
@app.blob_trigger(arg_name="client", path="%CONTAINER%/{name}", connection="ManifestStorage", source="EventGrid")
def by_reference(client: blob.BlobClient) -> None:
    """The content says what to do: `fail 2` fails twice, `sleep 3` takes three seconds."""
    name = str(client.blob_name)
    verb, _, number = client.download_blob().readall().decode().partition(" ")
    with _lock:
        _attempts[name] = attempt = _attempts.get(name, 0) + 1
    record(function="by_reference", name=name, attempt=attempt, cwd=str(Path.cwd()))
    if verb == "sleep":
        time.sleep(float(number))
        record(function="by_reference", name=name, ended=True)
    if verb == "fail" and attempt <= int(number):
        raise RuntimeError(f"attempt {attempt} of {name}")


@app.function_name("by_content")
@app.blob_trigger(
    arg_name="stream",
    path="%CONTAINER%/in/{name}.csv",
    connection="ManifestStorage",
    source="LogsAndContainerScan",
)
def by_content(stream: func.InputStream) -> None:
    body = stream.read().decode()
    record(function="by_content", name=stream.name, uri=stream.uri, length=stream.length, body=body)
