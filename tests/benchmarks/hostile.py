"""What hostile model directories cost until they are rejected: seconds, and memory of the process that looks.

python -m tests.benchmarks.hostile
"""

import json
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from transformers import AutoConfig, AutoModelForCausalLM

from app.settings import get_settings
from tests.hostile_models import HOSTILE, NEVER_SAID, make_hostile
from tests.tiny_models import save_tiny_model
from workers.confined.inspection import inspect_checkpoint
from workers.confined.process import start_server
from workers.science.errors import CheckpointRejected
from workers.science.models.opened_checkpoint import opened_checkpoint

MOST_SECONDS, MOST_MEGABYTES = 5.0, 300.0
_SAMPLE_SECONDS = 0.01


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        roots, outside = Path(directory) / "models", Path(directory) / "outside"
        honest = save_tiny_model(roots / "honest")
        start_server()
        measure(honest, roots)
        print(f"{'directory':40} {'seconds':>8} {'MB':>6}  answer")
        worst = [
            row(name, make_hostile(honest, roots / name, outside / name, spoil), roots)
            for name, spoil in HOSTILE.items()
        ]
        row("honest", honest, roots, usable=True)
        row("honest, 47 thousand tensors", many_experts(honest, roots / "experts"), roots, usable=True)
        row("honest, 256 thousand tokens", many_tokens(honest, roots / "tokens"), roots, usable=True)
        seconds, megabytes = (max(each) for each in zip(*worst, strict=True))
        print(f"{len(HOSTILE)} directories: at most {seconds:.2f} s and {megabytes:.0f} MB")
        assert not list(outside.rglob("executed")), "code of a directory was executed"
        assert seconds < MOST_SECONDS
        assert megabytes < MOST_MEGABYTES


def many_experts(honest: Path, directory: Path) -> Path:
    """A mixture of experts that has as many tensors as the largest that are published."""
    shutil.copytree(honest, directory)
    shape = {"hidden_size": 8, "moe_intermediate_size": 4, "num_hidden_layers": 60, "num_experts": 256}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "num_experts_per_tok": 2}
    config = AutoConfig.for_model("qwen3_moe", vocab_size=384, **shape, **heads)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


def many_tokens(honest: Path, directory: Path) -> Path:
    """A tokenizer that has as many tokens as the largest that are published: pairs of others, by chance."""
    shutil.copytree(honest, directory)
    content = json.loads((directory / "tokenizer.json").read_text())
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    tokens, chance = [token for token in vocabulary if "|" not in token], random.Random(0)
    while len(vocabulary) < 256_000:
        pair = chance.sample(tokens, 2)
        if len(made := "".join(pair)) <= 14 and made not in vocabulary:
            vocabulary[made] = len(vocabulary)
            tokens.append(made)
            merges.append(pair)
    (directory / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False, indent=2))
    return directory


def row(name: str, directory: Path, roots: Path, *, usable: bool = False) -> tuple[float, float]:
    """Print a row of the table; its seconds and megabytes."""
    said, seconds, megabytes = measure(directory, roots)
    assert (said is None) is usable, name
    assert not any(never in (said or "") for never in NEVER_SAID), said
    print(f"{name:40} {seconds:8.2f} {megabytes:6.0f}  {said or 'ready'}", flush=True)
    return seconds, megabytes


def measure(directory: Path, roots: Path) -> tuple[str | None, float, float]:
    """The detail of the rejection, its seconds, and the most private memory of the processes that it took."""
    began = time.monotonic()
    with peak_of_children() as peak:
        try:
            with opened_checkpoint(directory, [roots], get_settings().max_model_bytes) as opened:
                inspect_checkpoint(opened, lambda: None)
        except CheckpointRejected as error:
            return error.detail, time.monotonic() - began, peak[0] / 1e6
    return None, time.monotonic() - began, peak[0] / 1e6


@contextmanager
def peak_of_children() -> Iterator[list[float]]:
    """The most private bytes that a process had which was started meanwhile, by this one or by a child."""
    own = psutil.Process()
    present = {child.pid for child in own.children(recursive=True)}
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            for child in own.children(recursive=True):
                if child.pid not in present:
                    try:
                        peak[0] = max(peak[0], child.memory_full_info().uss)
                    except psutil.Error:
                        continue

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


if __name__ == "__main__":
    main()
