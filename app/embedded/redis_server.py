"""Redis as our own child."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded.binaries import redis_binary
from app.embedded.processes import end, spawn
from app.embedded.servers import SERVER_ENVIRONMENT, Server


class RedisServer(Server):
    """A Redis that keeps nothing on disk: it only rings, and the truth is in Postgres."""

    kind = "redis"

    @property
    def url(self) -> str:
        """The broker URL as Celery reads it."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The broker URL of one of the server's 64 numbered databases."""
        if self.port is not None and self.password is not None:
            return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"
        return f"redis+socket://{quote(os.fspath(self._socket))}?virtual_host={database}"

    def client(self, database: int = 0) -> redis.Redis:
        """A client of one of the server's numbered databases, which fails at once when nobody answers."""
        at_once = Retry(NoBackoff(), retries=0)
        if self.port is not None:
            return redis.Redis(
                host="127.0.0.1", port=self.port, password=self.password, db=database, retry=at_once
            )
        return redis.Redis(unix_socket_path=os.fspath(self._socket), db=database, retry=at_once)

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerFailed: if it ends or does not answer within a minute; names its log file.
            BinaryMissing: if there is no redis-server.
        """
        self.process = spawn(
            [redis_binary(), "-"],
            log=self.log,
            environment=SERVER_ENVIRONMENT,
            death_signal=signal.SIGKILL,
            directory=self.layout.sockets,
            stdin=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin:
            self.process.stdin.write(self._configuration().encode())
        self.wait_until_ready()

    def stop(self) -> None:
        """End the server; what was rung and not heard is lost, and rung again by the sweeper."""
        if self.process is not None:
            end(self.process, (signal.SIGTERM, 5.0))

    def kill(self) -> None:
        """SIGKILL to the server."""
        if self.process is not None:
            end(self.process)

    def answers(self) -> bool:
        """Whether a ping is answered right now."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    @property
    def _socket(self) -> Path:
        return self.layout.sockets / "redis.sock"

    def _configuration(self) -> str:
        """The configuration, read from stdin so that the password is in no process list."""
        lines = ['save ""', "appendonly no", "daemonize no", "loglevel warning", "databases 64"]
        if self.port is None:
            lines += ["port 0", f"unixsocket {json.dumps(os.fspath(self._socket))}", "unixsocketperm 700"]
        else:
            lines += [f"port {self.port}", "bind 127.0.0.1", f"requirepass {json.dumps(self.password)}"]
        return "\n".join(lines) + "\n"
