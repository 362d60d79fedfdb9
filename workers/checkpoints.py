"""Where a checkpoint lies on this worker's disk: under an allow-listed root, or in a hub's snapshot."""

from dataclasses import dataclass
from pathlib import Path

from httpx2 import TransportError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from app.contracts import HubSource, PathSource
from app.errors import HubUnreachable, LanguageModelRejected

# Weights in safetensors and what describes them: nothing that could carry code.
HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")


@dataclass(frozen=True)
class PinnedCheckpoint:
    """A directory with a checkpoint's files, and the commit they come from (None for a path)."""

    directory: Path
    commit: str | None


def locate(source: HubSource | PathSource, commit: str | None, roots: list[Path]) -> PinnedCheckpoint:
    """Find a checkpoint; a hub's is downloaded at `commit`, or at what its revision names now.

    Raises:
        LanguageModelRejected: the directory is not allowed or not there; the repository does not exist.
        HubUnreachable: the hub did not answer.
    """
    if isinstance(source, PathSource):
        return PinnedCheckpoint(_allowed_directory(source.path, roots), None)
    try:
        commit = commit or HfApi().model_info(source.repo, revision=source.revision).sha
        directory = snapshot_download(source.repo, revision=commit, allow_patterns=list(HUB_FILES))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise LanguageModelRejected(
            "The hub has no such repository or revision, or asks for a token."
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, TransportError, OSError) as error:
        raise HubUnreachable(f"The hub did not answer ({type(error).__name__}).") from None
    return PinnedCheckpoint(Path(directory), commit)


def _allowed_directory(path: str, roots: list[Path]) -> Path:
    directory = Path(path).resolve()
    if not any(directory.is_relative_to(root.resolve()) for root in roots):
        raise LanguageModelRejected(
            "The path leads outside the directories that MEMAUDIT_MODEL_ROOTS allows."
        )
    if not directory.is_dir():
        raise LanguageModelRejected("The path is not a directory on the worker's machine.")
    return directory
