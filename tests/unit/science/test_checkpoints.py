import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    FalconH1Config,
    FalconH1ForCausalLM,
)

from tests.tiny_models import save_tiny_model, train_tokenizer
from workers.science.errors import CheckpointRejected
from workers.science.models.description import describe_checkpoint
from workers.science.models.loading import load_language_model


@pytest.fixture
def checkpoint(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a Llama checkpoint that the test may spoil."""
    return Path(shutil.copytree(checkpoints["llama"], tmp_path / "llama"))


def edit_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_description_agrees_with_transformers_and_the_bytes(checkpoints, each_language_model):
    model = each_language_model.model
    directory = Path(model.name_or_path)
    description = describe_checkpoint(directory)
    assert description.architecture == type(model).__name__
    assert description.model_type == model.config.model_type
    assert description.parameter_count == model.num_parameters()
    assert description.dtype == "float32"
    assert description.context_length == 128
    assert description.vocabulary_size == model.get_output_embeddings().weight.shape[0]
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    assert description.files == files
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    assert description.digest == hashlib.sha256(lines.encode()).hexdigest()


def test_shards_are_described_as_the_whole(checkpoints, checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="40KB")
    assert len(list(checkpoint.glob("*.safetensors"))) > 1
    description = describe_checkpoint(checkpoint)
    whole = describe_checkpoint(checkpoints["llama"])
    assert description.parameter_count == whole.parameter_count
    assert description.dtype == "bfloat16"
    assert description.digest != whole.digest
    assert set(description.files) == {path.name for path in checkpoint.iterdir()}


def test_bos_goes_before_eos_as_prefix_token(tmp_path, llama):
    language_model = load_language_model(save_tiny_model(tmp_path, bos=True), device="cpu")
    tokenizer = language_model.tokenizer
    assert language_model.prefix_token_id == tokenizer.bos_token_id != tokenizer.eos_token_id
    assert llama.prefix_token_id == llama.tokenizer.eos_token_id


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def replace_weights_with_a_pickle(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04")


def name_a_missing_shard(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))


def name_a_shard_outside(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint.parent / "model.safetensors")
    index = {"weight_map": {"lm_head.weight": "../model.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))


SPOILED = {
    "no configuration": (lambda c: (c / "config.json").unlink(), "file_missing"),
    "configuration is no JSON": (lambda c: (c / "config.json").write_bytes(b"\xff{"), "json_invalid"),
    "configuration is a list": (lambda c: (c / "config.json").write_text("[]"), "json_invalid"),
    "configuration is nested too deep": (
        lambda c: (c / "config.json").write_text("[" * 100_000),
        "json_invalid",
    ),
    "configuration has a bad value": (
        lambda c: edit_json(c / "config.json", hidden_size="wide"),
        "json_invalid",
    ),
    "unknown model type": (
        lambda c: edit_json(c / "config.json", model_type="oracle"),
        "unsupported_architecture",
    ),
    "model type is no string": (
        lambda c: edit_json(c / "config.json", model_type=[1]),
        "unsupported_architecture",
    ),
    "no causal language model": (
        lambda c: edit_json(c / "config.json", model_type="vit", architectures=["ViTModel"]),
        "unsupported_architecture",
    ),
    "a classifier": (
        lambda c: edit_json(c / "config.json", architectures=["LlamaForSequenceClassification"]),
        "unsupported_architecture",
    ),
    "custom code": (
        lambda c: edit_json(c / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Model"}),
        "custom_code",
    ),
    "custom tokenizer code": (
        lambda c: edit_json(c / "tokenizer_config.json", auto_map={"AutoTokenizer": ["a.B", None]}),
        "custom_code",
    ),
    "quantized": (
        lambda c: edit_json(c / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "unsupported_quantization",
    ),
    "no weights": (lambda c: (c / "model.safetensors").unlink(), "no_safetensors"),
    "pickled weights": (replace_weights_with_a_pickle, "no_safetensors"),
    "missing shard": (name_a_missing_shard, "weights_incomplete"),
    "shard outside": (name_a_shard_outside, "json_invalid"),
    "truncated weights": (lambda c: truncate(c / "model.safetensors"), "weights_unreadable"),
    "empty weights file": (lambda c: (c / "model.safetensors").write_bytes(b""), "weights_unreadable"),
    "weights without tensors": (lambda c: save_file({}, c / "model.safetensors"), "weights_incomplete"),
    "no tokenizer": (lambda c: (c / "tokenizer.json").unlink(), "tokenizer_missing"),
    "broken tokenizer": (lambda c: (c / "tokenizer.json").write_text('{"model": 1}'), "tokenizer_unusable"),
    "neither BOS nor EOS": (
        lambda c: edit_json(c / "tokenizer_config.json", eos_token=None),
        "no_prefix_token",
    ),
}


@pytest.mark.parametrize(("spoil", "code"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_checkpoint_is_rejected_and_never_loaded(checkpoint, spoil, code):
    spoil(checkpoint)
    with pytest.raises(CheckpointRejected) as described:
        describe_checkpoint(checkpoint)
    assert described.value.code == code
    assert str(checkpoint) not in described.value.detail
    with pytest.raises(CheckpointRejected) as loaded:
        load_language_model(checkpoint, device="cpu")
    assert loaded.value.code == code


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("model-Q4_K_M.gguf", ("GGUF", "gguf_file=FILE", "save_pretrained(NEW)")),
        ("model.GGUF", ("GGUF", "gguf_file=FILE", "save_pretrained(NEW)")),
        ("pytorch_model.bin", ("pickled", "from_pretrained(OLD)", "save_pretrained(NEW)")),
        ("consolidated.00.pth", ("pickled", "from_pretrained(OLD)", "save_pretrained(NEW)")),
        ("model.pt", ("pickled", "from_pretrained(OLD)", "save_pretrained(NEW)")),
    ],
)
def test_a_directory_of_another_format_is_told_what_to_do(tmp_path, name, advice):
    """Also when nothing else is there: GGUF files often come alone."""
    (tmp_path / name).write_bytes(b"GGUF")
    (tmp_path / "README.md").write_text("A model.")
    for read in (describe_checkpoint, load_language_model):
        with pytest.raises(CheckpointRejected) as rejected:
            read(tmp_path)
        assert rejected.value.code == "no_safetensors"
        assert all(part in rejected.value.detail for part in advice)


def test_the_advised_conversion_of_a_pickled_checkpoint_works(checkpoint, tmp_path):
    tensors = load_file(checkpoint / "model.safetensors")
    torch.save(tensors, checkpoint / "pytorch_model.bin")
    before = describe_checkpoint(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    new = tmp_path / "new"
    AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(new)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(new)
    after = describe_checkpoint(new)
    assert (after.architecture, after.parameter_count) == (before.architecture, before.parameter_count)
    converted = load_file(new / "model.safetensors")
    assert all(torch.equal(converted[name], tensor) for name, tensor in tensors.items())


def test_a_checkpoint_with_other_formats_beside_its_safetensors_is_read(checkpoint):
    for name in ("pytorch_model.bin", "model.gguf"):
        (checkpoint / name).write_bytes(b"")
    assert describe_checkpoint(checkpoint).architecture == "LlamaForCausalLM"


def test_a_missing_directory_is_rejected(tmp_path):
    with pytest.raises(CheckpointRejected, match="no config"):
        describe_checkpoint(tmp_path / "absent")


def respoil_weights(checkpoint: Path, change) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    change(tensors)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})


def misshape(tensors):
    tensors["model.norm.weight"] = torch.ones(31)


def spoil_with_nan(tensors):
    tensors["model.norm.weight"][0] = torch.nan


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "weights_incomplete"),
        (misshape, "weights_unusable"),
        (spoil_with_nan, "weights_not_finite"),
    ],
)
def test_weights_that_do_not_fit_are_never_filled_with_random_ones(checkpoint, change, code):
    respoil_weights(checkpoint, change)
    with pytest.raises(CheckpointRejected) as rejection:
        load_language_model(checkpoint, device="cpu")
    assert rejection.value.code == code


def test_a_model_that_sees_later_tokens_is_rejected(checkpoint):
    edit_json(checkpoint / "config.json", is_causal=False)
    with pytest.raises(CheckpointRejected, match="not causal"):
        load_language_model(checkpoint, device="cpu")


def test_a_model_whose_logits_are_no_plain_projection_is_rejected(tmp_path):
    config = FalconH1Config(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_chunk_size=8,
        lm_head_multiplier=3.0,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    FalconH1ForCausalLM(config).save_pretrained(tmp_path)
    train_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointRejected, match="not a projection"):
        load_language_model(tmp_path, device="cpu")


def test_an_unknown_dtype_is_a_value_error(checkpoints):
    with pytest.raises(ValueError, match="dtype"):
        load_language_model(checkpoints["llama"], dtype="int8")
