"""Takes credentials out of a text before others see it: whatever looks like one, and those that are known.

What is known is known to the whole process, as its log is of the whole process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_HIDDEN = "[redacted]"
_SHORTEST = 8  # characters of a secret that is known: shorter ones stand in texts that mean something else

_SECRETS = re.compile(
    r"""
      (?P<keep> \b(?:bearer|basic)\s+ ) [\w.~+/=-]{16,}                               # authorization values
    | (?P<name> \b(?:x-api-key|api-key|x-goog-api-key|authorization|proxy-authorization
            |x-amz-security-token|set-cookie|cookie)\b ["']? \s*[:=]\s* ["']? (?:(?:bearer|basic)\s+)? )
            [^\s"',;}\[]{6,}                                                            # headers, JSON, dicts
    | (?P<query> [?&](?:key|api[_-]?key|access[_-]?token|token|sig|signature|x-amz-signature
            |x-amz-credential|x-amz-security-token)= ) [^&\s"'<>]+                      # query strings
    | (?P<url> \b[a-z][a-z0-9+.-]{1,20}:// [^\s/:@]{0,200}: ) [^\s/@]{1,200} (?=@)      # scheme://user:password@host
    | \b(?:sk|pk|rk)-[\w-]{8,}                                                           # keys that say what they are
    | \b(?:gsk|xai|pplx|nvapi|r8|hf|ghp|gho|ghu|ghs|ghr|github_pat|glpat|dapi|fw|csk|tgp_v1)[_-][\w-]{12,}
    | \bdapi[0-9a-f]{24,}                                                                # the same without a dash
    | \bAIza[\w-]{20,}                                                                   # Google
    | \bya29\.[\w.-]{10,}                                                                # Google OAuth
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}                                                       # AWS
    | \bxox[abeoprs]-[\w-]{8,}                                                           # Slack
    | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?                                             # JWT
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


class _Known:
    """Secrets of configurations, whatever they look like."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, texts: Iterable[str]) -> None:
        fresh = {text for text in texts if len(text) >= _SHORTEST} - self._texts
        if fresh:
            self._texts |= fresh
            longest_first = sorted(self._texts, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def hidden(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(_HIDDEN, text)


_KNOWN = _Known()


def hide(secrets: Iterable[str]) -> None:
    """From now on `scrub` takes these out wherever they stand, except those of less than 8 characters."""
    _KNOWN.add(secrets)


def scrub(text: str) -> str:
    """`text` with every credential replaced by "[redacted]"; the word that introduces one (`Bearer`, `?key=`) stays."""
    return _SECRETS.sub(_hide, _KNOWN.hidden(text))


def _hide(found: re.Match[str]) -> str:
    introduction = found["keep"] or found["name"] or found["query"] or found["url"] or ""
    return introduction + _HIDDEN
