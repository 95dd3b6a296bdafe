"""`python -m bench [name…]`: runs the benchmarks, prints their lines, and fails where one is over its limit.

A line is `name: ratio (limit L)`; a figure that has no limit is `name: figure`.
"""

from __future__ import annotations

import importlib
import sys

# Each is a module beside this one, with `run() -> Iterator[Line]`.
BENCHMARKS = ("reading", "cold_start", "memory", "load")


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    over = []
    for name in names or BENCHMARKS:
        for line in importlib.import_module(f"bench.{name}").run():
            print(line, flush=True)
            if not line.holds:
                over.append(line.name)
    if over:
        print(f"Over the limit: {', '.join(over)}.", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
