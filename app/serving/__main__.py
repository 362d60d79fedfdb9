"""`python -m app.serving`: one API process. It logs its requests itself, by route and never by URL."""

import argparse

import uvicorn

from app.serving.protocol import BoundedProtocol


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--drain-seconds", type=int, required=True, help="that open requests have at the end")
    arguments = parser.parse_args()
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


if __name__ == "__main__":
    main()
