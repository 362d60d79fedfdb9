"""Kinds of jobs of the queue `cpu`: their workers have neither torch nor transformers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import CPU_QUEUE
from app.store.jobs.kinds import KINDS, JobKind

ROOT = Path(__file__).resolve().parents[2]
RESOLVE = """
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers"):
            raise ModuleNotFoundError(f"{name} is not installed here")


sys.meta_path.insert(0, Refuse())
from workers.running.handlers import resolve

assert callable(resolve(sys.argv[1]))
"""


def resolve_without_torch(handler: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RESOLVE, handler],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if kind.queue == CPU_QUEUE], ids=lambda kind: kind.name
)
def test_a_handler_of_the_queue_cpu_is_imported_without_torch(kind: JobKind) -> None:
    imported = resolve_without_torch(kind.handler)
    assert imported.returncode == 0, imported.stderr


def test_a_handler_that_needs_torch_is_found_out() -> None:
    imported = resolve_without_torch("workers.audits.score:score_shard")
    assert imported.returncode != 0
    assert "torch is not installed here" in imported.stderr
