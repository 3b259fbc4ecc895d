"""What the providers of AWS have in common: a region, and who asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from parley_server.providers.auth import Auth, aws
from parley_server.providers.kind import Shared
from parley_server.settings import NO_SECRET, ProviderSettings, SecretRef

_IDENTITY = ("api_key", "access_key_id", "secret_access_key", "session_token", "profile")


class AwsSettings(ProviderSettings):
    """Where and as whom AWS is asked. Static keys count first; without them AWS's own tools say where to look."""

    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "access_key_id": ("AWS_ACCESS_KEY_ID",),
        "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
        "session_token": ("AWS_SESSION_TOKEN",),
        "profile": ("AWS_PROFILE",),
    }

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d+$", description="Region, such as us-east-1.")
    access_key_id: SecretRef = Field(NO_SECRET, description="ID of an access key.")
    secret_access_key: SecretRef = Field(NO_SECRET, description="The access key.")
    session_token: SecretRef = Field(NO_SECRET, description="Session token that belongs to the key, if one does.")
    profile: str = Field("", description="Profile of the files in ~/.aws, instead of a key.")

    @model_validator(mode="before")
    @classmethod
    def _one_identity(cls, data: Any) -> Any:
        """Whoever names one identity does not mean parts of another that the environment happens to hold."""
        fields = [field for field in _IDENTITY if field in cls.model_fields]
        if not isinstance(data, dict) or not any(field in data for field in fields):
            return data
        return {**{field: "" if field == "profile" else NO_SECRET for field in fields}, **data}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("a key is access_key_id and secret_access_key, both of them")
        if not self.access_key_id and not self._has_other_ways() and not aws.has_chain():
            raise ValueError("say who asks (access_key_id), or install the extra `aws` of parley-server to look it up")
        return self

    def _has_other_ways(self) -> bool:
        return False

    @property
    def domain(self) -> str:
        """Of all hosts of the region's partition."""
        return "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"

    def signed(self, shared: Shared, service: Callable[[str], str]) -> Auth:
        """Signatures; `service`: the signing name for a URL."""
        if self.access_key_id:
            key_id = self.access_key_id.reveal()
            key = aws.Credentials(key_id, self.secret_access_key, self.session_token)
            return aws.AwsAuth(key, self.region, service, shared.clock)
        return aws.AwsAuth(aws.chain(self.profile, shared.clock), self.region, service, shared.clock)
