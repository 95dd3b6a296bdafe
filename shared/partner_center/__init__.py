"""Partner Center's device batches over REST, and the App+User tokens they want."""

from shared.partner_center.client import Accepted, PartnerCenter
from shared.partner_center.errors import BatchExists, BatchNotFound, CustomerNotFound, RequestRefused
from shared.partner_center.tokens import AppRegistration, AppUserTokens, BearerAuth, ClientCredential
from shared.partner_center.wire import render_device

__all__ = [
    "Accepted",
    "AppRegistration",
    "AppUserTokens",
    "BatchExists",
    "BatchNotFound",
    "BearerAuth",
    "ClientCredential",
    "CustomerNotFound",
    "PartnerCenter",
    "RequestRefused",
    "render_device",
]
