"""The managed identity endpoint of App Service and Functions: plain HTTP, as the real one."""

from __future__ import annotations

import secrets
import time
from typing import Any

from local.simulators.faults import Reply, json_reply
from local.simulators.server import ReceivedRequest, Simulator, route
from local.simulators.tokens import TokenIssuer

FEDERATION_AUDIENCE = "api://AzureADTokenExchange"
_APP_SERVICE_VERSION = "2019-08-01"


class ManagedIdentitySimulator(Simulator):
    def __init__(self, tenant: str, client_id: str) -> None:
        super().__init__()
        self.header = secrets.token_hex(16)
        self.client_id = client_id
        self.token_seconds = 86_400
        self._tenant = tenant
        # Azurite looks at this prefix, too.
        self._issuer = TokenIssuer(f"https://sts.windows.net/{tenant}/")
        self.routes = [route("GET", "/msi/token", self._token)]

    def environment(self) -> dict[str, str]:
        return {"IDENTITY_ENDPOINT": f"{self.url}/msi/token", "IDENTITY_HEADER": self.header}

    def claims_of(self, token: str, audience: str) -> dict[str, Any] | None:
        return self._issuer.claims_of(token, audience)

    def revoke_access_tokens(self) -> None:
        self._issuer.revoke_all()

    def _token(self, request: ReceivedRequest) -> Reply:
        resource = request.query.get("resource")
        if not secrets.compare_digest(request.headers.get("X-IDENTITY-HEADER", ""), self.header):
            return _refused(401, "the X-IDENTITY-HEADER is missing or wrong")
        if request.query.get("api-version") != _APP_SERVICE_VERSION or not resource:
            return _refused(400, f"resource and api-version={_APP_SERVICE_VERSION} are required")
        if request.query.get("client_id", self.client_id) != self.client_id:
            return _refused(400, "No User Assigned or Delegated Managed Identity found for specified ClientId")
        claims = {"oid": self.client_id, "sub": self.client_id, "appid": self.client_id, "tid": self._tenant}
        issued = {
            "access_token": self._issuer.issue(resource, self.token_seconds, claims),
            "expires_on": str(int(time.time()) + self.token_seconds),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": self.client_id,
        }
        return json_reply(200, issued)


def _refused(status: int, message: str) -> Reply:
    return json_reply(status, {"statusCode": status, "message": message})
