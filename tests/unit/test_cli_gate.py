"""The exit statuses of `memaudit gate`, of which 0, 1 and 2 are decisions."""

import json
from pathlib import Path

import pytest
import typer

from app.cli.failures import explained
from app.cli.gate import undecided
from memaudit import RequestRefused, ServiceUnreachable
from tests.command_line import invoke


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServiceUnreachable("away", sent=False), 3),
        (RequestRefused("no", status=409, problem=None), 4),
        (ValueError("not set"), 4),
        (KeyError("a defect"), 4),
    ],
)
def test_a_failure_is_not_taken_for_a_decision(error: Exception, status: int) -> None:
    with pytest.raises(typer.Exit) as ended, undecided(), explained():
        raise error
    assert ended.value.exit_code == status


@pytest.mark.parametrize("key", ["idempotency_key", "self", "ruels"])
def test_a_file_with_what_no_policy_has_is_refused(key: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"name": "strict", "rules": [], key: "mine"}))
    done = invoke("gate", "--policy", policy, "--audit", f"aud_{'0' * 32}")
    assert done.exit_code == 4
    assert key in done.stderr
