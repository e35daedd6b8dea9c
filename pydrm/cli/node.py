"""
`pydrm run`: one node in a process of its own, from its configuration to its exit code.

The first SIGTERM or SIGINT drains the node, hands over what it holds and exits with 0; a second one
exits now, with 128 + its number as a shell would have it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import inspect
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable

from pydrm.admin import AdminServer
from pydrm.cli.exits import Exit
from pydrm.cli.logs import set_up_logging
from pydrm.config import Config
from pydrm.errors import ConfigurationError, DrmError
from pydrm.manager import ResourceManager

__all__ = ["run"]

logger = logging.getLogger(__name__)

SetUp = Callable[[ResourceManager], object]


def run(arguments: argparse.Namespace) -> Exit:
    set_up_logging(arguments.log_level, as_json=arguments.log_json)
    _allow_many_sockets()
    try:
        config = Config.load(
            arguments.config,
            os.environ,
            node=arguments.node,
            bind=arguments.bind,
            admin=arguments.admin,
            data_dir=arguments.data_dir,
        )
        set_up = _load_app(arguments.app) if arguments.app else None
        asyncio.run(_serve(config, set_up))
    except ConfigurationError as error:
        logger.error("%s", error)
        return Exit.INVALID
    except DrmError:
        # It was logged where it was found out.
        return Exit.FAILURE
    return Exit.OK


def _allow_many_sockets() -> None:
    """The soft limit of open files is often 1,024, and each resource may be a socket; the hard one is ours to use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _load_app(name: str) -> SetUp:
    """The function MODULE:ATTR names; the working directory is looked in first, as `python -m` does."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"must be MODULE:ATTR, not {name!r}", field="--app")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # An import that fails deeper is the app's own bug and keeps its traceback.
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise ConfigurationError(f"there is no module {error.name!r}", field="--app") from error
    if not hasattr(module, attribute):
        raise ConfigurationError(f"the module {module_name!r} has no {attribute!r}", field="--app")
    set_up: SetUp = getattr(module, attribute)
    if not callable(set_up) or inspect.iscoroutinefunction(set_up):
        raise ConfigurationError(f"{name!r} must be a plain function that takes a ResourceManager", field="--app")
    return set_up


async def _serve(config: Config, set_up: SetUp | None) -> None:
    manager = ResourceManager.from_config(config)
    if set_up is not None:
        set_up(manager)
    admin = AdminServer(manager, config.admin) if config.admin is not None else None
    if admin is not None:
        admin.listen()
    try:
        # The first signal ends the time that this may take, which is for ever otherwise.
        async with asyncio.timeout(None) as life:
            _end_on_signals(life)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_live(manager))
                if admin is not None:
                    # Not after it has joined: one may want to see what it waits for.
                    tasks.create_task(_open_door(admin))
    except TimeoutError:
        if not life.expired():
            raise
    except ExceptionGroup as group:
        # The first failure cancelled the other task, so it is the one that tells.
        raise group.exceptions[0] from None
    finally:
        await manager.stop()
        if admin is not None:
            await admin.stop()


async def _live(manager: ResourceManager) -> None:
    try:
        await manager.start()
    except ConfigurationError:
        raise
    except DrmError as error:
        logger.error("the node does not start: %s", error)
        raise
    await manager.wait_closed()


async def _open_door(admin: AdminServer) -> None:
    await admin.start()
    logger.info("the admin API is at %s", admin.url)


def _end_on_signals(life: asyncio.Timeout) -> None:
    loop = asyncio.get_running_loop()
    heard: list[int] = []

    def on_signal(number: int) -> None:
        if heard:
            os._exit(128 + number)
        heard.append(number)
        logger.info("%s: handing over; once more exits now", signal.Signals(number).name)
        # It may be over already, and the node be stopping on its own account.
        with contextlib.suppress(RuntimeError):
            life.reschedule(loop.time())

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
