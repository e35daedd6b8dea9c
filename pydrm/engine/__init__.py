"""
The only room that knows PySyncObj: consensus, journal and transport.

Its face to the other rooms is `Engine`; another Raft could stand behind it. Start reading at `engine` and
`replica`, then `seat`, `raft` (with `group`, `elections`, `voter_changes` and `messages`) and `guards`, `storage`,
`outbox` and `journal`, `transport` (with `dialler` and `reach`), `handshake` and `tls`.
"""

from __future__ import annotations

from pydrm.engine.codec import definition_of, resource_of
from pydrm.engine.config import EngineConfig, EngineStatus
from pydrm.engine.engine import REQUEST_BYTES_MAX, Engine
from pydrm.engine.host import Host, SystemHost
from pydrm.engine.letters import LETTER_BYTES_MAX
from pydrm.engine.mailbox import Mailbox
from pydrm.engine.participant import Footing, Membership, Participant, Port
from pydrm.engine.tls import Security, TlsFiles

__all__ = [
    "LETTER_BYTES_MAX",
    "REQUEST_BYTES_MAX",
    "Engine",
    "EngineConfig",
    "EngineStatus",
    "Footing",
    "Host",
    "Mailbox",
    "Membership",
    "Participant",
    "Port",
    "Security",
    "SystemHost",
    "TlsFiles",
    "definition_of",
    "resource_of",
]
