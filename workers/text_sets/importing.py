"""Importing a text set: fetch a preset's file at a pinned commit, and store its texts."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from sqlalchemy.orm import Session

from app.contracts.catalogue import TEXT_SET_PRESETS
from app.contracts.presets import TextSetPreset
from app.errors import ImportFailed, ValidationFailed
from app.intake.formats import Row, read_json_lines
from app.intake.published import read_published
from app.intake.records import Intake
from app.intake.source_rows import ColumnMissing
from app.sealing.boxes import new_key
from app.sealing.texts import TextSetSealer
from app.settings import Settings
from app.store.data_keys import keep_text_set_key
from app.store.jobs.leases import Lease, LeaseLost
from app.store.lifecycle import accept_text_set
from app.store.text_copy import copy_texts_of_worker
from app.store.text_sets import TextSet
from app.store.texts import CopyRow
from workers.hub import HUB_FAILURES, hub_failure, pin_hub
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime

_INSTEAD: Final = "repeat the request, or upload the texts."


def import_text_set(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Fetch the texts of a text set and mark it as ready.

    They are written in the finishing transaction, so all of them are there or none.

    Returns:
        How many jobs this enqueued: one for each audit that waited for nothing else.

    Raises:
        ImportFailed: the hub refuses or may not be asked, or the data is not what the preset expects.
        HubUnreachable: the hub did not answer.
        LeaseLost: the text set was erased.
    """
    with runtime.sessions() as session:
        text_set = session.get(TextSet, lease.owner_id)
    if text_set is None or text_set.preset is None:
        raise LeaseLost
    preset = TEXT_SET_PRESETS.get(text_set.preset)
    if preset is None:
        raise ImportFailed("This release does not know the preset.")
    pin_hub(*runtime.settings.hub_hosts)
    commit, path = fetch(preset)
    keeper.report(0)

    def write(session: Session) -> int:
        # A long COPY, all of it under the lock of the job's row: heartbeats wait for it, and the sweep, which
        # passes over rows that are locked, takes the job from nobody meanwhile.
        facts = store_texts(session, text_set, preset, path, runtime.settings, keeper)
        return accept_text_set(session, text_set, facts | {"revision": commit})

    return finish(runtime, lease, write)


def fetch(preset: TextSetPreset) -> tuple[str, Path]:
    """The commit that a preset's revision names now, and its file at that commit on this worker's disk.

    Raises:
        ImportFailed: the hub refuses, may not be asked, or has no such file.
        HubUnreachable: the hub did not answer.
    """
    try:
        commit = HfApi().dataset_info(preset.repo, revision=preset.revision).sha
        path = hf_hub_download(preset.repo, preset.file, repo_type="dataset", revision=commit)
    except RemoteEntryNotFoundError:
        raise ImportFailed(f"The data set {preset.repo} has no file {preset.file}.") from None
    except HUB_FAILURES as error:
        raise hub_failure(error, refused=ImportFailed, instead=_INSTEAD) from error
    assert commit is not None
    return commit, Path(path)


def store_texts(
    session: Session,
    text_set: TextSet,
    preset: TextSetPreset,
    path: Path,
    settings: Settings,
    keeper: LeaseKeeper,
) -> dict[str, object]:
    """Write the texts of a fetched file, of which a batch at a time is in memory.

    Returns:
        Digest and counts, columns of the text set.

    Raises:
        ImportFailed: the file cannot be read, lacks a column, or breaks a limit of text sets.
        LeaseLost, Stopping: see `LeaseKeeper.report`.
    """
    data_key = new_key()
    intake = Intake(text_set.id, TextSetSealer(data_key, text_set.id), settings)

    def batches() -> Iterator[list[CopyRow]]:
        for batch in intake.batches(read_published(preset, _lines(path, settings))):
            keeper.report(0)
            yield batch

    try:
        copy_texts_of_worker(session, batches())
    except ColumnMissing as missing:
        raise ImportFailed(
            f"The data set {preset.repo} has changed: a row has no {missing}, or something else there "
            "than the preset expects."
        ) from None
    except ValidationFailed as failed:
        places = "".join(f" {error.pointer}: {error.code}." for error in failed.errors[:1])
        raise ImportFailed(f"The texts of {preset.repo} cannot be stored. {failed.detail}{places}") from None
    except (OSError, EOFError, zlib.error):
        raise ImportFailed(f"The file {preset.file} of {preset.repo} cannot be unpacked.") from None
    keep_text_set_key(session, text_set.id, data_key)
    return intake.facts(session, text_set.tenant_id)


def _lines(path: Path, settings: Settings) -> Iterator[Row]:
    with gzip.open(path) as file:
        bounded = cast("BinaryIO", _Bounded(file, settings.max_upload_bytes))
        yield from read_json_lines(bounded, settings.max_json_bytes)


class _Bounded:
    """The lines of a file, of which only so many bytes are read: a small file may unpack to a huge one."""

    def __init__(self, file: gzip.GzipFile, most_bytes: int) -> None:
        self._file = file
        self._left = most_bytes

    def readline(self, size: int) -> bytes:
        """The next line, or its first `size` bytes.

        Raises:
            ImportFailed: the file holds more than it may.
        """
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise ImportFailed("The file is larger than MEMAUDIT_MAX_UPLOAD_BYTES allows.")
        return line
