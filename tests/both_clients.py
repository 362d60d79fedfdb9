"""The two faces of the client behind one: tests are written for the asynchronous one and run on both."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

from memaudit import AsyncClient, Client

FACES = ("synchronous", "asynchronous")


def client_of(face: str, url: str, key: str, **options: Any) -> Any:
    """A client of a face, as an asynchronous one."""
    if face == "asynchronous":
        return AsyncClient(url, key, **options)
    return Awaitable(Client(url, key, **options))


class Awaitable:
    """A synchronous client, or a part of it, each of whose calls is waited for in a thread."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        return _awaited(found) if inspect.ismethod(found) else Awaitable(found)

    async def __aenter__(self) -> Self:
        self._part.__enter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._part.__exit__(*raised)


def _awaited(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is waited for; one that gives an iterator gives one that waits for each item."""
    if inspect.isgeneratorfunction(method) or "Iterator" in str(inspect.signature(method).return_annotation):
        return lambda *arguments, **named: _items(method(*arguments, **named))

    async def wait(*arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(method, *arguments, **named)

    return wait


async def _items(items: Iterator[Any]) -> AsyncIterator[Any]:
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield item
