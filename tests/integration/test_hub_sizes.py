"""A repository of a hub is weighed before anything of it is downloaded."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from app.contracts.sources import HubSource
from app.errors import LanguageModelRejected
from app.settings import Settings
from tests.hub_server import REPOSITORY, hub
from tests.tiny_models import save_tiny_model
from workers.models.checkpoints import locate

SOURCE = HubSource(type="hub", repo=REPOSITORY)
COMMIT = "1" * 40


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that a hub serves, with a file that workers do not download."""
    directory = save_tiny_model(tmp_path / "tiny")
    (directory / "training.bin").write_bytes(bytes(100_000))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with hub({COMMIT: directory}, {"main": COMMIT}) as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        files = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield directory


def test_what_is_larger_than_models_may_be_is_not_downloaded(served: Path, tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in served.iterdir() if path.suffix != ".bin")
    said = f"have {size} bytes together, and MEMAUDIT_MAX_MODEL_BYTES .* {size - 1}"
    with pytest.raises(LanguageModelRejected, match=said):
        locate(SOURCE, None, Settings(max_model_bytes=size - 1))
    assert not (tmp_path / "hub").exists()
    found = locate(SOURCE, None, Settings(max_model_bytes=size))
    assert found.commit == COMMIT
    shutil.copytree(found.directory, tmp_path / "copy")
    assert sum(path.stat().st_size for path in (tmp_path / "copy").iterdir()) == size
