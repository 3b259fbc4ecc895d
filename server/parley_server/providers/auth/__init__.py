"""How a provider wants to be shown who asks: keys, tokens that expire, signatures."""

from parley_server.providers.auth.base import Auth
from parley_server.providers.auth.keyring import Keyring, fingerprint, of_keys
from parley_server.providers.auth.keys import Bearer, Header, Open
from parley_server.providers.auth.tokens import Token, TokenAuth

__all__ = ["Auth", "Bearer", "Header", "Keyring", "Open", "Token", "TokenAuth", "fingerprint", "of_keys"]
