"""
`RedisAddress`: which server, as whom. Pure; equal ones can share a connection.
"""

from __future__ import annotations

from urllib.parse import unquote

import attrs

from pydrm.handlers.fields import Fields

__all__ = ["MAY_HOLD_SECRETS", "RedisAddress"]

MAY_HOLD_SECRETS = ("url", "username", "password")


@attrs.frozen
class RedisAddress:
    """`str` of it is for logs and people: it has no credentials in it."""

    host: str
    port: int
    secure: bool
    database: int
    username: str = attrs.field(repr=False)
    password: str = attrs.field(repr=False)

    @classmethod
    def of(cls, fields: Fields) -> RedisAddress:
        """From `url`, `redis[s]://[user[:password]@]host[:port][/database]`, and `username` and `password` if given."""
        _, parts = fields.url("url", ("redis", "rediss"))
        database = parts.path.strip("/")
        if database and not (database.isascii() and database.isdigit() and len(database) < 6):
            raise fields.wrong("url", f"must end with the number of a database, or without a path, not {database!r}")
        return cls(
            host=parts.hostname or "",
            port=parts.port or 6379,
            secure=parts.scheme == "rediss",
            database=int(database or 0),
            username=fields.text("username", unquote(parts.username or "")),
            password=fields.text("password", unquote(parts.password or "")),
        )

    def __str__(self) -> str:
        return f"Redis at {self.host}:{self.port}"
