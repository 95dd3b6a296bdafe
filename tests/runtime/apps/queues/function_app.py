"""A queue read as another is written; its poison queue read too."""

import json
import os
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()


def record(**call: object) -> None:
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write(json.dumps(call) + "\n")


@app.function_name("consume")
@app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="ManifestStorage")
@app.queue_output(arg_name="answer", queue_name="%QUEUE%-out", connection="ManifestStorage")
def consume(message: func.QueueMessage, answer: func.Out[str]) -> None:
    """The body says what to do: `bad` fails after setting the output, `sleep 15` takes its time."""
    verb, _, number = message.get_body().decode().partition(" ")
    count, inserted = message.dequeue_count, message.insertion_time
    assert inserted is not None
    record(body=verb, dequeue_count=count, inserted=inserted.isoformat())
    answer.set(f"answer to {verb}")
    if verb == "sleep":
        time.sleep(float(number))
    if verb == "bad":
        raise ValueError("a bad message")
