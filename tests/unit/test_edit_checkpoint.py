"""The checkpoint of an edited model. Oracles: the base's own bytes and tensors; transformers loading them."""

import hashlib
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.contracts.edits import EditSpec
from app.errors import EditFailed, LanguageModelChanged
from app.store.core.identifiers import new_id
from app.store.language_models import LanguageModel as LanguageModelRow
from tests.tiny_models import save_tiny_model
from workers.edits import job as edit_job
from workers.edits.checkpoint import write_checkpoint
from workers.edits.inputs import EditInputs
from workers.edits.job import _write
from workers.edits.methods import EditedWeights
from workers.running.runtime import Runtime
from workers.science.models.loading import load_language_model
from workers.science.models.projections import find_projections

INDEX = "model.safetensors.index.json"
UP = "model.layers.1.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"


def save_again(
    source: Path, target: Path, *, dtype: torch.dtype = torch.float32, shard_size: str = "1GB"
) -> Path:
    """The checkpoint once more, in another number format or in shards."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForCausalLM.from_pretrained(source, dtype=dtype).save_pretrained(
        target, max_shard_size=shard_size
    )
    return target


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("llama") / "base")


@pytest.fixture(scope="module")
def sharded(llama: Path) -> Path:
    """Several shards, each with a note of its own in its header."""
    directory = save_again(llama, llama.parent / "sharded", shard_size="40KB")
    for shard in directory.glob("*.safetensors"):
        save_file(load_file(shard), shard, metadata={"format": "pt", "note": shard.name})
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "target"
    target.mkdir()
    return target


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def tensors_in(directory: Path) -> dict[str, torch.Tensor]:
    return {
        name: value for file in directory.glob("*.safetensors") for name, value in load_file(file).items()
    }


def metadata_of(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        metadata: dict[str, str] = opened.metadata()
    return metadata


def registered(base: Path) -> dict[str, str]:
    """The files that registration would have recorded, by their digests."""
    kinds = {".json", ".safetensors", ".model", ".txt"}
    strange = {"receipt.json", "adapter.safetensors"}
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in base.iterdir()
        if path.is_file() and path.suffix in kinds and path.name not in strange
    }


def write(base: Path, edited: dict[str, torch.Tensor], prefix: str, target: Path) -> None:
    write_checkpoint(base, registered(base), edited, prefix, target)


def new_tensor(base: Path, name: str) -> torch.Tensor:
    return torch.randn(tensors_in(base)[name].shape, generator=torch.Generator().manual_seed(3))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("names", [(UP,), (UP, DOWN)])
def test_only_the_shards_of_edited_tensors_change_and_only_in_them(
    sharded: Path, target: Path, names: tuple[str, ...]
) -> None:
    before = digests(sharded)
    edited = {name: new_tensor(sharded, name) for name in names}
    write(sharded, edited, "model", target)
    places = json.loads((sharded / INDEX).read_bytes())["weight_map"]
    rewritten = {places[name] for name in names}
    assert len(rewritten) == len(names) < len(set(places.values())) - 1
    after = digests(target)
    assert set(after) == set(before)
    assert {file for file, digest in after.items() if digest != before[file]} == rewritten
    for file in rewritten:
        assert metadata_of(target / file) == {"format": "pt", "note": file}
        old, new = load_file(sharded / file), load_file(target / file)
        assert set(old) == set(new)
        assert all(same(new[name], edited.get(name, value)) for name, value in old.items())
    assert digests(sharded) == before


def test_a_written_checkpoint_loads_as_the_base_with_the_edited_weights(sharded: Path, target: Path) -> None:
    edited = {name: new_tensor(sharded, name) for name in (UP, DOWN)}
    write(sharded, edited, "model", target)
    base = AutoModelForCausalLM.from_pretrained(sharded).state_dict()
    loaded = AutoModelForCausalLM.from_pretrained(target).state_dict()
    assert set(loaded) == set(base)
    for name, value in loaded.items():
        assert same(value, edited.get(name, base[name]))


def test_a_single_file_is_written_alike(llama: Path, target: Path) -> None:
    edited = new_tensor(llama, UP)
    write(llama, {UP: torch.nn.Parameter(edited.T.contiguous()).T}, "model", target)
    expected = tensors_in(llama) | {UP: edited}
    written = tensors_in(target)
    assert set(written) == set(expected)
    assert all(same(value, expected[name]) for name, value in written.items())
    assert metadata_of(target / "model.safetensors") == metadata_of(llama / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_file_keeps_its_number_format(llama: Path, target: Path, dtype: torch.dtype) -> None:
    base = save_again(llama, target.parent / "short", dtype=dtype)
    edited = new_tensor(base, UP)
    write(base, {UP: edited}, "model", target)
    expected = tensors_in(base) | {UP: edited.to(dtype)}
    assert {value.dtype for value in expected.values()} == {dtype}
    assert all(same(value, expected[name]) for name, value in tensors_in(target).items())
    assert not torch.equal(expected[UP].float(), edited)


def test_names_without_the_base_models_prefix_are_found(tmp_path: Path, target: Path) -> None:
    """GPT-2's public checkpoints leave `transformer.` out."""
    base = save_tiny_model(tmp_path / "gpt2", "gpt2")
    file = base / "model.safetensors"
    bare = {name.removeprefix("transformer."): value for name, value in load_file(file).items()}
    assert "h.1.mlp.c_fc.weight" in bare
    save_file(bare, file, metadata=metadata_of(file))
    model = AutoModelForCausalLM.from_pretrained(base)
    name = "transformer.h.1.mlp.c_fc.weight"
    edited = new_tensor(base, "h.1.mlp.c_fc.weight")
    write(base, {name: edited}, model.base_model_prefix, target)
    written = tensors_in(target)
    assert set(written) == set(bare)
    assert all(same(value, edited if name.endswith(key) else bare[key]) for key, value in written.items())
    loaded = AutoModelForCausalLM.from_pretrained(target).state_dict()
    for key, value in model.state_dict().items():
        assert same(loaded[key], edited if key == name else value)


def test_names_that_only_the_checkpoint_prefixes_are_found(llama: Path, target: Path) -> None:
    edited = new_tensor(llama, UP)
    write(llama, {UP.removeprefix("model."): edited}, "model", target)
    assert same(tensors_in(target)[UP], edited)


@pytest.mark.parametrize("name", ["model.layers.2.mlp.up_proj.weight", "mlp.up_proj.weight", f"other.{UP}"])
def test_a_tensor_that_is_not_there_fails_the_edit(sharded: Path, target: Path, name: str) -> None:
    edited = {UP: new_tensor(sharded, UP), name: new_tensor(sharded, UP)}
    with pytest.raises(EditFailed, match=name):
        write(sharded, edited, "model", target)


def test_another_shape_fails_the_edit(sharded: Path, target: Path) -> None:
    turned = new_tensor(sharded, UP).T.contiguous()
    with pytest.raises(EditFailed, match="shape"):
        write(sharded, {UP: turned}, "model", target)


def test_only_what_from_pretrained_reads_is_copied(llama: Path, target: Path) -> None:
    """The base lies as in a hub's cache: every file is a link to somewhere else."""
    base = target.parent / "base"
    base.mkdir()
    for path in llama.iterdir():
        (base / path.name).symlink_to(path)
    wanted = {"merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json"}
    for name in wanted - {path.name for path in llama.iterdir()}:
        (base / name).write_text(f"this is {name}")
    for name in ("pytorch_model.bin", "optimizer.pt", "modeling.py", "README.md", "receipt.json", "run.sh"):
        (base / name).write_text("not this")
    save_file({"x": torch.zeros(1)}, base / "adapter.safetensors")
    for name in ("directory.json", "onnx"):
        (base / name).mkdir()
        (base / name / "config.json").write_text("{}")
    write(base, {UP: new_tensor(llama, UP)}, "model", target)
    names = {path.name for path in target.iterdir()}
    assert names == {path.name for path in llama.iterdir()} | wanted
    assert not any(path.is_symlink() or path.is_dir() for path in target.iterdir())
    for name in names - {"model.safetensors"}:
        assert (target / name).read_bytes() == (base / name).read_bytes()


def test_files_that_changed_since_they_were_registered_are_not_copied(llama: Path, target: Path) -> None:
    files = registered(llama) | {"tokenizer.json": "0" * 64}
    with pytest.raises(LanguageModelChanged):
        write_checkpoint(llama, files, {UP: new_tensor(llama, UP)}, "model", target)
    assert not list(target.iterdir())


FORMATS = [
    ("float32", "float32"),
    ("bfloat16", "float32"),
    ("float16", "float32"),
    ("float32", "bfloat16"),
    ("bfloat16", "bfloat16"),
]


def written_by_the_job(llama: Path, tmp_path: Path, stored: str, in_memory: str) -> Path:
    """What an edit job writes of a model whose projections it scales by a factor that makes for rounding."""
    base = save_again(llama, tmp_path / "base", dtype=getattr(torch, stored))
    inputs = EditInputs(
        edit_id=new_id(),
        tenant_id=new_id(),
        name="scaled",
        spec=EditSpec(method="svd", dtype=in_memory),
        base=LanguageModelRow(id=new_id(), dtype=stored, files=registered(base)),
        lineage=(),
        text_sets={},
    )
    checkpoints = SimpleNamespace(opened=lambda _row: nullcontext(SimpleNamespace(directory=base)))
    runtime = cast("Runtime", SimpleNamespace(checkpoints=checkpoints))
    language_model = load_language_model(base, dtype=in_memory)
    projections = find_projections(language_model.model, layers=[0, 1])
    weights = [(projection, projection.weight * 0.6) for projection in projections]
    directory = tmp_path / "written"
    directory.mkdir()
    _write(runtime, inputs, language_model, EditedWeights(weights, []), directory)
    return directory


@pytest.mark.parametrize(("stored", "in_memory"), FORMATS)
def test_a_job_takes_back_what_it_wrote_in_any_number_format(
    llama: Path, tmp_path: Path, stored: str, in_memory: str
) -> None:
    """A file in a short format rounds what was edited in float32; that is no other model."""
    written = tensors_in(written_by_the_job(llama, tmp_path, stored, in_memory))
    original = tensors_in(tmp_path / "base")
    for name in (UP, DOWN):
        expected = original[name] * (0.6 if name == UP else 1)
        torch.testing.assert_close(written[name].float(), expected.float(), rtol=2**-7, atol=1e-7)


@pytest.mark.parametrize(("stored", "in_memory"), FORMATS)
def test_a_job_refuses_a_checkpoint_that_comes_back_as_another_model(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str, in_memory: str
) -> None:
    def forgets_the_edit(base: Path, _files: Any, _edited: Any, _prefix: str, target: Path) -> None:
        shutil.copytree(base, target, dirs_exist_ok=True)

    monkeypatch.setattr(edit_job, "write_checkpoint", forgets_the_edit)
    with pytest.raises(EditFailed, match="other logits"):
        written_by_the_job(llama, tmp_path, stored, in_memory)
