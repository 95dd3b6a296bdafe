"""Whose fault it is when a manifest cannot go on. Who is told, and what becomes of the manifest, follows from it.

    Fault
    ├─ OperatorsFault     only the partner's engineers can mend it: the work is parked, and they are told
    └─ NobodysFault       it passes by itself: try again, later

A sender's fault is no exception of this kind: it is a finding (`manifest`), or a request that Partner Center refused
(`partner_center.errors.RequestRefused`).
"""

from typing import Literal

type Severity = Literal["page", "workday"]


class Fault(Exception):
    """A manifest cannot go on, and its sender is not to blame."""


class OperatorsFault(Fault):
    """`problem` is a stable code, the same for every manifest it stops; `advice` is the one thing to do.

    `severity`: to wake somebody, or to wait for the working day. `of_customer`: each customer's is another matter.
    """

    def __init__(self, problem: str, advice: str, *, severity: Severity = "page", of_customer: bool = False) -> None:
        super().__init__(f"{problem}: {advice}")
        self.problem = problem
        self.advice = advice
        self.severity: Severity = severity
        self.of_customer = of_customer


class NobodysFault(Fault):
    """`retry_after`: seconds that the other side asked us to wait, if it did."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
