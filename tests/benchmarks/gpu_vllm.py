"""vLLM as a contender, where it is installed: the log-likelihoods of prompts (`prompt_logprobs`)."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

import torch

from tests.benchmarks.scoring import Contender
from workers.science.models.loading import LanguageModel

NAME: Final = "vLLM"
# Of the card's memory: our own model and lm-evaluation-harness are there too.
_MEMORY_SHARE: Final = 0.4


@contextmanager
def vllm_contender(language_model: LanguageModel, texts: Sequence[str]) -> Iterator[Contender | None]:
    """vLLM with the same weights, ready to run, for the time of a block; None where it is not installed.

    It reads weights from a checkpoint, which is written for it. Each text has to fit into the context behind
    its prefix token, and is asked for the log-likelihoods of its own tokens alone.
    """
    if find_spec("vllm") is None:
        yield None
        return
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - no dependency of ours

    with tempfile.TemporaryDirectory() as directory:
        language_model.model.save_pretrained(directory)
        language_model.tokenizer.save_pretrained(directory)
        torch.cuda.empty_cache()
        engine = LLM(
            model=directory,
            dtype=str(language_model.dtype).removeprefix("torch."),
            max_model_len=language_model.context_length,
            gpu_memory_utilization=_MEMORY_SHARE,
            enable_prefix_caching=False,
        )
        sampling = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        front = [language_model.prefix_token_id]

        def run() -> list[float]:
            tokenized = language_model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            prompts = [{"prompt_token_ids": front + token_ids} for token_ids in tokenized]
            return [_log_likelihood(each) for each in engine.generate(prompts, sampling, use_tqdm=False)]

        yield Contender(NAME, run)


def _log_likelihood(output: Any) -> float:
    """That of a prompt's tokens behind the first."""
    pairs = list(zip(output.prompt_token_ids, output.prompt_logprobs, strict=True))
    return float(sum(found[token].logprob for token, found in pairs[1:]))
