"""Tokens of Microsoft Entra ID: by a client's own credentials, or by whatever azure-identity finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import util
from urllib.parse import quote

from parley_server.core.errors import CredentialsRejected, Unavailable
from parley_server.core.secret import Secret
from parley_server.providers.auth import forms
from parley_server.providers.auth.tokens import Token
from parley_server.transports.base import Transport


def client_credentials(
    transport: Transport,
    clock: Callable[[], float],
    *,
    authority: str,
    tenant: str,
    client_id: str,
    client_secret: Secret,
    scope: str,
) -> Callable[[], Awaitable[Token]]:
    """Fetches tokens for an application. `authority` is without a trailing slash; `clock` gives Unix time."""
    url = f"{authority}/{quote(tenant, safe='')}/oauth2/v2.0/token"
    form: forms.Fields = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": client_secret,
        "scope": scope,
    }

    async def fetch() -> Token:
        return forms.token_of(await forms.post_form(transport, url, form), clock())

    return fetch


def has_identity() -> bool:
    """Whether azure-identity is installed."""
    try:
        return util.find_spec("azure.identity.aio") is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def default_identity(scope: str) -> Callable[[], Awaitable[Token]]:
    """Fetches tokens for whom azure-identity finds: the environment, a workload or managed identity, who is logged in.

    Its network is its own; all of it is closed after each token, of which one an hour is wanted.
    """

    async def fetch() -> Token:
        from azure.core.exceptions import AzureError, ClientAuthenticationError  # the extra `azure`
        from azure.identity.aio import DefaultAzureCredential

        try:
            async with DefaultAzureCredential() as credential:
                found = await credential.get_token(scope)
        except ClientAuthenticationError:  # its text is a page about every way that was tried
            raise CredentialsRejected("azure-identity found no credential that Entra ID accepts") from None
        except AzureError as error:
            raise Unavailable(f"azure-identity could not fetch a token: {type(error).__name__}") from None
        return Token(Secret(found.token), float(found.expires_on))

    return fetch
