"""Curvature factors, collected once for a base and a text set and kept for later edits."""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

import torch
import transformers
from torch import Tensor

from app.contracts.edit_methods.registry import COLLECTING
from app.contracts.texts import TextSetRole
from app.errors import ArtifactCorrupt
from app.store.factors import NewFactor, StoredFactor, find_factors, keep_factors
from workers.edits.inputs import EditInputs
from workers.edits.matrices import matrix_writer, read_matrix
from workers.edits.partial_sums import SIDES, joined_factors
from workers.edits.progress import EditProgress
from workers.edits.tokens import curvature_blocks
from workers.running.runtime import Runtime
from workers.science.curvature.kfac import Factors, collect_factors
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection

# To be raised when the same input gives other factors than before.
COLLECTION_VERSION: Final = 3


class FactorStore:
    """The factors of one edit over the text set of a role: those that an earlier edit left, and the others.

    A text set has the same factors as calibration set and as retain set. Shards collect those of the
    calibration set alone.

    Attributes:
        key: the digest of everything that they depend on but for the projection and the side.
        reused: projections whose factors were there.
        tokens: tokens that the factors average over.
    """

    def __init__(
        self,
        runtime: Runtime,
        inputs: EditInputs,
        language_model: LanguageModel,
        role: TextSetRole = TextSetRole.CALIBRATION,
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._language_model = language_model
        self._role = role
        self.key = _key(inputs, language_model, role)
        self.reused = 0
        self.tokens = 0

    def missing(self, projections: Sequence[Projection]) -> list[Projection]:
        """Those of some projections whose factors no earlier edit left."""
        rows = self._rows()
        return [
            projection
            for projection in projections
            if not all((projection.key, side) in rows for side in SIDES)
        ]

    def get(self, projections: Sequence[Projection], progress: EditProgress) -> dict[str, Factors]:
        """The factors of each projection, by its key, on the device of its weight.

        What is missing is added up from what the edit's shards collected, or else is collected in one pass.

        Raises:
            EditFailed: see `curvature_stream`.
            StorageFull, StorageUnavailable: the store cannot keep them or give them back.
        """
        factors = self._stored(projections)
        self.reused = len(factors)
        missing = [projection for projection in projections if projection.key not in factors]
        if missing:
            progress.enter(COLLECTING)
            collected = self._joined(missing, progress) or self._collected(missing, progress)
            self._keep(collected, progress)
            factors |= collected
        self.tokens = next(iter(factors.values())).tokens
        return factors

    def _joined(self, missing: Sequence[Projection], progress: EditProgress) -> dict[str, Factors] | None:
        if self._inputs.collection is None or self._role is not TextSetRole.CALIBRATION:
            return None
        return joined_factors(self._runtime, self._inputs, self.key, missing, progress)

    def _collected(self, missing: Sequence[Projection], progress: EditProgress) -> dict[str, Factors]:
        blocks = curvature_blocks(self._runtime, self._inputs, self._language_model, self._role)
        return collect_factors(
            self._language_model,
            blocks,
            missing,
            labels=self._inputs.spec.labels,
            seed=self._inputs.spec.seed,
            on_progress=progress.counter(len(blocks)),
        )

    def _rows(self) -> dict[tuple[str, str], StoredFactor]:
        with self._runtime.sessions() as session:
            return find_factors(session, self._inputs.tenant_id, self.key)

    def _stored(self, projections: Sequence[Projection]) -> dict[str, Factors]:
        rows = self._rows()
        found = {}
        # By digest and device: what several projections share is read once.
        matrices: dict[tuple[str, torch.device], Tensor] = {}
        for projection in projections:
            key, device = projection.key, projection.weight.device
            sides = [row for side in SIDES if (row := rows.get((key, side))) is not None]
            if len(sides) == len(SIDES):
                try:
                    for row in sides:
                        if (row.sha256, device) not in matrices:
                            matrices[row.sha256, device] = read_matrix(self._runtime, row.sha256).to(device)
                except ArtifactCorrupt:
                    continue  # they are collected again
                activations, gradients = sides
                found[key] = Factors(
                    matrices[activations.sha256, device],
                    matrices[gradients.sha256, device],
                    activations.tokens,
                    activations.relative_error,
                    gradients.relative_error,
                )
        return found

    def _keep(self, collected: dict[str, Factors], progress: EditProgress) -> None:
        with matrix_writer(self._runtime, self._inputs, progress.repeat) as writer:
            for projection, factors in collected.items():
                kept = [
                    NewFactor(
                        projection,
                        side,
                        factors.tokens,
                        writer.put(getattr(factors, side)),
                        getattr(factors, f"{side}_error"),
                    )
                    for side in SIDES
                ]
                with self._runtime.sessions.begin() as session:
                    keep_factors(session, self._inputs.tenant_id, self.key, kept)


def _key(inputs: EditInputs, language_model: LanguageModel, role: TextSetRole) -> str:
    spec = inputs.spec
    facts = {
        "version": COLLECTION_VERSION,
        "base": inputs.base.digest,
        "calibration": inputs.text_sets[role].hmac_sha256,
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
