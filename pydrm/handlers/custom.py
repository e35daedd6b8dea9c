"""
Kinds of an app's own: an async function, or a class or object with hooks.

A function holds the resource for as long as it runs: it is cancelled when the hold ends, and it calls
`hold.ready()` once the resource is open (until then it shows as opening). If it returns by itself it is
run again after a backoff, like one that raised.

Hooks are the four of the Node original: `open(hold)`, `close(hold)`, and if they like `open_failed(hold, error)` and
`close_failed(hold, error)`; each may be sync or async, and a sync one must not block. Given a class, each hold gets an
instance of its own, made without arguments; given an object, all holds share it. With `validate(resource)`
they can check definitions before they are added, and with `group(resource)` name the group whose budget a resource is
held within, such as the host that it connects to. A class or object with `validate` and `run` is taken for a `Kind` as
it is; a class is called once, without arguments.

    open returns                 the resource is open
    open raises, or is cancelled open_failed cleans up; it is tried again after a backoff
    close returns                the resource is gone
    close raises, or is cut off  close_failed has to make sure that it is gone; when it returns, it is
    close_failed raises, or      the resource may still be open: it shows as stuck, goes to nobody else, and
    there is none                close is tried again until it works
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pydrm.agent.backoff import Backoff
from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kind
from pydrm.clock import Clock, Random
from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError, Fenced, InvalidResource

__all__ = ["FunctionKind", "HookKind", "kind_of"]

logger = logging.getLogger(__name__)

Function = Callable[[Hold], Awaitable[None]]


def kind_of(name: str, handler: object, *, clock: Clock, random: Random) -> Kind:
    """
    The kind that *handler* is.

    Raises:
        ConfigurationError: It is neither an async function, nor a class or object with `open` and `close`, nor a
            `Kind`, with `validate` and `run`.
    """
    if all(callable(getattr(handler, part, None)) for part in ("validate", "run")):
        return cast(Kind, handler() if inspect.isclass(handler) else handler)
    if all(callable(getattr(handler, hook, None)) for hook in ("open", "close")):
        return HookKind(handler, clock=clock, random=random)
    if inspect.isclass(handler):
        raise ConfigurationError(f"the class for kind {name!r} needs the methods open and close", field="handler")
    if callable(handler) and _is_async(handler):
        return FunctionKind(handler)
    if callable(handler):
        raise ConfigurationError(
            f"the function for kind {name!r} must be async: a sync one would block the event loop", field="handler"
        )
    raise ConfigurationError(
        f"kind {name!r} needs an async function, or a class or object with open and close, not {handler!r}",
        field="handler",
    )


class FunctionKind:
    def __init__(self, function: Function) -> None:
        self._function = function

    def validate(self, resource: Resource) -> None:
        """A function has no say in definitions."""

    async def run(self, hold: Hold) -> None:
        await self._function(hold)


class HookKind:
    def __init__(self, hooks: Any, *, clock: Clock, random: Random) -> None:
        self._hooks = hooks
        self._clock = clock
        self._random = random

    def validate(self, resource: Resource) -> None:
        validate = getattr(self._hooks, "validate", None)
        if validate is None:
            return
        try:
            # Of a class it must be callable without an instance: definitions are checked before anything is held.
            validate(resource)
        except InvalidResource:
            raise
        except ValueError as error:
            raise InvalidResource(str(error), resource=resource.id, field="kind") from error

    def group(self, resource: Resource) -> str:
        """What its hook `group` says, if it has one; as with `validate`, without an instance."""
        group = getattr(self._hooks, "group", None)
        return group(resource) if callable(group) else ""

    async def run(self, hold: Hold) -> None:
        hooks = self._hooks() if inspect.isclass(self._hooks) else self._hooks
        await self._open(hooks, hold)
        try:
            hold.ready()
            await asyncio.Event().wait()
        finally:
            await self._close(hooks, hold)

    async def _open(self, hooks: Any, hold: Hold) -> None:
        try:
            await _call(hooks.open, hold)
        except asyncio.CancelledError:
            await self._open_failed(hooks, hold, Fenced("the hold ended while it was being opened"))
            raise
        except Exception as error:
            await self._open_failed(hooks, hold, error)
            raise

    async def _open_failed(self, hooks: Any, hold: Hold, error: Exception) -> None:
        hook = getattr(hooks, "open_failed", None)
        if hook is None:
            return
        try:
            await _call(hook, hold, error)
        except Exception:
            # The border to the app's code; what counts is why open failed.
            logger.exception("open_failed failed too", extra=_fields(hold))

    async def _close(self, hooks: Any, hold: Hold) -> None:
        """
        Return once the resource is gone for certain.

        This runs because the task was cancelled, and that goes on when this returns; a further cancellation
        means "hurry", and only cuts short the hook that is at work.
        """
        backoff = Backoff(self._random)
        while True:
            try:
                await _call(hooks.close, hold)
                return
            except asyncio.CancelledError:
                error: Exception = TimeoutError("close took too long and was cut off")
            except Exception as raised:  # noqa: BLE001 (the border to the app's code)
                error = raised
            logger.warning("close failed: %s: %s", type(error).__name__, error, extra=_fields(hold))
            try:
                if await self._close_failed(hooks, hold, error):
                    return
                await self._clock.sleep(backoff.next_s())
            except asyncio.CancelledError:
                continue

    async def _close_failed(self, hooks: Any, hold: Hold, error: Exception) -> bool:
        hook = getattr(hooks, "close_failed", None)
        if hook is None:
            return False
        try:
            await _call(hook, hold, error)
        except Exception:
            # The border to the app's code.
            logger.exception("close_failed failed too; close is tried again", extra=_fields(hold))
            return False
        return True


async def _call(hook: Callable[..., object], *arguments: object) -> None:
    result = hook(*arguments)
    if inspect.isawaitable(result):
        await result


def _is_async(function: Callable[..., object]) -> bool:
    # Also an object whose class has `async def __call__`.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _fields(hold: Hold) -> dict[str, object]:
    return {"resource": hold.resource.id, "token": hold.token, "node": hold.node}
