"""What may be done beside the calls themselves: some at any time, then a share of the calls that are made."""

from __future__ import annotations


class Allowance:
    """Extras that many calls share: `most` at any time, and `share` of one more with every call.

    However badly things go, so many extras come on top of the calls, and no multiple of them.
    """

    def __init__(self, share: float, most: float) -> None:
        self._share = share
        self._most = most
        self._left = most

    def called(self) -> None:
        """A call was made."""
        self._left = min(self._left + self._share, self._most)

    def take(self) -> bool:
        """Use one; False if there is none left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
