"""News of changed rows. Triggers of the database send it with the commit, so that no writer can forget to.

A notification's payload is the id of a resource and nothing else. Changes of a job are news of what it works
for; those of an audit's job are news, too, of the studies that wait for the audit. The same news is sent once
in a transaction.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import psycopg

from app.store.core.sessions import CONNECT_ARGS, driver_url

# Migration 0006 names it too.
CHANNEL: Final = "memaudit_changes"


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[AsyncIterator[UUID]]:
    """The ids of resources that change from now on, over a connection of its own.

    The connection must be a session's own: behind a pooler that shares connections by transaction nothing is
    ever heard.

    Raises:
        psycopg.Error: the database cannot be reached, or is lost while one listens.
    """
    connection = await psycopg.AsyncConnection.connect(driver_url(url), autocommit=True, **CONNECT_ARGS)
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        yield _changed(connection)


async def _changed(connection: psycopg.AsyncConnection) -> AsyncIterator[UUID]:
    async for notification in connection.notifies():
        yield UUID(notification.payload)
