"""A target: one model at one provider."""

from __future__ import annotations

from dataclasses import dataclass

from parley import v1


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one provider. `card` is what the catalogue or the provider's listing knows of it, if anything."""

    provider: str
    """Short name: the prefix of model IDs, `RouteInfo.provider`, the key of `provider_options_json`."""
    model: str
    """The provider's own name of the model."""
    card: v1.Model | None = None
    base_model: str = ""
    """What the model is, where its name is of somebody's own choosing: a deployment, say."""
    region: str = ""
    """Where it is asked, in the provider's words; empty: nobody has said."""

    @property
    def known_as(self) -> str:
        """The name that tells what the model can do."""
        return self.base_model or self.model

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"
