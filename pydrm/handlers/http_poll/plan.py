"""
`Plan`: what an http_poll resource's fields say, checked and with its templates filled in. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import attrs

from pydrm.core.resource import Resource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.decoding import DECODES
from pydrm.handlers.fields import Fields
from pydrm.handlers.secrets import Secrets
from pydrm.handlers.template import TemplateError, render_json

__all__ = ["MAY_HOLD_SECRETS", "Plan"]

METHODS = ("GET", "HEAD", "POST")
INTERVAL_LEAST_S = 0.01
INTERVAL_MOST_S = 30 * 86_400.0
TIMEOUT_S = 30.0
BYTES_MAX = 10 * 1024 * 1024
WAIT_MAX_S = 3600.0
PAGES_MAX = 100

MAY_HOLD_SECRETS = ("url", "headers", "body")


@attrs.frozen
class Plan:
    """
    Attributes:
        origin: Scheme, host and port of the url, in one string.
        jitter_s: Up to so much is added to each due time.
        bytes_max: How long a body may be, unpacked.
        wait_max_s: How long max-age and Retry-After may hold a poll back, beyond the interval.
        on_change, on_response, next_request: Names of callbacks, or "".
        pages_max: How many requests may follow one another in one poll.
        digest: Of what is asked for; it differs if the checkpoint of an older definition must not be gone on with.
    """

    id: str
    url: str
    origin: str
    method: str
    headers: Mapping[str, str]
    body: bytes | None
    interval_s: float
    jitter_s: float
    timeout_s: float
    bytes_max: int
    wait_max_s: float
    decode: str
    on_change: str
    on_response: str
    next_request: str
    pages_max: int
    digest: str

    @classmethod
    def of(
        cls,
        resource: Resource,
        *,
        node: str,
        token: int,
        callbacks: Callbacks | None = None,
        secrets: Secrets | None = None,
    ) -> Plan:
        """
        Args:
            callbacks: Those that must have the names that the fields give; None: they are not looked for.
            secrets: What references stand for; None: the rest is checked.

        Raises:
            InvalidResource: A field cannot be used; it is named.
        """
        fields = Fields(resource, node=node, token=token, may_hold_secrets=MAY_HOLD_SECRETS, secrets=secrets)
        url, parts = fields.url("url", ("http", "https"))
        if parts.username is not None or parts.password is not None:
            raise fields.wrong("url", "must not have a user or password in it; send an Authorization header")
        method = fields.choice("method", "GET", METHODS)
        interval_s = fields.seconds("interval", None, least=INTERVAL_LEAST_S, most=INTERVAL_MOST_S)
        headers = fields.headers("headers")
        body = _body(fields, method)
        if body is not None and not isinstance(fields.raw("body"), str):
            headers = {"Content-Type": "application/json"} | headers
        return cls(
            id=resource.id,
            url=url,
            origin=f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}",
            method=method,
            headers=headers,
            body=body,
            interval_s=interval_s,
            jitter_s=fields.seconds("jitter", 0.0, least=0, most=interval_s),
            timeout_s=fields.seconds("timeout", TIMEOUT_S, least=0.01, most=3600),
            bytes_max=fields.whole("max_bytes", BYTES_MAX, least=0, most=2**31),
            wait_max_s=fields.seconds("max_wait", WAIT_MAX_S, least=0, most=INTERVAL_MOST_S),
            decode=fields.choice("decode", "bytes", DECODES),
            on_change=fields.callback("on_change", callbacks),
            on_response=fields.callback("on_response", callbacks),
            next_request=fields.callback("next_request", callbacks),
            pages_max=fields.whole("max_pages", PAGES_MAX, least=1, most=100_000),
            digest=_digest(resource),
        )


def _body(fields: Fields, method: str) -> bytes | None:
    value = fields.raw("body")
    if value is None:
        return None
    if method != "POST":
        raise fields.wrong("body", f"cannot be sent with {method}; it needs the method POST")
    if isinstance(value, str):
        return fields.render("body", value).encode()
    try:
        filled = render_json(value, fields.values)
    except TemplateError as error:
        raise fields.wrong("body", str(error)) from None
    return json.dumps(filled, ensure_ascii=False, separators=(",", ":")).encode()


def _digest(resource: Resource) -> str:
    # The templates, not what they stand for: a token differs with each holder, and a secret may be renewed.
    asked = [resource.get(name) for name in ("url", "method", "body", "next_request")]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
