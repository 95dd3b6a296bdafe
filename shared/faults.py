"""Whose fault it is when a manifest cannot go on. Who is told, and what becomes of the manifest, follows from it.

    Fault
    ├─ OperatorsFault     only the partner's engineers can mend it: the work is parked, and they are told
    └─ NobodysFault       it passes by itself: try again, later

A sender's fault is no exception of this kind: it is a finding (`manifest`), or a request that Partner Center refused
(`partner_center.errors.RequestRefused`).
"""


class Fault(Exception):
    """A manifest cannot go on, and its sender is not to blame."""


class OperatorsFault(Fault):
    """`problem` is a stable code, the same for every manifest it stops; `advice` is the one thing to do."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}")
        self.problem = problem
        self.advice = advice


class NobodysFault(Fault):
    """`retry_after`: seconds that the other side asked us to wait, if it did."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
