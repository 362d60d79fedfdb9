"""Generated requests against a live service: no 5xx, no undocumented status, answers as the schema says.

MEMAUDIT_TEST_FUZZ_MINUTES lets it go on for longer (`make fuzz`).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.signing.keys import ensure_signing_key
from tests.live_service import LiveService

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = round(60 * float(os.environ.get("MEMAUDIT_TEST_FUZZ_MINUTES", "0.42")))
# A schema cannot say all that the contract asks for: no NUL, fields that depend on each other, one name only.
# A request repeated with its Idempotency-Key is answered as the first time, with what may be deleted since.
NOT_PROMISED = "positive_data_acceptance,ensure_resource_availability"


@pytest.mark.timeout(600 + 2 * SECONDS)
def test_generated_requests(database_url: str, broker_url: str, tmp_path: Path) -> None:
    ensure_signing_key(tmp_path / "signing-keys")
    with LiveService(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        model_roots=[],
        MEMAUDIT_WRONG_KEYS_A_MINUTE="100000",
    ) as service:
        schemathesis = [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(Path(__file__).with_name("schemathesis.toml")),
            "run",
            f"{service.url}/openapi.json",
        ]
        options = {
            "--header": f"Authorization: Bearer {service.key}",
            "--checks": "all",
            "--exclude-checks": NOT_PROMISED,
            "--max-time": str(SECONDS),
            "--request-timeout": "20",
            "--generation-database": "none",
            "--seed": "1",
        }
        environment = {
            "SCHEMATHESIS_HOOKS": "tests.acceptance.schemathesis_hooks",
            "PYTHONPATH": str(REPOSITORY),
        }
        run = subprocess.run(
            [
                *schemathesis,
                "--continue-on-failure",
                *(word for option in options.items() for word in option),
            ],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout[run.stdout.find("= FAILURES =") :][:20_000]
        operations = sum(map(len, service.client.get("/openapi.json").json()["paths"].values()))
        assert f"Tested: {operations}" in run.stdout
        assert service.client.get("/readyz").status_code == 200
        logs = service.logs()
    assert '"status": 5' not in logs
    assert "unexpected_error" not in logs
