"""Artifacts over HTTP: Hugging Face's own clients, broken connections, corrupt bytes."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import torch
from transformers import AutoModelForCausalLM

from app.store.artifacts import Artifact
from app.store.blobs.rows import CHUNK_BYTES
from app.store.core.identifiers import Prefix, format_id
from tests.artifacts import make_artifact
from tests.cutting_proxy import cutting_proxy
from tests.deployments import Deploy, Deployment
from tests.live_service import make_key

MEBIBYTE = 2**20
LARGE_BYTES = 200 * MEBIBYTE
TOKENS = list(range(5, 45))

# What a client does that knows nothing of this service but `HF_ENDPOINT` and `HF_TOKEN`.
LOAD = """
import json, sys, torch
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer

repository, tokens, target = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
model = AutoModelForCausalLM.from_pretrained(repository).eval()
tokenizer = AutoTokenizer.from_pretrained(repository)
with torch.inference_mode():
    torch.save(model(input_ids=torch.tensor([tokens])).logits, target)
missing = {}
for name, arguments in {
    "file": (repository, "absent.json", None),
    "revision": (repository, "config.json", "absent"),
    "repository": ("acme/absent", "config.json", None),
}.items():
    try:
        hf_hub_download(arguments[0], arguments[1], revision=arguments[2])
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        missing[name] = type(error).__name__
info = HfApi().model_info(repository, files_metadata=True)
print(json.dumps({
    "snapshot": snapshot_download(repository),
    "pinned": snapshot_download(repository, revision=info.sha),
    "sha": info.sha,
    "files": {each.rfilename: each.lfs.sha256 for each in info.siblings},
    "missing": missing,
    "ids": tokenizer("What a client reads.")["input_ids"],
}))
"""
SNAPSHOT = "import sys; from huggingface_hub import snapshot_download; print(snapshot_download(sys.argv[1]))"


@pytest.fixture(scope="module")
def deployment(module_deploy: Deploy) -> Deployment:
    return module_deploy()


@pytest.fixture(scope="module")
def key(deployment: Deployment) -> str:
    return make_key(deployment.service.database_url, scopes=["edit:read", "audit:read", "audit:write"])


@pytest.fixture(scope="module")
def tiny_artifact(deployment: Deployment, tiny_checkpoint: Path) -> Artifact:
    return make_artifact(deployment.service.database_url, tiny_checkpoint, name="tiny")


@pytest.fixture(scope="module")
def large_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    with (directory / "weights.bin").open("wb") as file:
        for _ in range(LARGE_BYTES // MEBIBYTE):
            file.write(os.urandom(MEBIBYTE))
    (directory / "small.json").write_text("{}")
    return directory


@pytest.fixture(scope="module")
def large_artifact(deployment: Deployment, large_directory: Path) -> Artifact:
    return make_artifact(deployment.service.database_url, large_directory, name="large")


def as_hub_client(script: str, url: str, key: str, home: Path, *arguments: str) -> str:
    """Run a script whose Hugging Face clients take the service for their hub; what it prints."""
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_TOKEN": key,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def pull(url: str, key: str, artifact: str, directory: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MEMAUDIT_URL": url, "MEMAUDIT_API_KEY": key, "COLUMNS": "100"}
    command = [sys.executable, "-m", "app.cli", "pull", artifact, str(directory)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def public_id(artifact: Artifact) -> str:
    return format_id(Prefix.ARTIFACT, artifact.id)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): sha256(path)
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_unmodified_clients_load_the_model(
    deployment: Deployment, tiny_artifact: Artifact, tiny_checkpoint: Path, key: str, tmp_path: Path
) -> None:
    target = tmp_path / "logits.pt"
    arguments = ("acme/tiny", json.dumps(TOKENS), str(target))
    said = json.loads(as_hub_client(LOAD, deployment.service.url, key, tmp_path / "hf", *arguments))
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).eval()
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([TOKENS])).logits
    torch.testing.assert_close(torch.load(target), expected, atol=1e-6, rtol=0)
    assert said["missing"] == {
        "file": "RemoteEntryNotFoundError",
        "revision": "RevisionNotFoundError",
        "repository": "RepositoryNotFoundError",
    }
    assert said["sha"] == tiny_artifact.commit
    assert said["snapshot"] == said["pinned"]
    assert digests(Path(said["snapshot"])) == said["files"] == digests(tiny_checkpoint)


def test_a_wrong_key_loads_nothing(deployment: Deployment, tiny_artifact: Artifact, tmp_path: Path) -> None:
    script = (
        "import sys; from huggingface_hub import snapshot_download\n"
        "try: snapshot_download(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error.response.status_code)"
    )
    url = deployment.service.url
    said = as_hub_client(script, url, "mak_wrong", tmp_path / "hf", "acme/tiny")
    assert said == "HfHubHTTPError 401"
    other = make_key(deployment.service.database_url, tenant="other", scopes=["edit:read"])
    said = as_hub_client(script, url, other, tmp_path / "hf", "acme/tiny")
    assert said == "RepositoryNotFoundError 404"


@contextmanager
def peak_memory_of(process: psutil.Process) -> Iterator[list[int]]:
    """How far a process's resident memory grows beyond what it is now."""
    before, grown, done = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            grown[0] = max(grown[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    yield grown
    done.set()
    thread.join()


def test_an_interrupted_pull_resumes_and_verifies(
    deployment: Deployment, large_artifact: Artifact, large_directory: Path, key: str, tmp_path: Path
) -> None:
    assert deployment.service.api.process is not None
    api = psutil.Process(deployment.service.api.process.pid)
    cuts = (50 * MEBIBYTE, 70 * MEBIBYTE)
    with cutting_proxy(deployment.service.url, *cuts) as proxy, peak_memory_of(api) as grown:
        done = pull(proxy.url, key, public_id(large_artifact), tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path) == digests(large_directory)
    assert proxy.cuts == []
    # What had come before a cut was not asked for again, but for what was in flight.
    assert proxy.passed < LARGE_BYTES + 20 * MEBIBYTE
    # A few chunks for each connection, however large the file is: with 800 MiB it is the same.
    assert grown[0] < 160 * MEBIBYTE

    with cutting_proxy(deployment.service.url) as proxy:
        (tmp_path / "small.json").write_text("spoiled")
        assert pull(proxy.url, key, public_id(large_artifact), tmp_path).returncode == 0
    assert digests(tmp_path) == digests(large_directory)
    assert proxy.passed < MEBIBYTE


def test_a_pull_that_was_killed_goes_on_from_its_partial_file(
    deployment: Deployment, large_artifact: Artifact, large_directory: Path, key: str, tmp_path: Path
) -> None:
    digest = sha256(large_directory / "weights.bin")
    content = (large_directory / "weights.bin").read_bytes()
    partial = tmp_path / f".weights.bin.{digest[:16]}.part"
    partial.write_bytes(content[: 190 * MEBIBYTE])
    with cutting_proxy(deployment.service.url) as proxy:
        assert pull(proxy.url, key, public_id(large_artifact), tmp_path).returncode == 0
    assert digests(tmp_path) == digests(large_directory)
    assert proxy.passed < 11 * MEBIBYTE

    (tmp_path / "weights.bin").unlink()
    partial.write_bytes(b"x" + content[1 : 190 * MEBIBYTE])
    done = pull(deployment.service.url, key, public_id(large_artifact), tmp_path)
    assert (done.returncode, "does not match its SHA-256" in done.stderr) == (1, True), done.stderr
    assert digests(tmp_path).keys() == {"small.json"}


def test_an_interrupted_snapshot_resumes_and_verifies(
    deployment: Deployment, large_artifact: Artifact, large_directory: Path, key: str, tmp_path: Path
) -> None:
    with cutting_proxy(deployment.service.url, 60 * MEBIBYTE) as proxy:
        snapshot = as_hub_client(SNAPSHOT, proxy.url, key, tmp_path, "acme/large")
    assert digests(Path(snapshot)) == digests(large_directory)
    assert proxy.cuts == []
    assert proxy.passed < LARGE_BYTES + 20 * MEBIBYTE


def test_a_flipped_byte_ends_the_answer_before_it(deployment: Deployment, key: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights.bin").write_bytes(os.urandom(3 * CHUNK_BYTES))
    artifact = make_artifact(deployment.service.database_url, source, name="corrupt")
    content = (source / "weights.bin").read_bytes()
    with psycopg.connect(deployment.service.database_url, autocommit=True) as database:
        database.execute(
            "UPDATE blob_chunks SET data = set_byte(data, 77, get_byte(data, 77) # 1) "
            "WHERE ordinal = 1 AND sha256 = %s",
            (hashlib.sha256(content).hexdigest(),),
        )
    client = deployment.service.client_for(key)
    url = f"/v1/artifacts/{public_id(artifact)}/files/weights.bin"
    received = bytearray()
    with client.stream("GET", url) as answer:
        blocks = answer.iter_raw()
        while len(received) < CHUNK_BYTES:
            received += next(blocks)
        with pytest.raises(httpx.RemoteProtocolError):
            next(blocks)
    assert bytes(received) == content[:CHUNK_BYTES]
    last = client.get(url, headers={"Range": f"bytes={2 * CHUNK_BYTES}-"})
    assert last.content == content[2 * CHUNK_BYTES :]
    touched = client.get(url, headers={"Range": f"bytes={CHUNK_BYTES + 900}-{CHUNK_BYTES + 901}"})
    assert (touched.status_code, touched.json()["type"].rpartition("/")[2]) == (500, "artifact-corrupt")
    client.close()
    done = pull(deployment.service.url, key, public_id(artifact), tmp_path / "target")
    assert (done.returncode, "do not match their digest" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "target" / "weights.bin").exists()
