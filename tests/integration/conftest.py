"""The service in this process, on the real servers."""

from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.http_api import client_of, make_key, running_app


@pytest.fixture
def settings(database_url: str, broker_url: str) -> Settings:
    return Settings(database_url=database_url, broker_url=broker_url)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with running_app(settings) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key that may read and write audits."""
    async with client_of(app, make_key(settings)) as client:
        yield client


@pytest.fixture
def database(settings: Settings) -> Iterator[psycopg.Connection]:
    """What the service wrote, read past it."""
    url = settings.require_database_url().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
