"""What a benchmark says: one line each, which holds to its limit or not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A ratio within one run, or a figure; `limit` is the most that it may be."""

    name: str
    value: float
    limit: float | None = None
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" (limit {self.limit:g}{self.unit})"
        return f"{self.name}: {self.value:.2f}{self.unit}{limit}"
