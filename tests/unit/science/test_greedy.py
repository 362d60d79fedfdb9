import random

import numpy as np
import pytest
import torch

from workers.science.scoring.greedy import Prompt, continue_greedily, end_token_ids


def prompts_of_mixed_length(count, longest=100, seed=0):
    generator = random.Random(seed)
    return [
        Prompt(
            np.array(generator.choices(range(1, 384), k=generator.randint(1, longest)), dtype=np.int64),
            generator.randint(1, 28),
        )
        for _ in range(count)
    ]


def generate_alone(model, prompt):
    """The oracle: `generate` for one prompt, with nothing beside it and no padding."""
    inputs = torch.from_numpy(prompt.token_ids)[None]
    generated = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=prompt.n_new_tokens,
        pad_token_id=0,
    )
    return generated[0, inputs.shape[1] :].tolist()


def continuations(language_model, prompts):
    return [ids.tolist() for ids in continue_greedily(language_model, prompts, lambda _: None)]


def test_continuations_equal_generate_one_by_one(each_language_model):
    prompts = prompts_of_mixed_length(20)
    expected = [generate_alone(each_language_model.model, prompt) for prompt in prompts]
    assert continuations(each_language_model, prompts) == expected


def test_prompts_that_fill_the_context_do_not_outgrow_it(language_models):
    gpt2 = language_models["gpt2"]  # fails on a position past its context
    long = [Prompt(np.arange(1, 1 + 128 - new + 1, dtype=np.int64), new) for new in (1, 2, 40)]
    short = prompts_of_mixed_length(3)
    expected = [generate_alone(gpt2.model, prompt) for prompt in [*long, *short]]
    assert continuations(gpt2, [*long, *short]) == expected


def test_decoding_stops_at_an_end_token(reciting, recited_texts):
    ids = reciting.tokenizer(recited_texts[0])["input_ids"]
    prompt = Prompt(np.array(ids[:20], dtype=np.int64), 30)
    assert continuations(reciting, [prompt]) == [ids[20:50]]
    own = reciting.model.generation_config.eos_token_id
    try:
        reciting.model.generation_config.eos_token_id = [own, ids[25]]
        assert end_token_ids(reciting) == {own, ids[25]}
        assert continuations(reciting, [prompt]) == [ids[20:26]] == [generate_alone(reciting.model, prompt)]
        reciting.model.generation_config.eos_token_id = None
        assert end_token_ids(reciting) == frozenset()
        assert continuations(reciting, [prompt]) == [ids[20:50]]
    finally:
        reciting.model.generation_config.eos_token_id = own


def test_the_checkpoints_own_generation_settings_are_put_aside_and_restored(llama):
    prompts = prompts_of_mixed_length(5)
    plain = continuations(llama, prompts)
    own = llama.model.generation_config
    own.repetition_penalty = 3.0
    try:
        assert [generate_alone(llama.model, prompt) for prompt in prompts] != plain
        assert continuations(llama, prompts) == plain
        assert llama.model.generation_config is own
        with pytest.raises(KeyboardInterrupt):
            continue_greedily(llama, prompts, interrupt)
        assert llama.model.generation_config is own
    finally:
        own.repetition_penalty = None


def interrupt(_):
    raise KeyboardInterrupt


def test_every_prompt_is_counted_once(llama):
    counted = []
    continue_greedily(llama, prompts_of_mixed_length(150, longest=5), counted.append)
    assert sum(counted) == 150
    assert max(counted) <= 64


def test_no_prompts_are_no_work(llama):
    assert continue_greedily(llama, [], interrupt) == []
