"""The functions that run jobs, imported when a process first needs them: not every worker has torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from app.store.jobs.kinds import KINDS
from app.store.jobs.leases import Lease
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime

# It returns how many jobs it has enqueued.
Handler = Callable[[Runtime, Lease, LeaseKeeper], int]

# Those that this process has needed so far, by kind.
HANDLERS: Final[dict[str, Handler]] = {}


def handler_of(kind: str) -> Handler:
    """The function that runs jobs of a kind, as it is registered in `app.store.jobs.kinds`."""
    if kind not in HANDLERS:
        HANDLERS[kind] = resolve(KINDS[kind].handler)
    return HANDLERS[kind]


def resolve(path: str) -> Handler:
    """The function at `module:function`.

    Raises:
        ImportError, AttributeError: there is none.
    """
    module, _, function = path.partition(":")
    return cast("Handler", getattr(import_module(module), function))
