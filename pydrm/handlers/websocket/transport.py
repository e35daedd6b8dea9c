"""
`connect_by`: how a node makes its connections, by the name that its configuration has for it.
"""

from __future__ import annotations

from typing import Literal

from pydrm.errors import ConfigurationError
from pydrm.handlers.websocket import by_websockets
from pydrm.handlers.websocket.connection import Connect

__all__ = ["Transport", "connect_by"]

Transport = Literal["websockets", "picows"]


def connect_by(transport: Transport) -> Connect:
    """
    Raises:
        ConfigurationError: What it needs is not installed.
    """
    if transport == "websockets":
        return by_websockets.connect
    try:
        from pydrm.handlers.websocket import by_picows
    except ImportError as error:
        message = f"\"picows\" needs the package picows: pip install 'pydrm[fast]' ({error})"
        raise ConfigurationError(message, field="websocket_transport") from None
    return by_picows.connect
