"""
`Members`: who this node is to the others, and who votes, as far as this node knows.

Before the cluster is formed that is the configuration; when it is formed, what is noted in the data directory; and from
the first entry on, what the state says, which commands change.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydrm.core.commands import AddVoter, RemoveVoter
from pydrm.core.settings import Voter
from pydrm.core.state import State
from pydrm.engine.config import EngineConfig
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.frames import Hello
from pydrm.engine.handshake import WIRE_FORMAT, WIRE_FORMAT_OLDEST, formation
from pydrm.engine.participant import Membership
from pydrm.errors import ClusterRefused

__all__ = ["Members"]


class Members:
    def __init__(self, config: EngineConfig, directory: DataDirectory, state: State) -> None:
        self._config = config
        self._directory = directory
        self._state = state

    @property
    def revision(self) -> int:
        """Grows with each change of the voters; 0 before the first entry is applied."""
        settings = self._state.settings
        return settings.voters_revision if settings is not None else 0

    @property
    def voters(self) -> dict[str, str]:
        """Each voter's replica id, by name."""
        settings = self._state.settings
        if settings is None:
            return self._directory.identity.members
        return {voter.name: voter.replica_id for voter in settings.voters}

    @property
    def voting(self) -> list[str]:
        """
        Their names; this node's only if it is the replica that is meant.

        One that took the place of a voter that lost its disk reads in the log that a voter of its name has a vote. That
        is not its own.
        """
        mine = self._directory.identity.replica_id
        return [name for name, id in self.voters.items() if name != self._config.node or id == mine]

    @property
    def addresses(self) -> dict[str, str]:
        """Where the other voters are, by name, as far as the state says."""
        settings = self._state.settings
        voters = settings.voters if settings is not None else ()
        return {voter.name: voter.address for voter in voters if voter.address and voter.name != self._config.node}

    def hello(self) -> Hello:
        """What this node says of itself now."""
        config, identity = self._config, self._directory.identity
        me = {config.node} if config.role == "voter" else set()
        return Hello(
            version=WIRE_FORMAT,
            cluster=config.cluster,
            node=config.node,
            role=config.role,
            replica_id=identity.replica_id,
            cluster_id=identity.cluster_id,
            boot=identity.boot,
            nonce=config.nonce,
            address=config.advertise,
            voters=tuple(sorted({*config.voters} | me)),
            members=tuple(sorted(self.voters.items())),
            members_revision=self.revision,
            oldest_version=WIRE_FORMAT_OLDEST,
        )

    def form(self, heard: Mapping[str, Hello]) -> bool:
        """
        Note for ever which cluster this is, if that can be told from what the linked peers say; whether it can.

        Raises OSError.
        """
        if not self._directory.empty:
            return True
        formed = formation(self.hello(), heard)
        if formed is None:
            return False
        self._directory.form(formed.cluster_id, formed.members)
        return True

    def addition(self, name: str, heard: Mapping[str, Hello]) -> AddVoter | None:
        """
        What gives *name*, which follows this cluster and is linked with this node, a vote; None if it has one.

        Raises:
            ClusterRefused: It is not there (reason "not-found"), or it cannot have a vote ("conflict").
        """
        known = self.voters.get(name)
        hello = heard.get(name)
        if known is not None and (hello is None or hello.replica_id == known):
            return None
        if hello is None or hello.cluster_id != self._directory.identity.cluster_id:
            message = (
                f"{name} is not linked with {self._config.node}: start it, with the same cluster, an empty data "
                "directory, and peers that list the voters and itself"
            )
            raise ClusterRefused(message, reason="not-found")
        if known is not None:
            raise ClusterRefused(f"{name} is a voter of another replica: pydrm nodes replace {name}", reason="conflict")
        if hello.role == "worker":
            raise ClusterRefused(f'{name} is a worker: start it with role = "voter" first', reason="conflict")
        return AddVoter(name, hello.replica_id, hello.address, self.revision)

    def removal(self, name: str) -> RemoveVoter:
        """
        What takes the vote of *name* away.

        Raises:
            ClusterRefused: It has none (reason "not-found").
        """
        known = self.voters.get(name)
        if known is None:
            message = f"{name} is no voter; the voters are {', '.join(sorted(self.voters))}"
            raise ClusterRefused(message, reason="not-found")
        return RemoveVoter(name, known, self.revision)

    def membership(self, heard: Mapping[str, Hello]) -> Membership:
        """For the participant."""
        identity = self._directory.identity
        addresses = {name: hello.address for name, hello in heard.items()} | dict(self._config.voters)
        addresses[self._config.node] = self._config.advertise
        voters = tuple(Voter(name, id, addresses.get(name, "")) for name, id in sorted(identity.members.items()))
        return Membership(identity.cluster_id, voters, self._directory.on_this_host)
