"""`python -m tests.benchmarks.slow_clients`: what others notice of clients that send or read slowly.

Others ask at a fixed rate, from a process of their own, before slow clients come and while they are there.
Some of these send headers byte by byte, some a body, and some do not read the large answers they ask for. Who
is dropped comes again. Both figures are of one run on one machine, and their ratio is what counts.
"""

import argparse
import asyncio
import itertools
import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import psutil

from tests.benchmarks.limits import Line, print_and_exit
from tests.servers import RunningService, memaudit_up

MOST_RATIO: Final = 2.0
# Below this a p99 is the noise of the machine, and a ratio of two of them means nothing.
LEAST_P99_SECONDS: Final = 0.01
# Slow clients come one after the other: a burst of large answers would be another measurement.
RAMP_SECONDS: Final = 10.0
# Of a large answer: more than the operating system keeps for a connection.
ANSWER_CHARS: Final = 3_900_000


@dataclass(frozen=True)
class Plan:
    """What a process of clients does: slow ones, or some that ask for a path at a fixed rate."""

    host: str
    port: int
    key: str
    seconds: float
    slow: int
    path: str
    rate: float


def main() -> None:
    """Measure, print, and end with 1 if a limit was missed; with a plan on stdin, be the clients of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the two measurements")
    parser.add_argument("--clients", type=int, default=200, help="slow ones")
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second of others")
    parser.add_argument("--be-clients", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be_clients:
        plan = Plan(**json.load(sys.stdin))
        json.dump(asyncio.run(be_slow(plan) if plan.slow else be_others(plan)), sys.stdout)
        return
    with tempfile.TemporaryDirectory() as directory, memaudit_up(Path(directory) / "home") as service:
        print_and_exit(measure(service, arguments))


def measure(service: RunningService, arguments: argparse.Namespace) -> Iterator[Line]:
    """The figures with and without slow clients."""
    parts = urlsplit(service.url)
    assert parts.hostname is not None
    assert parts.port is not None
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, headers=headers, trust_env=False, timeout=60) as client:
        text_set = store_texts(client)
        shared = {
            "host": parts.hostname,
            "port": parts.port,
            "key": service.key,
            "seconds": arguments.seconds,
        }
        others = Plan(**shared, slow=0, path=f"/v1/text-sets/{text_set}", rate=arguments.rate)
        slow = Plan(**shared, slow=arguments.clients, path=f"/v1/text-sets/{text_set}/texts", rate=0)
        api = api_of(service)
        carry_out(others)  # the first requests open connections of the database
        without, memory = carry_out(others), api.memory_info().rss
        with running(slow) as process:
            time.sleep(RAMP_SECONDS + 1)
            beside = carry_out(others)
            most, open_files = api.memory_info().rss, api.num_fds()
            output, _ = process.communicate()
        ended = Counter(json.loads(output))
        refused = [line for line in client.get("/metrics").text.splitlines() if "refused_total{" in line]
    for name, answered in (("alone", without), (f"beside {arguments.clients} slow clients", beside)):
        print(f"  {name}: p50 {told(answered, 0.5)}, p99 {told(answered, 0.99)} of {len(answered)} answers")
    print(f"  what became of connections of slow clients: {dict(ended)}")
    print("  " + "\n  ".join(line for line in refused if not line.endswith(" 0.0")))
    print(f"  memory of the API {memory / 2**20:.0f} MiB, then {most / 2**20:.0f}; {open_files} open files")
    due = int(arguments.rate * arguments.seconds)
    ratio = max(quantile(beside, 0.99), LEAST_P99_SECONDS) / max(quantile(without, 0.99), LEAST_P99_SECONDS)
    yield Line(
        f"p99 of others beside {arguments.clients} slow clients, against alone",
        f"{ratio:.2f} x, {due - len(beside)} failed",
        f"at most {MOST_RATIO:.0f} x, 0 failed",
        ratio <= MOST_RATIO and len(beside) == due,
    )


def told(seconds: Sequence[float], share: float) -> str:
    """A quantile in words."""
    return f"{quantile(seconds, share) * 1000:.1f} ms"


def quantile(seconds: Sequence[float], share: float) -> float:
    """The value that a share of all does not exceed."""
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def store_texts(client: httpx.Client) -> str:
    """A text set of which a page is a large answer that costs little to make."""
    texts = [{"text": "x" * ANSWER_CHARS}]
    stored = client.post("/v1/text-sets", json={"name": "read slowly", "texts": texts})
    return str(stored.raise_for_status().json()["id"])


def api_of(service: RunningService) -> psutil.Process:
    """The API process."""
    children = psutil.Process(service.process.pid).children(recursive=True)
    return next(each for each in children if "app.serving" in each.cmdline())


@contextmanager
def running(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    """Clients in a process of their own."""
    command = [sys.executable, "-m", "tests.benchmarks.slow_clients", "--be-clients"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(plan)))
        process.stdin.close()
        process.stdin = None
        yield process


def carry_out(plan: Plan) -> list[float]:
    """Let others ask; the seconds of each that was answered, since it was due."""
    with running(plan) as process:
        output, _ = process.communicate()
    return [float(each) for each in json.loads(output)]


async def be_others(plan: Plan) -> list[float]:
    """Ask at a fixed rate, whether or not earlier requests were answered."""
    headers = {"Authorization": f"Bearer {plan.key}"}
    url = f"http://{plan.host}:{plan.port}"
    answered: list[float] = []
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        began = time.perf_counter()

        async def ask(number: int) -> None:
            due = began + number / plan.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            with suppress(httpx.HTTPError):
                if (await client.get(plan.path)).status_code == httpx.codes.OK:
                    answered.append(time.perf_counter() - due)

        await asyncio.gather(*(ask(number) for number in range(int(plan.rate * plan.seconds))))
    return answered


async def be_slow(plan: Plan) -> list[str]:
    """Be so many slow clients for longer than others ask; what became of each connection."""
    authorized = f"Host: {plan.host}\r\nAuthorization: Bearer {plan.key}\r\n"
    get = f"GET {plan.path} HTTP/1.1\r\n{authorized}"
    post = f"POST /v1/text-sets HTTP/1.1\r\n{authorized}"
    post += "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    kinds = itertools.cycle([(get, "X-Slow: "), (post, '{"name": "'), (f"{get}\r\n", "")])
    ended: list[str] = []
    end = time.perf_counter() + RAMP_SECONDS + plan.seconds + 5

    async def stay(number: int, first: str, rest: str) -> None:
        await asyncio.sleep(RAMP_SECONDS * number / plan.slow)
        while time.perf_counter() < end:
            ended.append(await be_one(plan, first, rest, end))

    await asyncio.gather(*(stay(number, *next(kinds)) for number in range(plan.slow)))
    return ended


async def be_one(plan: Plan, first: str, rest: str, end: float) -> str:
    """One connection, on which nothing is read: the first part of a request at once, then a byte a second."""
    with socket.socket() as connection:
        connection.settimeout(0)
        # The operating system reads little on its own account.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        gone = select.poll()
        gone.register(connection, select.POLLRDHUP)
        trickled = itertools.chain(rest, itertools.repeat("x")) if rest else itertools.repeat("")
        try:
            await asyncio.get_running_loop().sock_connect(connection, (plan.host, plan.port))
            connection.send(first.encode())
            while time.perf_counter() < end:
                await asyncio.sleep(1)
                if gone.poll(0):
                    return "closed"
                connection.send(next(trickled).encode())
        except OSError:
            return "broken"
    return "still open"


if __name__ == "__main__":
    main()
