"""
pydrm: keeps real-time resources (websocket connections and the like), each held by exactly one node.

    drm = ResourceManager(cluster="orders", node="a", bind="127.0.0.1:7001", peers={...}, data_dir="var/a")

The manager is imported when it is first asked for (PEP 562): `pydrm status` does not need a Raft engine.
"""

import logging
from typing import TYPE_CHECKING, Any

from pydrm.errors import (
    ClusterRefused,
    ConfigurationError,
    DiskFailed,
    DrmError,
    Elsewhere,
    Fenced,
    HandlerError,
    InvalidResource,
    Outdated,
    Permanent,
    Superseded,
    Temporary,
    Unavailable,
)

if TYPE_CHECKING:
    from pydrm.agent.hold import Hold
    from pydrm.agent.message import Message
    from pydrm.agent.publishing import Publication, event_id
    from pydrm.core.resource import Resource
    from pydrm.handlers.http_poll.response import Response
    from pydrm.handlers.redis.pubsub import ChannelMessage
    from pydrm.handlers.redis.stream import Entry
    from pydrm.manager import ResourceManager

__all__ = [
    "ChannelMessage",
    "ClusterRefused",
    "ConfigurationError",
    "DiskFailed",
    "DrmError",
    "Elsewhere",
    "Entry",
    "Fenced",
    "HandlerError",
    "Hold",
    "InvalidResource",
    "Message",
    "Outdated",
    "Permanent",
    "Publication",
    "Resource",
    "ResourceManager",
    "Response",
    "Superseded",
    "Temporary",
    "Unavailable",
    "event_id",
]

_HOMES = {
    "ChannelMessage": "pydrm.handlers.redis.pubsub",
    "Entry": "pydrm.handlers.redis.stream",
    "Hold": "pydrm.agent.hold",
    "Message": "pydrm.agent.message",
    "Publication": "pydrm.agent.publishing",
    "Resource": "pydrm.core.resource",
    "Response": "pydrm.handlers.http_poll.response",
    "ResourceManager": "pydrm.manager",
    "event_id": "pydrm.agent.publishing",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
