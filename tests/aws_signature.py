"""Whether a request that came in is signed as botocore would sign it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from unittest import mock

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.upstream import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<headers>\S+), Signature=[0-9a-f]{64}"
)


def signed_by(request: Request, secret: str) -> tuple[str, str, str]:
    """Key ID, region and service of the signature. Fails unless `secret` signed this very request."""
    stated = _AUTHORIZATION.fullmatch(request.headers["authorization"])
    assert stated is not None, request.headers["authorization"]
    names = stated["headers"].split(";")
    assert {"host", "x-amz-date"} <= set(names)
    kept = {name: request.headers[name] for name in names if name not in ("x-amz-date", "x-amz-security-token")}
    again = AWSRequest(
        request.method, f"http://{request.headers['host']}{request.path}", headers=kept, data=request.body
    )
    at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    key = Credentials(stated["key"], secret, request.headers.get("x-amz-security-token"))
    with mock.patch("botocore.auth.get_current_datetime", return_value=at):
        SigV4Auth(key, stated["service"], stated["region"]).add_auth(again)
    assert again.headers["Authorization"] == request.headers["authorization"]
    return stated["key"], stated["region"], stated["service"]
