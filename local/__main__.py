"""`python -m local demo` and `python -m local run`."""

import signal
import sys

from rich.console import Console

from local.azurite import AzuriteError
from local.demo import demo
from local.run import run
from local.stack import StackError


def main() -> int:
    console = Console(soft_wrap=not sys.stdout.isatty())
    # A SIGTERM ends everything in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = {"demo": demo, "run": run}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        console.print("usage: python -m local demo|run")
        return 2
    try:
        return commands[sys.argv[1]](console)
    except (StackError, AzuriteError) as error:
        console.print(f"[red]Failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("Ended.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
