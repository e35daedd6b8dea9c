"""
The only room that knows PySyncObj: consensus, journal and transport.

Its face to the other rooms is `Engine`; another Raft could stand behind it. Start reading at `engine`, then
`raft` and `guards`, then `transport` and `journal`.
"""

from __future__ import annotations

from pydrm.engine.codec import definition_of, resource_of
from pydrm.engine.engine import Engine, EngineConfig, EngineStatus
from pydrm.engine.mailbox import Mailbox
from pydrm.engine.participant import Footing, Membership, Participant, Port

__all__ = [
    "Engine",
    "EngineConfig",
    "EngineStatus",
    "Footing",
    "Mailbox",
    "Membership",
    "Participant",
    "Port",
    "definition_of",
    "resource_of",
]
