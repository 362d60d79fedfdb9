"""`python -m app.serving`: one API process. It logs its requests itself, by route and never by URL."""

import argparse
import resource

import uvicorn

from app.serving.protocol import BoundedProtocol


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--drain-seconds", type=int, required=True, help="that open requests have at the end")
    arguments = parser.parse_args()
    _allow_open_files()
    uvicorn.run(
        "app.main:create_app",
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


def _allow_open_files() -> None:
    """Each connection is an open file; many systems allow few unless a process asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
