"""Loaded into a real worker by `celery --include`: a device that breaks at some audits, and stays broken.

There is no other way to break a device on a machine that has none.
"""

from typing import Any, Final

import torch
from celery.signals import worker_process_init

# An audit with this metadata breaks the device of the process that scores its texts.
BREAKING: Final = {"breaks": "the device"}


@worker_process_init.connect
def _let_it_break(**_: Any) -> None:
    """In the child only, as everything that has to do with torch."""
    from app.store.audits import Audit  # noqa: PLC0415 - as the line below
    from app.store.jobs.kinds import SCORE_SHARD  # noqa: PLC0415 - as the line below
    from workers.running.handlers import HANDLERS, handler_of  # noqa: PLC0415 - torch is touched in the child only

    score_shard = handler_of(SCORE_SHARD.name)
    broken = False

    def score_on_a_device_that_breaks(runtime: Any, lease: Any, keeper: Any) -> int:
        nonlocal broken
        with runtime.sessions() as session:
            broken = broken or session.get_one(Audit, lease.audit_id).metadata_ == BREAKING
        if broken:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        return score_shard(runtime, lease, keeper)

    HANDLERS[SCORE_SHARD.name] = score_on_a_device_that_breaks
