"""The listing of SageMaker's endpoints: ListEndpoints of the control plane, page by page, those in service only.

What an endpoint serves is not told, so the listing says names and dates and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.bedrock.answers import NONSENSE
from parley_server.dialects.bedrock.errors import error

LISTING = "/"
"""Path of the control plane, whose host is not that of the runtime: it tells its operations apart by a header."""

_PAGE = 100  # the most the API gives
_HEADERS = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "SageMaker.ListEndpoints"}


class SageMakerEndpoints:
    """Lists endpoints of the account in one region."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for the first page, or the one behind `cursor`."""
        wanted = {"StatusEquals": "InService", "MaxResults": _PAGE}
        return HttpCall(LISTING, orjson.dumps(wanted | ({"NextToken": cursor} if cursor else {})), headers=_HEADERS)

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The endpoints of a page and the cursor of the next. Raises ProtocolError if `body` is no listing."""
        page = load_object(body)
        try:
            models = []
            for row in page["Endpoints"]:
                name = row["EndpointName"]
                model = v1.Model(id=f"{provider}/{name}", provider=provider, provider_model=name)
                if created := row.get("CreationTime"):
                    model.create_time.FromMilliseconds(math.floor(created * 1000))  # Unix time, with a fraction
                models.append(model)
            return models, page.get("NextToken") or ""
        except (*NONSENSE, OverflowError) as problem:
            raise ProtocolError("the provider's answer is not a listing of endpoints") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
