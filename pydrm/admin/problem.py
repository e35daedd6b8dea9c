"""
`Problem`: an error as the API tells it, and which error becomes which.

| reason | status | what the caller can do |
|---|---|---|
| invalid | 400 | mend `field` |
| forbidden | 403 | address the node by an IP address, localhost or its configured name |
| not-found | 404 | |
| any other word of a refusal | 409 | |
| too-large | 413 | send less at once |
| wrong-type | 415 | send application/json or application/x-ndjson |
| failed | 500 | look into the node's log |
| no-majority, timeout | 503 | repeat; the request may have taken effect |
"""

from __future__ import annotations

import attrs

from pydrm.errors import ClusterRefused, ConfigurationError, DrmError, InvalidResource, Unavailable

__all__ = ["Problem", "problem_of"]


@attrs.frozen
class Problem:
    """
    Attributes:
        status: Of HTTP.
        reason: A short word for programs.
        error: A sentence for people.
        resource, field: What to mend, or "".
    """

    status: int
    reason: str
    error: str
    resource: str = ""
    field: str = ""


def problem_of(error: DrmError, *, has_majority: bool) -> Problem:
    """What a request failed with, where *has_majority* tells how the node sees its cluster now."""
    match error:
        case InvalidResource():
            return Problem(400, "invalid", str(error), resource=error.resource, field=error.field)
        case ConfigurationError():
            return Problem(400, "invalid", str(error), field=error.field)
        case ClusterRefused():
            return Problem(404 if error.reason == "not-found" else 409, error.reason, str(error))
        case Unavailable() if error.unsent:
            return Problem(503, "unsent", str(error))
        case Unavailable():
            return Problem(503, "timeout" if has_majority else "no-majority", str(error))
        case _:
            return Problem(500, "failed", str(error))
