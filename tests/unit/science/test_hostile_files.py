"""How a checkpoint's files are opened, what their JSON may say, and which numbers can be weights."""

import hashlib
import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from workers.science.errors import CheckpointRejected
from workers.science.models import checked_json, weight_numbers
from workers.science.models.checked_json import MOST_DEPTH, MOST_VALUES, read_checked
from workers.science.models.checkpoint_files import MOST_SHARDS, digest_checkpoint, stored_tensors
from workers.science.models.description import describe_checkpoint
from workers.science.models.opened_checkpoint import opened_checkpoint
from workers.science.models.weight_numbers import LARGEST_WEIGHT, digest_weights

ANY_SIZE = 2**40
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def checkpoint(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["llama"], tmp_path / "roots" / "llama"))


def test_what_is_opened_is_seen_whatever_takes_its_place(checkpoint):
    expected = describe_checkpoint(checkpoint)
    (checkpoint / "adapter_config.json").write_text("{}")
    with opened_checkpoint(checkpoint, [checkpoint.parent], ANY_SIZE) as opened:
        for name in expected.files:
            (checkpoint / name).unlink()
            (checkpoint / name).write_text("another")
        assert describe_checkpoint(opened) == expected
        assert digest_checkpoint(opened) == expected.digest
        assert {path.name for path in opened.iterdir()} == set(expected.files)
    assert not opened.exists()


def test_links_within_the_roots_are_followed(checkpoint):
    """As a hub's cache lays files out."""
    blobs, snapshot = checkpoint.parent / "blobs", checkpoint.parent / "snapshots"
    snapshot.mkdir()
    shutil.move(checkpoint, blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../blobs/{path.name}")
    (snapshot / "merges.txt").symlink_to("nowhere")  # what was not fetched
    with opened_checkpoint(snapshot, [checkpoint.parent], ANY_SIZE) as opened:
        assert describe_checkpoint(opened).digest == describe_checkpoint(blobs).digest
    with (
        pytest.raises(CheckpointRejected, match="outside"),
        opened_checkpoint(snapshot, [snapshot], ANY_SIZE),
    ):
        pass


def test_nothing_stays_open_of_a_directory_that_is_refused(checkpoint):
    (checkpoint / "tokenizer.json").unlink()
    os.mkfifo(checkpoint / "tokenizer.json")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(CheckpointRejected), opened_checkpoint(checkpoint, [checkpoint.parent], ANY_SIZE):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_all_files_together_may_be_so_large(checkpoint):
    (checkpoint / "notes.txt").write_text("not read")
    size = sum(path.stat().st_size for path in checkpoint.iterdir()) - len("not read")
    with opened_checkpoint(checkpoint, [checkpoint.parent], size):
        pass
    with (
        pytest.raises(CheckpointRejected, match=f"have {size} bytes.*MEMAUDIT_MAX_MODEL_BYTES.* {size - 1}"),
        opened_checkpoint(checkpoint, [checkpoint.parent], size - 1),
    ):
        pass


def test_a_process_may_open_as_many_shards_as_there_may_be(checkpoint):
    """Where it may have 1024 files, as most machines have it, and a worker has a quarter of them already."""
    names = [f"model-{number}.safetensors" for number in range(MOST_SHARDS)]
    (checkpoint / "model.safetensors").unlink()
    for name in names:
        (checkpoint / name).touch()
    index = {"weight_map": {name: name for name in names}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024 - 256, limits[1]))
    try:
        with opened_checkpoint(checkpoint, [checkpoint.parent], ANY_SIZE) as opened:
            assert {path.name for path in opened.iterdir()} > set(names)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_settings_that_say_nothing_are_no_settings(tmp_path):
    content = {"auto_map": {}, "quantization_config": None, "a": [{"attn_implementation": None}]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert read_checked(tmp_path, "config.json") == content


@pytest.mark.parametrize(("depth", "taken"), [(MOST_DEPTH, True), (MOST_DEPTH + 1, False)])
def test_json_may_be_nested_so_deep(tmp_path, depth, taken):
    (tmp_path / "config.json").write_text('{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}")
    if taken:
        read_checked(tmp_path, "config.json")
    else:
        with pytest.raises(CheckpointRejected, match="deeper"):
            read_checked(tmp_path, "config.json")


def test_of_json_with_too_many_values_nothing_is_made(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("[" + "1," * MOST_VALUES + "1]")
    monkeypatch.setattr(checked_json.json, "loads", None)
    with pytest.raises(CheckpointRejected, match="more than"):
        read_checked(tmp_path, "config.json")


def test_tensors_are_matched_once_their_number_is_plausible(checkpoint):
    matched: list[int] = []
    describe_checkpoint(checkpoint, on_match=matched.append)
    tensors = load_file(checkpoint / "model.safetensors")
    assert matched == [len(tensors)]
    tensors |= {str(number): torch.ones(1) for number in range(1100)}
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointRejected, match="many more tensors"):
        describe_checkpoint(checkpoint, on_match=matched.append)
    assert len(matched) == 1


def test_experts_may_be_stored_apart(checkpoint):
    """As they are published: a thousand tensors and more for a few parameters."""
    shape = {"hidden_size": 8, "moe_intermediate_size": 4, "num_hidden_layers": 2, "num_experts": 256}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "num_experts_per_tok": 2}
    config = AutoConfig.for_model("qwen3_moe", vocab_size=384, **shape, **heads)
    AutoModelForCausalLM.from_config(config).save_pretrained(checkpoint)
    matched: list[int] = []
    describe_checkpoint(checkpoint, on_match=matched.append)
    assert matched[0] > 2 * 3 * 256


def weights(path: Path, tensor: torch.Tensor) -> Path:
    save_file({"other": torch.zeros(3, dtype=tensor.dtype), "weight": tensor}, path)
    return path


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_are_weights_up_to_the_largest(tmp_path, monkeypatch, dtype, sign):
    monkeypatch.setattr(weight_numbers, "_PIECE_BYTES", 16)
    largest = min(LARGEST_WEIGHT, torch.finfo(dtype).max)
    tensor = torch.linspace(-1, 1, 21).to(dtype)
    for place in (0, 20):
        for value in (largest, 1.02 * LARGEST_WEIGHT, np.inf, np.nan):
            tensor[place] = sign * value
            path = weights(tmp_path / "model.safetensors", tensor)
            held = stored_tensors([path])[path]
            if value == largest:
                assert digest_weights(path, held) == hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                with pytest.raises(CheckpointRejected) as rejected:
                    digest_weights(path, held)
                assert rejected.value.code == "weights_not_finite"
                digest_weights(path, held, unused={"weight"})
            tensor[place] = 0


def test_a_file_that_became_shorter_is_refused(tmp_path):
    path = weights(tmp_path / "model.safetensors", torch.ones(100))
    held = stored_tensors([path])[path]
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(CheckpointRejected, match="changed"):
        digest_weights(path, held)
    assert replace(held[0], name="again").size == held[0].size


def test_what_the_model_does_not_take_may_hold_any_number(checkpoints, tmp_path):
    """Old GPT-2 checkpoints keep masks beside their weights, and name these without the model's prefix."""
    checkpoint = Path(shutil.copytree(checkpoints["gpt2"], tmp_path / "gpt2"))
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tied = {name.removeprefix("transformer."): each for name, each in model.state_dict().items()}
    tied["lm_head.weight"] = tied["lm_head.weight"].clone()
    tied["h.0.attn.masked_bias"] = torch.tensor(-torch.inf)
    save_file(tied, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert describe_checkpoint(checkpoint).architecture == "GPT2LMHeadModel"
    tied["h.0.ln_1.weight"][3] = torch.inf
    save_file(tied, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointRejected) as rejected:
        describe_checkpoint(checkpoint)
    assert rejected.value.code == "weights_not_finite"


def test_a_tensor_in_two_files_is_refused(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    for number in (1, 2):
        save_file(tensors, checkpoint / f"model-{number}.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointRejected) as rejected:
        describe_checkpoint(checkpoint)
    assert rejected.value.code == "weights_unusable"
