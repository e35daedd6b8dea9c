"""
`put_in_place`: the resources, sources and budgets of a node's configuration, given to the cluster once it has joined.

They are for a cluster that does not have them yet. What the app or an operator has changed since stays as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydrm.clock import Clock
from pydrm.config import Config
from pydrm.core.records import NodeState
from pydrm.errors import Unavailable
from pydrm.intake import Intake
from pydrm.node import Node
from pydrm.requests import Requests

__all__ = ["put_in_place"]

# So that the first of several nodes that start together does not load everything, only to give most of it away.
COMPANY_TIMEOUT_S = 1.0
POLL_S = 0.02
REQUEST_TIMEOUT_S = 10.0


async def put_in_place(
    config: Config, node: Node, running: Callable[[], Node], *, intake: Intake, requests: Requests, clock: Clock
) -> None:
    """
    Return when the cluster that *node* has joined has all of it.

    Args:
        running: Raises Unavailable once the node does not run any more.

    Raises:
        InvalidResource: A resource cannot be used.
        Unavailable: The node was stopped.
    """
    for budget in config.budgets:
        while not _is_limited(node, budget.group):
            await _try(requests.ask(budget, REQUEST_TIMEOUT_S), running)
    absent = [item for item in (*config.resources, *config.sources) if item.id not in node.engine.state.records]
    if absent:
        await _wait_for_company(config, node, clock)
        definitions = await intake.definitions(absent)
        while not await _try(requests.add(definitions, REQUEST_TIMEOUT_S, if_absent=True), running):
            pass


def _is_limited(node: Node, group: str) -> bool:
    budget = node.engine.state.budgets.get(group)
    return budget is not None and budget.limits


async def _try(request: Awaitable[object], running: Callable[[], Node]) -> bool:
    """Whether it was answered. The node has joined, so a majority was there and will be again; `stop` ends that."""
    try:
        await request
    except Unavailable:
        running()
        return False
    return True


async def _wait_for_company(config: Config, node: Node, clock: Clock) -> None:
    deadline = clock.now() + COMPANY_TIMEOUT_S
    while clock.now() < deadline:
        others = [node.engine.state.nodes.get(name) for name in config.peers]
        if all(other is not None and other.state is NodeState.ALIVE for other in others):
            return
        await clock.sleep(POLL_S)
