"""The proof of an edit beyond what audits say: what is held, hidden, generated and learned again."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from app.contracts.edit_workload import SAMPLED_TEXTS
from app.contracts.texts import TextSetRole
from app.errors import EditFailed
from app.store.core.identifiers import Prefix, format_id
from workers.edits.evaluation import Evaluation, Readings
from workers.edits.holding import HeldTally, LayerTally
from workers.edits.inputs import EditInputs
from workers.edits.membership import EVERY_SCORE, Membership, membership_of_readings
from workers.edits.progress import EditProgress
from workers.edits.relearned import Relearning
from workers.edits.stress import StressTest
from workers.running.runtime import Runtime
from workers.science.errors import ScienceError, ScoreNotFinite
from workers.science.evaluation.generation import generate_suffixes
from workers.science.evaluation.logit_lens import LogitLens
from workers.science.evaluation.strength import holdings
from workers.science.evaluation.suffixes import suffixes_of
from workers.science.models.loading import LanguageModel
from workers.science.scoring.texts import TextInput
from workers.science.statistics.paired import PairedMeans, PairedShares

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class Proven:
    """What was found, as `contracts.results.evaluations` and `contracts.results.proof` read it."""

    stress: JSONObject | None = None
    membership: JSONObject | None = None
    reference: JSONObject | None = None
    proof: JSONObject | None = None


class Proof:
    """Tries what the edit's `stress` asks for, stage by stage; every change to weights is undone.

    Args:
        runtime: this process.
        inputs: the edit.
        evaluation: the texts.
        progress: told the stages and what is done.
    """

    def __init__(
        self, runtime: Runtime, inputs: EditInputs, evaluation: Evaluation, progress: EditProgress
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._evaluation = evaluation
        self._progress = progress
        self._stress = inputs.spec.evaluation.stress
        self._held = HeldTally()

    def run(self, models: tuple[LanguageModel, LanguageModel], readings: tuple[Readings, Readings]) -> Proven:
        """Compare the base and the edited model, and the reference model if one was named.

        The reference comes last: loading it may put the base out of the worker's cache.

        Raises:
            EditFailed: a model gives numbers that are not finite.
        """
        try:
            return self._run(models, readings)
        except ScoreNotFinite as error:
            raise EditFailed(error.detail) from None

    def _run(
        self, models: tuple[LanguageModel, LanguageModel], readings: tuple[Readings, Readings]
    ) -> Proven:
        edited = models[1]
        stress = layers = generated = relearning = None
        if not self._stress:
            membership = membership_of_readings(*readings)
        else:
            self._progress.enter("stressing")
            membership = self._hold(*models)
            stress = StressTest(self._inputs, self._evaluation, self._progress).run(*models, readings[1])
        if self._stress == "full":
            self._progress.enter("reading_layers")
            layers = self._layers(*models)
            self._progress.enter("generating")
            generated = {str(role): self._generated(*models, role) for role in self._evaluation.tested}
            self._progress.enter("relearning")
            relearning = self._relearning().curves(edited, "edited")
        reference = self._inputs.reference
        if reference is not None:
            self._progress.enter("comparing_reference")
            compared = self._runtime.models.get(reference, self._inputs.spec.dtype)
            self._compare(compared, membership)
            if relearning is not None:
                relearning += self._relearning().curves(compared, "reference")
        return Proven(
            stress=stress,
            membership=membership.result(),
            reference=None
            if reference is None
            else {"model": format_id(Prefix.LANGUAGE_MODEL, reference.id), "digest": reference.digest},
            proof={
                "held": self._held.result(),
                "layers": layers,
                "generated": generated,
                "relearning": relearning,
            }
            if self._stress
            else None,
        )

    def _shards(self) -> Iterator[tuple[TextSetRole, list[TextInput]]]:
        for role in self._evaluation.tested:
            for texts in self._evaluation.texts(role):
                yield role, texts
                self._progress.repeat()

    def _hold(self, base: LanguageModel, edited: LanguageModel) -> Membership:
        membership, options = Membership(EVERY_SCORE), self._inputs.options
        for role, texts in self._shards():
            both = (holdings(each, texts, options) for each in (base, edited))
            for before, after in zip(*both, strict=True):
                self._held.add(role, before, after)
                membership.add(role, before.membership, after.membership)
        return membership

    def _compare(self, reference: LanguageModel, membership: Membership) -> None:
        for role, texts in self._shards():
            for held in holdings(reference, texts, self._inputs.options):
                membership.add_reference(role, held.membership)
                if self._stress:
                    self._held.add_reference(role, held)

    def _layers(self, base: LanguageModel, edited: LanguageModel) -> JSONObject | None:
        try:
            lenses = [LogitLens(base), LogitLens(edited)]
        except ScienceError:
            return None
        found = {}
        for role in self._evaluation.tested:
            suffixes = suffixes_of(base, self._samples[role], self._inputs.options)
            tally = LayerTally(lenses[0].layers)
            for before, after in zip(*(lens.read(suffixes) for lens in lenses), strict=True):
                tally.add((before.log_likelihood, before.right), (after.log_likelihood, after.right))
                self._progress.repeat()
            found[str(role)] = tally.result()
        return found

    def _generated(self, base: LanguageModel, edited: LanguageModel, role: TextSetRole) -> JSONObject:
        exact, similarity = PairedShares(), PairedMeans((0.0, 1.0))
        suffixes = suffixes_of(base, self._samples[role], self._inputs.options)
        both = (
            generate_suffixes(each, suffixes, lambda _: self._progress.repeat()) for each in (base, edited)
        )
        for before, after in zip(*both, strict=True):
            exact.add(before.exact, after.exact)
            similarity.add(before.similarity, after.similarity)
        return {"exact": exact.result(), "similarity": similarity.result()}

    def _relearning(self) -> Relearning:
        return Relearning(self._runtime, self._inputs, self._samples, self._progress)

    @cached_property
    def _samples(self) -> dict[TextSetRole, list[TextInput]]:
        """Of each set up to SAMPLED_TEXTS texts, evenly spread over it; read once for all that takes them."""
        return {role: self._sample(role) for role in self._evaluation.tested}

    def _sample(self, role: TextSetRole) -> list[TextInput]:
        n = self._evaluation.shards[role].texts
        wanted = set(np.linspace(0, n - 1, min(SAMPLED_TEXTS, n)).round().astype(int).tolist())
        texts = chain.from_iterable(self._evaluation.texts(role))
        return [text for place, text in zip(range(n), texts, strict=True) if place in wanted]
