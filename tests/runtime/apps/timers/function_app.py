"""One timer that starts with the app, one that ticks."""

import logging
import os
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()


@app.function_name("at_start")
@app.timer_trigger(arg_name="timer", schedule="0 0 3 1 1 *", run_on_startup=True)
def at_start(timer: func.TimerRequest) -> None:
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write('{"function": "at_start"}\n')


@app.function_name("tick")
@app.timer_trigger(arg_name="timer", schedule="%TICK%")
def tick(timer: func.TimerRequest) -> None:
    logging.info("tick.heard past_due=%s", timer.past_due)
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write('{"function": "tick"}\n')
