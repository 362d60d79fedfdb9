"""`python -m app.serving`: one API process. It logs its requests itself, by route and never by URL."""

import argparse
import gc
import resource
from typing import Final

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.serving.protocol import BoundedProtocol

# Objects more than were freed, and how often a generation is searched until the next older one is.
_COLLECTED_AFTER: Final = (20_000, 10, 10)


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--drain-seconds", type=int, required=True, help="that open requests have at the end")
    arguments = parser.parse_args()
    _allow_open_files()
    uvicorn.run(
        _application,
        factory=True,
        host=arguments.host,
        port=arguments.port,
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=arguments.drain_seconds,
    )


def _application() -> FastAPI:
    """The application, with few searches for garbage, and none among what is kept to the end.

    Each request makes thousands of objects, nearly all freed by their counts. To look for cycles as often as
    the interpreter does by itself took a seventh of the time of a request; to look among the quarter of a
    million objects of the libraries took tenths of a second, in which nothing was answered.
    """
    application = create_app()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)
    return application


def _allow_open_files() -> None:
    """Each connection is an open file; many systems allow few unless a process asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
