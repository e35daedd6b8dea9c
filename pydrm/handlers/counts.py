"""
`Counts`: what third parties have sent and the app did not get.
"""

from __future__ import annotations

import attrs

__all__ = ["Counts"]


@attrs.define
class Counts:
    """
    Of all resources of a node, whatever their kind.

    Attributes:
        callback_failures: Messages whose callbacks raised, or that could not be read for them.
        dropped_messages: Those that came when the lease was over.
        overflowed_messages: Those that made room for newer ones.
        undecodable_messages: Those of websockets that were to be JSON and were not.
        cut_off_entries: Entries of Redis streams that were cut off before they were read, as far as the server counts.
    """

    callback_failures: int = 0
    dropped_messages: int = 0
    overflowed_messages: int = 0
    undecodable_messages: int = 0
    cut_off_entries: int = 0
