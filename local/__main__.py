"""`python -m local demo` and `python -m local run [FOLDER]`."""

import signal
import sys
from pathlib import Path

from rich.console import Console

from local.azurite import AzuriteError
from local.demo import demo
from local.run import run
from local.stack import StackError


def main() -> int:
    console = Console(soft_wrap=not sys.stdout.isatty())
    # A SIGTERM ends everything in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        match sys.argv[1:]:
            case ["demo"]:
                return demo(console)
            case ["run", *folder] if len(folder) < 2:
                return run(console, *map(Path, folder))
            case _:
                console.print("usage: python -m local demo | run [FOLDER]", markup=False)
                return 2
    except (StackError, AzuriteError) as error:
        console.print(f"[red]Failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("Ended.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
