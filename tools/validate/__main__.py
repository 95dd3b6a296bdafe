"""`python -m tools.validate FILE…`: what would become of a manifest, before it is dropped."""

import os
import sys

if sys.version_info < (3, 13):  # noqa: UP036 - suppliers bring their own; this module alone must suit an older one
    sys.exit("Python 3.13 or newer is needed; this is %d.%d." % sys.version_info[:2])  # noqa: UP031

from tools.validate.command import main


def run() -> None:
    """The whole process, from its arguments to its exit."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        sys.exit(main(sys.argv[1:], os.environ))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
