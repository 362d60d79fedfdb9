"""Curvature factors, collected once for a base and a text set and kept for later edits."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
import transformers
from safetensors.torch import load, save_file
from torch import Tensor

from app.contracts.texts import TextSetRole
from app.errors import ArtifactCorrupt
from app.store.factors import NewFactor, find_factors, keep_factors
from workers.edits.inputs import SCRATCH, EditInputs
from workers.edits.progress import EditProgress
from workers.edits.tokens import curvature_blocks
from workers.running.runtime import Runtime
from workers.science.curvature.kfac import Factors, collect_factors
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection

# To be raised when the same input gives other factors than before.
COLLECTION_VERSION: Final = 2
_SIDES: Final = ("activations", "gradients")
_TENSOR: Final = "covariance"


class FactorStore:
    """The factors of one edit: those that an earlier edit left, and those that are collected now.

    Attributes:
        reused: projections whose factors were there.
        tokens: tokens that the factors average over.
    """

    def __init__(self, runtime: Runtime, inputs: EditInputs, language_model: LanguageModel) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._language_model = language_model
        self._key = _key(inputs, language_model)
        self.reused = 0
        self.tokens = 0

    def get(self, projections: Sequence[Projection], progress: EditProgress) -> dict[str, Factors]:
        """The factors of each projection, by its key. One pass collects all that are missing.

        Raises:
            EditFailed: see `curvature_blocks`.
            StorageFull, StorageUnavailable: the store cannot keep them or give them back.
        """
        factors = self._stored(projections)
        self.reused = len(factors)
        missing = [projection for projection in projections if projection.key not in factors]
        if missing:
            progress.enter("collecting_factors")
            blocks = curvature_blocks(self._runtime, self._inputs, self._language_model)
            collected = collect_factors(
                self._language_model,
                blocks,
                missing,
                labels=self._inputs.spec.labels,
                seed=self._inputs.spec.seed,
                on_progress=progress.counter(len(blocks)),
            )
            self._keep(collected)
            factors |= collected
        self.tokens = next(iter(factors.values())).tokens
        return factors

    def _stored(self, projections: Sequence[Projection]) -> dict[str, Factors]:
        with self._runtime.sessions() as session:
            rows = find_factors(session, self._inputs.tenant_id, self._key)
        found = {}
        matrices: dict[str, Tensor] = {}  # by digest: what several projections share is read once
        for key in (projection.key for projection in projections):
            sides = [row for side in _SIDES if (row := rows.get((key, side))) is not None]
            if len(sides) == len(_SIDES):
                try:
                    for row in sides:
                        if row.sha256 not in matrices:
                            matrices[row.sha256] = self._read(row.sha256)
                except ArtifactCorrupt:
                    continue  # they are collected again
                activations, gradients = (matrices[row.sha256] for row in sides)
                found[key] = Factors(activations=activations, gradients=gradients, tokens=sides[0].tokens)
        return found

    def _read(self, sha256: str) -> Tensor:
        content = b"".join(self._runtime.blobs.read(sha256))
        tensor: Tensor = load(content)[_TENSOR].to(self._language_model.device)
        return tensor

    def _keep(self, collected: dict[str, Factors]) -> None:
        """Store factors. Projections that read the same input share the bytes of that side."""
        with tempfile.TemporaryDirectory(
            prefix=f"{self._inputs.edit_id.hex}-", dir=self._runtime.settings.home / SCRATCH
        ) as directory:
            for projection, factors in collected.items():
                kept = []
                for side in _SIDES:
                    path = Path(directory) / f"{side}.safetensors"
                    save_file({_TENSOR: getattr(factors, side).contiguous().cpu()}, path)
                    sha256, _ = self._runtime.blobs.put_file(path)
                    kept.append(NewFactor(projection, side, factors.tokens, sha256))
                with self._runtime.sessions.begin() as session:
                    keep_factors(session, self._inputs.tenant_id, self._key, kept)


def _key(inputs: EditInputs, language_model: LanguageModel) -> str:
    spec = inputs.spec
    facts = {
        "version": COLLECTION_VERSION,
        "base": inputs.base.digest,
        "calibration": inputs.text_sets[TextSetRole.CALIBRATION].hmac_sha256,
        "tokens": spec.calibration_tokens,
        "block": spec.block_tokens,
        "labels": spec.labels,
        "seed": spec.seed,
        "dtype": spec.dtype,
        "device": language_model.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
