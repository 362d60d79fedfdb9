"""Where a checkpoint lies on this worker's disk: under an allow-listed root, or fetched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from huggingface_hub import HfApi, RepoFile, snapshot_download
from huggingface_hub.utils._paths import filter_repo_objects
from pydantic import Discriminator, TypeAdapter

from app.contracts.sources import ArtifactSource, HubSource, PathSource
from app.errors import LanguageModelRejected
from app.settings import Settings
from app.store.core.identifiers import Prefix, parse_id
from app.store.language_models import LanguageModel
from workers.hub import HUB_FAILURES, hub_failure, pin_hub
from workers.models.artifact_files import ArtifactCache
from workers.science.errors import CheckpointRejected
from workers.science.models.checkpoint_files import reject_other_formats
from workers.science.models.opened_checkpoint import opened_checkpoint, require_bearable

# Weights in safetensors and what describes them: nothing that could carry code.
HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")

_INSTEAD: Final = "register the language model again, or register a directory on their machine."

_source: TypeAdapter[HubSource | PathSource | ArtifactSource] = TypeAdapter(
    Annotated[HubSource | PathSource | ArtifactSource, Discriminator("type")]
)


@dataclass(frozen=True)
class PinnedCheckpoint:
    """A directory with a checkpoint's files, and the commit they come from (None for a path).

    `roots` are the directories that its links may lead to.
    """

    directory: Path
    commit: str | None
    roots: tuple[Path, ...] = ()


class Checkpoints:
    """Brings the files of language models to this worker's disk.

    Args:
        settings: which directories are allowed.
        artifacts: the edited models' files.
    """

    def __init__(self, settings: Settings, artifacts: ArtifactCache) -> None:
        self._settings = settings
        self._artifacts = artifacts

    def locate(self, row: LanguageModel) -> PinnedCheckpoint:
        """Find a language model's files; once it is pinned, those of its revision.

        Raises:
            LanguageModelRejected: the directory is not allowed or not there; the repository or the artifact
                does not exist.
            HubUnreachable: the hub did not answer.
            ArtifactCorrupt: the stored bytes of an edited model do not match their digests.
            StorageFull: an edited model does not fit on this worker's disk.
            StorageUnavailable: the artifact store did not answer.
        """
        source = read_source(row)
        if not isinstance(source, ArtifactSource):
            pin_hub(*self._settings.hub_hosts)
            return locate(source, row.revision, self._settings)
        artifact_id = parse_id(Prefix.ARTIFACT, source.artifact)
        assert artifact_id is not None
        directory, commit = self._artifacts.materialize(row.tenant_id, artifact_id)
        return PinnedCheckpoint(directory, commit, (directory,))

    @contextmanager
    def opened(self, row: LanguageModel) -> Iterator[PinnedCheckpoint]:
        """A language model's files for reading, see `opened_checkpoint`.

        Raises:
            LanguageModelRejected: as `locate`; also if a file may not be read, and in place of a
                `CheckpointRejected` that is raised while they are open.
            HubUnreachable, ArtifactCorrupt, StorageFull, StorageUnavailable: as `locate`.
        """
        located = self.locate(row)
        try:
            most_bytes = self._settings.max_model_bytes
            with opened_checkpoint(located.directory, located.roots, most_bytes) as directory:
                yield PinnedCheckpoint(directory, located.commit)
        except CheckpointRejected as error:
            raise LanguageModelRejected(error.detail) from None


def read_source(row: LanguageModel) -> HubSource | PathSource | ArtifactSource:
    """The source of a registered language model."""
    return _source.validate_python(row.source)


def locate(source: HubSource | PathSource, commit: str | None, settings: Settings) -> PinnedCheckpoint:
    """Find a checkpoint; a hub's is downloaded at `commit`, or at what its revision names now.

    Raises:
        LanguageModelRejected: the directory is not allowed or not there; the hub refuses the repository, or
            must not be asked; its weights are in another format, or it is larger than models may be.
        HubUnreachable: the hub did not answer.
    """
    if isinstance(source, PathSource):
        roots = settings.model_roots
        return PinnedCheckpoint(_allowed_directory(source.path, roots), None, tuple(roots))
    try:
        if commit is None:
            info = HfApi().model_info(source.repo, revision=source.revision)
            # What is not downloaded cannot be told afterwards.
            reject_other_formats([file.rfilename for file in info.siblings or ()])
            commit = info.sha
            require_bearable(_sizes(source.repo, commit), settings.max_model_bytes)
        directory = snapshot_download(source.repo, revision=commit, allow_patterns=list(HUB_FILES))
    except CheckpointRejected as error:
        raise LanguageModelRejected(error.detail) from None
    except HUB_FAILURES as error:
        raise hub_failure(error, refused=LanguageModelRejected, instead=_INSTEAD) from error
    # Its files are links into the cache of the repository, two directories up.
    return PinnedCheckpoint(Path(directory), commit, (Path(directory).parents[1],))


def _sizes(repo: str, commit: str | None) -> list[int]:
    """The sizes in bytes of the files to be downloaded, by the list that the download goes by."""
    listed = HfApi().list_repo_tree(repo, recursive=True, revision=commit)
    files = (entry for entry in listed if isinstance(entry, RepoFile))
    chosen = filter_repo_objects(files, allow_patterns=list(HUB_FILES), key=lambda file: file.path)
    return [file.size for file in chosen]


def _allowed_directory(path: str, roots: list[Path]) -> Path:
    directory = Path(path).resolve()
    if not any(directory.is_relative_to(root.resolve()) for root in roots):
        raise LanguageModelRejected(
            "The path leads outside the directories that MEMAUDIT_MODEL_ROOTS allows."
        )
    if not directory.is_dir():
        raise LanguageModelRejected("The path is not a directory on the worker's machine.")
    return directory
