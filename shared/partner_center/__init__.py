"""Partner Center's device batches over REST, and the App+User tokens they want."""

from shared.partner_center.client import Accepted, PartnerCenter
from shared.partner_center.errors import BatchExists, BatchNotFound, CustomerNotFound, RequestRefused
from shared.partner_center.tokens import (
    EXCHANGE_PROBLEMS,
    AppRegistration,
    AppUserTokens,
    BearerAuth,
    ClientCredential,
    RefreshToken,
)
from shared.partner_center.wire import render_device

__all__ = [
    "EXCHANGE_PROBLEMS",
    "Accepted",
    "AppRegistration",
    "AppUserTokens",
    "BatchExists",
    "BatchNotFound",
    "BearerAuth",
    "ClientCredential",
    "CustomerNotFound",
    "PartnerCenter",
    "RefreshToken",
    "RequestRefused",
    "render_device",
]
