"""
`error_of`: a refusal of the cluster, as whoever asked is told of it.
"""

from __future__ import annotations

from pydrm.core.answers import Reason, Refused
from pydrm.errors import ClusterRefused, DrmError, Superseded, Unavailable

__all__ = ["error_of"]


def error_of(refused: Refused, *, request: str = "the request") -> DrmError:
    """*request* names what may have taken effect all the same, if that is unknown."""
    message = f"the cluster refused: {refused.detail or refused.reason.value}"
    match refused.reason:
        case Reason.SUPERSEDED:
            return Superseded(message, reason=refused.reason.value)
        case Reason.EXPIRED | Reason.FORGOTTEN:
            # The node lost its lease meanwhile. An earlier try of the same request may have been applied.
            return Unavailable(
                f"this node lost its lease meanwhile; whether {request} took effect is unknown: repeat it"
            )
        case reason:
            return ClusterRefused(message, reason=reason.value)
