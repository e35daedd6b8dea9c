"""
pydrm: keeps real-time resources (websocket connections and the like), each held by exactly one node.

    drm = ResourceManager(cluster="orders", node="a", bind="127.0.0.1:7001", peers={...}, data_dir="var/a")
"""

import logging

from pydrm.agent.hold import Hold, Message
from pydrm.core.resource import Resource
from pydrm.errors import (
    ClusterRefused,
    ConfigurationError,
    DiskFailed,
    DrmError,
    Fenced,
    HandlerError,
    InvalidResource,
    Permanent,
    Superseded,
    Temporary,
    Unavailable,
)
from pydrm.manager import ResourceManager

__all__ = [
    "ClusterRefused",
    "ConfigurationError",
    "DiskFailed",
    "DrmError",
    "Fenced",
    "HandlerError",
    "Hold",
    "InvalidResource",
    "Message",
    "Permanent",
    "Resource",
    "ResourceManager",
    "Superseded",
    "Temporary",
    "Unavailable",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
