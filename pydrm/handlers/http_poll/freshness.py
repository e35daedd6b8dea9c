"""
What a response says about when to ask again. Pure; RFC 9110 (HTTP) and RFC 9111 (caching).

Whatever cannot be read counts as not said: a third party's mistake must neither stop a poller nor speed it up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["fresh_s"]

# The quoted form is not to be sent, and to be understood (RFC 9111, section 5.2).
_MAX_AGE = re.compile(r'(?:^|[,\s])max-age\s*=\s*"?(\d{1,18})"?(?=$|[,\s])', re.IGNORECASE)
_NOT_STORED = re.compile(r"(?:^|[,\s])no-(?:cache|store)(?=$|[,\s])", re.IGNORECASE)
_SECONDS = re.compile(r"\d{1,18}")


def fresh_s(headers: Mapping[str, str]) -> float:
    """
    For how many seconds from now the response stays fresh; 0 if it does not say.

    Cache-Control's max-age less Age (RFC 9111, sections 4.2.1 and 5.1). `s-maxage` and `Expires` are not looked at: the
    former is for shared caches, and the latter needs a clock that agrees with the server's.
    """
    control = headers.get("Cache-Control", "")
    if not control or _NOT_STORED.search(control):
        return 0.0
    found = _MAX_AGE.search(control)
    if found is None:
        return 0.0
    age = headers.get("Age", "").strip()
    return max(float(found[1]) - (float(age) if _SECONDS.fullmatch(age) else 0.0), 0.0)
