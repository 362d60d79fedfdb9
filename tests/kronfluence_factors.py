"""The factors as kronfluence 1.0.1 collects them: the oracle of ours, in tests and in the benchmark."""

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from workers.science.models.token_blocks import TokenBlocks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kronfluence.analyzer import prepare_model
    from kronfluence.arguments import FactorArguments
    from kronfluence.factor.covariance import fit_covariance_matrices_with_loader
    from kronfluence.task import Task
    from kronfluence.utils.state import State


class _NextToken(Task):
    """Summed cross-entropy of the true next tokens; a batch is ids, predicting places and labels."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)

    def compute_train_loss(self, batch: list[Tensor], model: nn.Module, sample: bool = False) -> Tensor:
        assert not sample
        ids, predicts, labels = batch
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float().flatten(0, 1)
        targets = labels.masked_fill(~predicts, -100)[:, :-1].flatten()
        return functional.cross_entropy(logits, targets, reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
        raise NotImplementedError

    def get_influence_tracked_modules(self) -> list[str]:
        return self._paths

    def get_attention_mask(self, batch: list[Tensor]) -> Tensor:
        return batch[1]


class KronfluenceCollector:
    """A copy of a model, prepared by kronfluence to collect the factors of some modules from gold labels."""

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        logging.getLogger("kronfluence").setLevel(logging.ERROR)
        self._task = _NextToken(paths)
        self._model = prepare_model(copy.deepcopy(model), self._task)
        self._state = State(cpu=True)

    def collect(self, blocks: TokenBlocks, batch_blocks: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A and G by module path, means over the predicting positions.

        A module with a bias has one more input, the constant one, in the last row and column of A.
        """
        loader = DataLoader(
            TensorDataset(blocks.ids, blocks.predicts, blocks.labels), batch_size=batch_blocks
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, factors = fit_covariance_matrices_with_loader(
                self._model,
                self._state,
                self._task,
                loader,
                FactorArguments(strategy="kfac", use_empirical_fisher=True),
                disable_tqdm=True,
            )
        activations, gradients = factors["activation_covariance"], factors["gradient_covariance"]
        tokens = blocks.predictions
        return (
            {path: matrix / tokens for path, matrix in activations.items()},
            {path: matrix / tokens for path, matrix in gradients.items()},
        )
