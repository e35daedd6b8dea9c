"""
Everything pydrm raises, ordered by what a caller can do about it.

    DrmError
    +-- ConfigurationError     fix the configuration or the definition named in `.field`
    |   +-- InvalidResource    ... of the resource named in `.resource`; nothing was added
    +-- ClusterRefused         the cluster said no; `.reason` says why
    |   +-- Superseded         another process runs under this node's name: stop this one
    |   +-- Outdated           the cluster is past what this version can do: start a newer one here
    +-- Unavailable            no majority answered in time: the outcome is unknown, repeat
    +-- DiskFailed             the data directory cannot be trusted any more: this node stopped
    +-- Fenced                 the lease is over: stop what you do for this resource now
    +-- HandlerError           raised BY handlers, to say what should happen next
        +-- Temporary          try again after `.delay` seconds
        |   +-- Elsewhere      ... on another node, at once: this one cannot
        +-- Permanent          do not try again until the definition changes
"""

from __future__ import annotations

__all__ = [
    "ClusterRefused",
    "ConfigurationError",
    "DiskFailed",
    "DrmError",
    "Elsewhere",
    "Fenced",
    "HandlerError",
    "InvalidResource",
    "Outdated",
    "Permanent",
    "Superseded",
    "Temporary",
    "Unavailable",
]


class DrmError(Exception):
    """Whatever pydrm raises on purpose is one of these."""


class ConfigurationError(DrmError):
    """
    A setting cannot be used; nothing was changed.

    Attributes:
        field: The setting's name as the configuration file spells it, or "".
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class InvalidResource(ConfigurationError):
    """
    A resource's definition does not fit; nothing was added.

    Attributes:
        resource: The resource's id, as far as it could be read.
        field: The field at fault.
    """

    def __init__(self, message: str, *, resource: str, field: str) -> None:
        DrmError.__init__(self, f"resource {resource!r}, field {field!r}: {message}")
        self.resource = resource
        self.field = field


class ClusterRefused(DrmError):
    """
    The cluster decided against a request; it changed nothing.

    Attributes:
        reason: A short word for programs, such as "not-found".
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Superseded(ClusterRefused):
    """Another process has joined under this node's name; this one holds nothing any more and must stop."""


class Outdated(ClusterRefused):
    """
    The log holds, or may hold, what this version of pydrm cannot apply; this node holds nothing and must stop.

    A newer version goes on with its data directory as it is.
    """

    def __init__(self, message: str, *, reason: str = "too-old") -> None:
        super().__init__(message, reason=reason)


class Unavailable(DrmError):
    """
    No majority answered within the deadline.

    The request may or may not take effect later; add and remove are safe to repeat.

    Attributes:
        unsent: Whether it is certain that it never left, and will never take effect.
    """

    unsent = False


class DiskFailed(DrmError):
    """
    Writing or syncing the data directory failed, so nothing more can be acknowledged.

    A failed fdatasync is never repeated: the kernel may have dropped the pages already
    (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
    """


class Fenced(DrmError):
    """The lease or the assignment under which this was done is over."""


class HandlerError(DrmError):
    """Base of what a handler raises to say what should happen next."""


class Temporary(HandlerError):
    """
    Opening failed for now.

    Attributes:
        delay: Seconds until the next try, a day at most; None leaves it to the backoff.
    """

    def __init__(self, message: str = "", *, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class Elsewhere(Temporary):
    """This node cannot open it, however often it tries; another one may. It is given up here at once."""


class Permanent(HandlerError):
    """Opening cannot succeed with this definition; no more tries until it changes."""
