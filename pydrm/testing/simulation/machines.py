"""
`Machines`: what is done to the nodes: to their processes, their clocks and their disks.
"""

from __future__ import annotations

from pathlib import Path

from pydrm.errors import DrmError
from pydrm.manager import ResourceManager
from pydrm.testing.simulation.node import SimulatedNode, Version
from pydrm.testing.simulation.stage import Stage

__all__ = ["Machines"]


class Machines(Stage):
    """Every verb takes effect at once; time passes elsewhere."""

    def start(self, name: str, version: Version | None = None) -> None:
        """Start the node's process, if none runs; as *version*, or as what it was before."""
        node = self.nodes[name]
        if node.manager is not None and node.host.alive:
            return
        self._note(f"start {name}")
        node.version = version or node.version
        node.host.boot()
        node.failure = None
        node.manager = node.version.manager_class(
            cluster="simulated",
            node=name,
            bind=self._addresses[name],
            role="voter" if name in self._peers else "worker",
            peers=self._peers,
            data_dir=Path("/data"),
            lease_ttl=self._lease_ttl,
            # So low that it happens.
            give_up_after=3,
            quarantine=2.0,
            checkpoint_interval=0.5,
            host=node.host,
        )
        self._set_up(node.manager, node.host)
        node.host.app.call_soon(self._begin, node, node.manager)

    def kill(self, name: str) -> None:
        """kill -9."""
        self._note(f"kill {name}")
        self.nodes[name].host.kill()

    def kill_writing(self, name: str) -> None:
        """kill -9, in the middle of what it writes next."""
        self._note(f"kill {name} when it writes")
        self.nodes[name].host.kill_writing()

    def power_cut(self, name: str) -> None:
        """The host goes dark: nothing unsynced survives, and nobody is told."""
        self._note(f"power cut {name}")
        self.nodes[name].host.kill(power=True)

    def stop(self, name: str) -> None:
        """SIGTERM: hand over and leave."""
        node = self.nodes[name]
        if node.manager is not None and node.host.alive:
            self._note(f"stop {name}")
            manager = node.manager
            node.host.app.call_soon(lambda: node.host.app.create_task(manager.stop()))

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self._note(f"pause {name}")
        self.nodes[name].host.pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._note(f"resume {name}")
        self.nodes[name].host.resume()

    def block_app(self, name: str, seconds: float) -> None:
        """The app's loop on *name* does something else for so long."""
        self._note(f"block {name}'s app for {seconds:.3f} s")
        self.nodes[name].host.block_app(seconds)

    def jump_wall(self, name: str, seconds: float) -> None:
        """Somebody sets the node's time of day, so much forward or back."""
        self._note(f"the time of day of {name} jumps by {seconds:g} s")
        self.nodes[name].host.wall_jump_s += seconds

    def set_rate(self, name: str, rate: float) -> None:
        """From now on *name*'s clock counts so many seconds in one."""
        self._note(f"{name}'s clock runs at {rate:.6f}")
        self.nodes[name].host.set_rate(rate)

    def wipe(self, name: str) -> None:
        """The node is killed, and its disk replaced by an empty one; once the cluster is formed, it is out."""
        self._note(f"wipe {name}")
        self.nodes[name].host.kill()
        self.nodes[name].host.disk.wipe()
        self.nodes[name].is_out = self.formed and name in self._peers

    def fill_disk(self, name: str) -> None:
        self._note(f"{name}'s disk is full")
        self.nodes[name].host.disk.full = True

    def break_disk(self, name: str) -> None:
        self._note(f"{name}'s disk fails")
        self.nodes[name].host.disk.broken = True

    def mend_disk(self, name: str) -> None:
        """It has room again, and works."""
        disk = self.nodes[name].host.disk
        if disk.full or disk.broken:
            self._note(f"{name}'s disk is well")
        disk.full = disk.broken = False

    # --- how ---------------------------------------------------------------------------------------------------------

    def _begin(self, node: SimulatedNode, manager: ResourceManager) -> None:
        node.host.app.create_task(self._live(node, manager))

    async def _live(self, node: SimulatedNode, manager: ResourceManager) -> None:
        try:
            await manager.start()
            await manager.wait_closed()
        except DrmError as error:
            node.failure = error
            self._note(f"{node.name} fails: {error}")
        self._note(f"{node.name} exits")
        node.host.kill()
