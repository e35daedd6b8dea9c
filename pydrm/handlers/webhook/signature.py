"""
What a webhook's receiver can tell by that it is ours: Standard Webhooks 1.0, "Signature scheme".

Symmetric keys only (`whsec_`, version v1, HMAC-SHA256). With several keys there is a signature by each, so a receiver
may change to the new one at any moment while both are in use.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable

__all__ = ["key_of", "signature"]

_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)


def key_of(secret: str) -> bytes:
    """
    The key in *secret*.

    Raises:
        ValueError: It is none; the message does not show it.
    """
    if not secret.startswith(_PREFIX):
        raise ValueError(f"must be {_PREFIX} and a key in base64")
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (Error, ValueError):
        raise ValueError(f"must be {_PREFIX} and a key in base64") from None
    if len(key) not in _KEY_BYTES:
        raise ValueError(f"must hold a key of {_KEY_BYTES[0]} to {_KEY_BYTES[-1]} bytes, not {len(key)}")
    return key


def signature(keys: Iterable[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`; *timestamp* in seconds since the epoch, as in `webhook-timestamp`."""
    signed = b"%s.%d.%s" % (id.encode(), timestamp, body)
    return " ".join(f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys)
