"""A worker process whose device is broken ends; Celery starts another, and the job is counted once a try."""

from pathlib import Path

from tests import broken_device
from tests.deployments import Deploy
from tests.live_service import job_process, until

ROOT = Path(broken_device.__file__).parents[1]


def test_a_broken_device_ends_its_process_and_no_other_job(deploy: Deploy, tiny_checkpoint: Path) -> None:
    deployment = deploy(MEMAUDIT_RETRY_SECONDS="3", PYTHONPATH=str(ROOT))
    service = deployment.service
    worker = service.start_worker(include=broken_device.__name__)
    model = service.register(tiny_checkpoint)
    assert service.model(model)["status"] == "ready"
    before = job_process(worker).pid

    poisoned = service.audit(model, service.upload([{"text": "It breaks."}]), metadata=broken_device.BREAKING)
    until(lambda: "device_broken" in worker.log.read_text(), "the device breaks")
    shard = "SELECT state, attempts, worker FROM jobs WHERE kind = 'score_shard' AND audit_id = '{}'"
    until(lambda: deployment.rows(shard.format(_uuid(poisoned)))[0][:2] == ("queued", 1), "it counts once", 2)

    sound = [service.audit(model, service.upload([{"text": f"It is sound: {n}."}])) for n in range(2)]
    for audit in sound:
        assert service.end_of(audit)["status"] == "succeeded", service.logs()
        ((state, attempts, name),) = deployment.rows(shard.format(_uuid(audit)))
        assert (state, attempts) == ("succeeded", 1)
        assert int(name.rpartition(":")[2]) != before

    ended = service.end_of(poisoned)
    assert ended["status"] == "failed"
    assert ended["error"]["type"].endswith("/job-crashed")
    assert "device" in ended["error"]["detail"]
    assert deployment.rows(shard.format(_uuid(poisoned)))[0][:2] == ("failed", 3)
    assert worker.log.read_text().count("device_broken") == 3
    # The worker itself lives on.
    assert worker.process is not None
    assert worker.process.poll() is None


def _uuid(audit_id: str) -> str:
    return audit_id.removeprefix("aud_")
