"""
`Requests`: what apps and operators ask the cluster for, and what becomes of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydrm.core.resource import Resource
from pydrm.errors import DrmError
from pydrm.manager import ResourceManager
from pydrm.testing.simulation.stage import Stage

__all__ = ["Requests"]


class Requests(Stage):
    """They are made at once, and answered while time passes."""

    def add(self, resource: Resource, *, via: str) -> None:
        """Have *via* add it; whether that is acknowledged is seen later."""
        self._request(via, resource.id, resource, lambda manager: manager.add(resource, timeout=5))

    def remove(self, id: str, *, via: str) -> None:
        self.third_party.may_begin_anew(id)
        self._request(via, id, None, lambda manager: manager.remove(id, timeout=5))

    def pause_resource(self, id: str, *, via: str) -> None:
        """Have *via* pause it; `settle` resumes what is paused."""
        self._tell(via, f"pause {id}", lambda manager: manager.pause(id, timeout=5))

    def resume_resource(self, id: str, *, via: str) -> None:
        self._tell(via, f"resume {id}", lambda manager: manager.resume(id, timeout=5))

    def change_voters(self, change: str, name: str, *, via: str) -> None:
        """Have *via* "add", "remove" or "replace" a voter; the trace says what became of it."""
        self._tell(via, f"{change} voter {name}", lambda manager: getattr(manager.voters, change)(name, timeout=10))

    # --- how ---------------------------------------------------------------------------------------------------------

    def _tell(self, via: str, what: str, request: Callable[[ResourceManager], Any]) -> None:
        """Have *via* do something that the judge does not wait for."""
        node = self.nodes[via]
        manager = node.manager
        if manager is None or not node.host.alive:
            return
        self._note(f"{via}: {what}")

        async def ask() -> None:
            try:
                await request(manager)
            except DrmError as error:
                self._note(f"{via}: {what}: {error}")
            else:
                self._note(f"{via}: {what}: done")

        node.host.app.call_soon(lambda: node.host.app.create_task(ask()))

    def _request(self, via: str, id: str, wanted: Resource | None, request: Callable[[ResourceManager], Any]) -> None:
        node = self.nodes[via]
        manager = node.manager
        if manager is None or not node.host.alive or id in self.uncertain:
            return
        self._note(f"{via} is asked to {'add' if wanted else 'remove'} {id}")
        # Until it is answered nobody knows.
        self.uncertain.add(id)
        node.asked += 1

        async def ask() -> None:
            try:
                await request(manager)
            except DrmError as error:
                self._note(f"{via} does not know about {id}: {error}")
            else:
                self._judge.answered(node, id, wanted)
            node.asked -= 1

        node.host.app.call_soon(lambda: node.host.app.create_task(ask()))
