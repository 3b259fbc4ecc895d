"""What went wrong with a Redis server, in plain sentences without what was sent."""

from __future__ import annotations

import redis.exceptions as theirs

from parley_server.stores.keyvalue import StoreUnavailable

REFUSALS = {
    "READONLY": "does not take writes: it is a replica",
    "OOM": "has no memory left for writes (maxmemory)",
    "MISCONF": "does not take writes: it cannot save them to its disk",
    "NOREPLICAS": "does not take writes: too few of its replicas are there",
    "NOPERM": "does not let its user do that (ACL)",
    "NOAUTH": "wants a password (redis.username, redis.password)",
    "WRONGPASS": "does not know the user or the password",
    "LOADING": "is still loading its data",
    "MASTERDOWN": "is a replica that has lost its primary",
    "BUSY": "is busy with a script",
    "CLUSTERDOWN": "is a cluster that is not complete",
    "TRYAGAIN": "is moving these keys",
}
"""By the first word of an error reply. All of them pass without our doing, or are the operator's to end."""


class ConnectTimeout(TimeoutError):
    """A connection took too long; the text says what should have been done within how many seconds."""


def code_of(error: theirs.ResponseError) -> str:
    """The first word of an error reply, such as READONLY."""
    word = error.status_code or str(error).partition(" ")[0]  # redis-py keeps the words that it knows apart
    return word if word.isupper() else "ERR"


def refused(name: str, command: str, error: theirs.ResponseError) -> StoreUnavailable:
    """The server called `name` answered `command` with an error."""
    code = code_of(error)
    if code in REFUSALS:
        return StoreUnavailable(f"{name} {REFUSALS[code]}")
    # The rest of the reply may repeat arguments; what a script of ours does wrong names lines and no values.
    detail = f": {str(error)[:200]}" if command in ("EVAL", "EVALSHA") else ""
    return StoreUnavailable(f"{name} refuses {command} ({code}){detail}")


def unreachable(name: str, error: BaseException, seconds: float) -> StoreUnavailable:
    """The server called `name` gave no answer, within `seconds` where it took too long."""
    match error:
        case StoreUnavailable():
            return error
        case theirs.BusyLoadingError():
            said = REFUSALS["LOADING"]
        case theirs.AuthenticationError() | theirs.AuthorizationError():
            said = REFUSALS.get(error.status_code or "", "does not let us in: user or password are wrong")
        case ConnectTimeout():
            said = f"cannot be reached: {error}"
        case theirs.TimeoutError() | TimeoutError():
            said = f"does not answer within {seconds:g} s"
        case theirs.ResponseError():
            return refused(name, "the connection", error)
        case theirs.InvalidResponse():
            said = "does not speak Redis's protocol"
        case _ if "CERTIFICATE" in str(error).upper():
            said = "shows a certificate that is not trusted; see redis.tls"
        case _ if "No master found" in str(error):
            said = "has no primary that is up"
        case _:
            cause = error.__cause__ or error.__context__
            number = getattr(cause, "strerror", None) or getattr(error, "strerror", None)
            said = f"cannot be reached: {number}" if number else "cannot be reached, or has closed the connection"
    return StoreUnavailable(f"{name} {said}")
