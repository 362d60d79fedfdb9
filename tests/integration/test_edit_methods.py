"""Edit methods by their registries: a toy one is added through them alone, an unknown one fails by name."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import torch
from safetensors.torch import load_file

from app.store.enqueueing import enqueue_edit
from app.store.jobs.kinds import RUN_EDIT
from tests.integration.rows import add_edit, add_tenant
from tests.own_worker import run_next
from tests.tiny_models import save_tiny_model
from workers.running.runtime import Runtime

ROOT = Path(__file__).parents[2]
# As if the method had been added to the two packages: it is there before anything that derives from them.
PROGRAM = """
import tests.toy_edit_method.contract
import tests.toy_edit_method.method
from tests.toy_edit_method.edit import main
main()
"""


def edited_by_toy(*arguments: str) -> dict[str, Any]:
    """What came of an edit by the toy method, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def test_a_method_added_through_the_registries_alone_is_asked_for_run_and_answered(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    home, model = tmp_path / "home", save_tiny_model(tmp_path / "model")
    home.mkdir()
    toy = edited_by_toy(database_url, broker_url, str(home), str(model))
    the_edit_is_proved(toy["edit"])
    assert "model.safetensors" in {file["path"] for file in toy["artifact"]["files"]}
    before, after = load_file(model / "model.safetensors"), load_file(home / "edited.safetensors")
    (changed,) = [name for name, weight in after.items() if not torch.equal(weight, before[name])]
    assert changed == "model.layers.1.mlp.down_proj.weight"
    torch.testing.assert_close(after[changed], before[changed] * 0.25)
    what_it_would_ignore_is_refused(toy["refused"])
    assert "zero" not in toy["other"]["spec"]
    the_api_describes_it(toy["openapi"]["components"]["schemas"])


def the_edit_is_proved(edit: dict[str, Any]) -> None:
    assert (edit["status"], edit["method"]) == ("succeeded", "zero"), edit["error"]
    assert edit["spec"]["zero"] == edit["receipt"]["parameters"] == {"factor": 0.25}
    (matrix,) = edit["receipt"]["matrices"]
    assert (matrix["layer"], matrix["role"]) == (1, "down")


def what_it_would_ignore_is_refused(problems: list[dict[str, Any]]) -> None:
    assert [[(error["code"], error["pointer"]) for error in problem["errors"]] for problem in problems] == [
        [("parameter_of_another_method", "")],
        [("less_than", "/zero/factor")],
        [("parameter_of_another_method", "")],
    ]


def the_api_describes_it(schemas: dict[str, Any]) -> None:
    names = ["kfac", "balanced_subnet", "svd", "zero"]
    assert schemas["EditCreate"]["properties"]["method"]["enum"] == names
    receipt = schemas["EditOut"]["properties"]["receipt"]["anyOf"][0]
    assert list(receipt["discriminator"]["mapping"]) == sorted(names)
    assert "ZeroOptions" in schemas


def test_a_method_of_a_later_release_fails_the_edit_by_its_name(
    runtime: Runtime, database: psycopg.Connection
) -> None:
    """A request that a newer service took may come to a worker that was not changed yet."""
    with runtime.sessions.begin() as session:
        edit = add_edit(session, add_tenant(session))
        edit.spec = edit.spec | {"method": "lora", "lora": {"rank": 8}}
        enqueue_edit(session, edit)
    assert run_next(runtime) == RUN_EDIT.name
    row = database.execute("SELECT status, error->>'type', error->>'detail' FROM edits").fetchone()
    assert row is not None
    assert row[:2] == ("failed", "https://memaudit.dev/problems/edit-failed")
    assert "'lora'" in row[2]
