"""`python -m bench [name…]`: runs the benchmarks, prints their lines, and fails where one is over its limit."""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = ("reading", "cold_start", "memory", "load")


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    all_hold = True
    for name in names or BENCHMARKS:
        for line in importlib.import_module(f"bench.{name}").run():
            print(line, flush=True)
            all_hold &= line.holds
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
