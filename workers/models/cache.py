"""Loaded language models of this process, the most recently used few."""

from collections import OrderedDict
from uuid import UUID

import structlog

from app.errors import LanguageModelChanged
from app.settings import Settings
from app.store.language_models import LanguageModel as LanguageModelRow
from workers.confined.tokenizer import ConfinedTokenizer
from workers.models.checkpoints import Checkpoints
from workers.running.throughput import Meter
from workers.science.models.checkpoint_files import digest_checkpoint
from workers.science.models.loading import LanguageModel, load_language_model

log = structlog.get_logger()


class ModelCache:
    """Loads checkpoints, after checking that their bytes are still those that were registered."""

    def __init__(self, settings: Settings, checkpoints: Checkpoints, meter: Meter) -> None:
        self._settings = settings
        self._checkpoints = checkpoints
        self._meter = meter
        self._loaded: OrderedDict[tuple[UUID, str], LanguageModel] = OrderedDict()

    @property
    def loaded(self) -> list[UUID]:
        """The ids of the language models that are loaded now."""
        return [model_id for model_id, _ in self._loaded]

    def get(self, row: LanguageModelRow, dtype: str) -> LanguageModel:
        """A loaded language model.

        Raises:
            LanguageModelChanged: its files differ from those that were registered.
            LanguageModelRejected: its files cannot be read any more.
            JobCrashed: the process of its tokenizer was killed.
            HubUnreachable: its files must be downloaded and the hub did not answer.
            ArtifactCorrupt, StorageFull, StorageUnavailable: see `Checkpoints.locate`.
        """
        key = (row.id, dtype)
        if key in self._loaded and not self._loaded[key].tokenizer.is_alive:
            del self._loaded[key]
        if key not in self._loaded:
            while len(self._loaded) >= self._settings.loaded_models:
                _, evicted = self._loaded.popitem(last=False)
                evicted.tokenizer.close()
            with self._meter.loading(row):
                self._loaded[key] = self._load(row, dtype)
            log.info(
                "language_model_loaded",
                language_model=str(row.id),
                dtype=dtype,
                device=str(self._loaded[key].device),
                packs=self._loaded[key].packs,
            )
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _load(self, row: LanguageModelRow, dtype: str) -> LanguageModel:
        """Load what was validated: the same files, which are opened once, are digested and loaded."""
        with self._checkpoints.opened(row) as checkpoint:
            if digest_checkpoint(checkpoint.directory) != row.digest:
                raise LanguageModelChanged(
                    "The files differ from those that were registered; register the language model again.",
                )
            tokenizer = ConfinedTokenizer(checkpoint.directory)
            try:
                return load_language_model(checkpoint.directory, dtype=dtype, tokenizer=tokenizer)
            except BaseException:
                tokenizer.close()
                raise
