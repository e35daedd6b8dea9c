"""
`refusal`: what the end of a connection, or the failure to get one, means for the next try.

    410 Gone                    Permanent: the one status that says that it will stay so (RFC 9110, section 15.5.11)
    any with Retry-After        Temporary, after that long and up to a tenth more, so that not all come back at once
    any other, 401 to 404 too   Temporary, after a backoff

A wrong url is not fixed by retrying; but the same 404 comes from a third party that is being deployed, the same 401
from one whose login service is down, and the same 403 from one that does not like *this* node's address. So these fail
like anything else: another node tries after `give_up_after` failures, and what no node can open is quarantined, and
shown. A resource that was given up for good by mistake would stay down until somebody woke up.
"""

from __future__ import annotations

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pydrm.clock import Clock, Random
from pydrm.errors import HandlerError, Permanent, Temporary
from pydrm.handlers.retry_after import retry_after_s

__all__ = ["refusal"]

GONE = 410
SPREAD = 0.1


def refusal(error: Exception, *, open_timeout_s: float, clock: Clock, random: Random) -> HandlerError:
    """What to raise instead of *error*, which may hold secrets; the message still has to be redacted."""
    match error:
        case ConnectionClosed():
            return Temporary(f"connection lost: {error}")
        case InvalidStatus():
            return _refused(error, clock, random)
        case TimeoutError():
            return Temporary(str(error) or f"not open within {open_timeout_s:g} s")
        case _:
            return Temporary(f"cannot connect: {error}")


def _refused(error: InvalidStatus, clock: Clock, random: Random) -> HandlerError:
    status = error.response.status_code
    message = f"refused with HTTP status {status}"
    if 300 <= status < 400:
        # Where to is the third party's word, and may repeat what it was asked.
        message += ", a redirect, which is not followed"
    if status == GONE:
        return Permanent(f"{message}: gone for good")
    headers = error.response.headers
    delay = retry_after_s(_first(headers, "Retry-After"), date=_first(headers, "Date"), wall=clock.wall())
    if delay is None:
        return Temporary(message)
    return Temporary(f"{message}, to be tried again after {delay:g} s", delay=delay * (1 + SPREAD * random.random()))


def _first(headers: Headers, name: str) -> str:
    return next(iter(headers.get_all(name)), "")
