"""The refresh token is kept alive, and operators hear in time where it, or the app's own proof, nears its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.alerts import Alerts
from shared.faults import NobodysFault, OperatorsFault
from shared.key_vault import VaultGrant
from shared.partner_center import EXCHANGE_PROBLEMS, AppUserTokens

logger = logging.getLogger(__name__)

WARNED_BEFORE_END = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class TokenLife:
    """The use case, daily: an exchange, which stores the rotated token when due, and a look at what ends when."""

    tokens: AppUserTokens
    grant: VaultGrant
    alerts: Alerts
    clock: Callable[[], datetime]

    def keep(self) -> None:
        """An outage of a day does no harm: tomorrow is another."""
        try:
            self.tokens.renew()
            self._resolve_what_an_exchange_finds()
        except OperatorsFault as fault:
            logger.error("token.not_exchanged problem=%s", fault.problem)
            self.alerts.raise_for(fault)
        except NobodysFault as fault:
            logger.warning("token.not_exchanged %s", fault)
        try:
            self._look_at("refresh token", "refresh-token-expiring", self.grant.refresh_token().ends, _CONSENT)
            self._look_at("client credential", "client-credential-expiring", self.grant.credential_ends(), _CREDENTIAL)
        except (OperatorsFault, NobodysFault) as fault:
            logger.warning("token.not_looked_at %s", fault)

    def _resolve_what_an_exchange_finds(self) -> None:
        """What manifests wait for is taken back by them; the rest was found here, on another day."""
        for problem, known in self.alerts.open().items():
            if problem in EXCHANGE_PROBLEMS and not known.is_of_manifest:
                self.alerts.resolve(problem)

    def _look_at(self, what: str, problem: str, ends: datetime | None, advice: str) -> None:
        if ends is None or ends - self.clock() > WARNED_BEFORE_END:
            self.alerts.resolve(problem)
        else:
            warning = f"The {what} in the vault ends on {ends:%Y-%m-%d}. {advice}"
            self.alerts.raise_for(OperatorsFault(problem, warning, severity="workday"))


_CONSENT = (
    "The app renews it while it can be exchanged and stored: look for refresh-token-not-stored and consent-needed, or "
    "consent again with MFA and store the new one."
)
_CREDENTIAL = "Make a new one, add it to the app registration, and store it in the vault."
