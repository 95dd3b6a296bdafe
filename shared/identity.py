"""The app's managed identity, as a credential for every client."""

from __future__ import annotations

import json
from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import ServiceResponseError
from azure.identity import ManagedIdentityCredential


class Identity(ManagedIdentityCredential):
    """Its endpoint may answer a page or nothing when it is busy; the library lets the parser's error through."""

    def get_token(self, *scopes: str, **more: Any) -> AccessToken:
        try:
            token: AccessToken = super().get_token(*scopes, **more)
        except json.JSONDecodeError as error:
            raise ServiceResponseError("The managed identity answered without JSON", error=error) from error
        return token

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        try:
            token: AccessTokenInfo = super().get_token_info(*scopes, options=options)
        except json.JSONDecodeError as error:
            raise ServiceResponseError("The managed identity answered without JSON", error=error) from error
        return token
