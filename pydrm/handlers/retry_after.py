"""
`retry_after_s`: what a server that refuses says about when to come back (RFC 9110, section 10.2.3).

It is foreign data that decides how long a resource is down, so it is bounded, and what cannot be read is ignored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["RETRY_AFTER_S_MAX", "retry_after_s"]

# Longer than any window of a rate limit that is worth to wait for, shorter than what a mistake may cost.
RETRY_AFTER_S_MAX = 3600.0

_SECONDS = re.compile(r"[0-9]{1,9}")


def retry_after_s(value: str, *, date: str, wall: float, most_s: float = RETRY_AFTER_S_MAX) -> float | None:
    """
    Seconds to wait, above 0 and at most *most_s*; None if *value* says nothing of use.

    Args:
        value: The field as it came; "" if there was none.
        date: The answer's Date field, or "". A moment is counted from there, because the server's clock may be wrong.
        wall: This node's own time, in seconds since the epoch, if there is no Date.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    else:
        at = _moment(value)
        if at is None:
            return None
        sent_at = _moment(date)
        seconds = at - (sent_at if sent_at is not None else wall)
    return min(seconds, most_s) if seconds > 0 else None


def _moment(text: str) -> float | None:
    try:
        parsed = parsedate_to_datetime(text)
        # A date without a zone is in UTC (RFC 9110, section 5.6.7).
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp() if isinstance(parsed, datetime) else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
