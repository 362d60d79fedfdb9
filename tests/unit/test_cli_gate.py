"""The exit statuses of `memaudit gate`, of which 0, 1 and 2 are decisions."""

import pytest
import typer

from app.cli.client import RequestRefused, ServiceUnreachable
from app.cli.failures import explained
from app.cli.gate import undecided


@pytest.mark.parametrize(
    ("error", "status"),
    [(ServiceUnreachable("away"), 3), (RequestRefused("no"), 4), (ValueError("not set"), 4)],
)
def test_a_failure_is_not_taken_for_a_decision(error: Exception, status: int) -> None:
    with pytest.raises(typer.Exit) as ended, undecided(), explained():
        raise error
    assert ended.value.exit_code == status
