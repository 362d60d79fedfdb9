"""Confined processes: what they may take, how their ends are told, and what a tokenizer in one gives."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from transformers import AutoTokenizer

from app.errors import JobCrashed, TokenizingFailed
from tests.hostile_models import HOSTILE, make_hostile, never_ending
from tests.tiny_models import english_sentences, save_tiny_model
from workers.confined import process, tokenizer
from workers.confined.inspection import inspect_checkpoint
from workers.confined.process import SERVER, start_server
from workers.confined.tokenizer import ConfinedTokenizer
from workers.science.errors import CheckpointRejected
from workers.science.models.description import describe_checkpoint
from workers.science.models.tokenization import count_tokens, token_ids_of, tokenize, tokens_put_in_front

UNUSUAL = ["", "a", "<|endoftext|> within", "é à ü", "🙂" * 40, " \n\t ", "word" * 3000]

# A server that is refused a process once, and then a descriptor once.
REFUSED = """
import errno, os, runpy

def refused_once(call, after, error):
    calls = iter(range(after + 1))

    def refusing(*arguments):
        if next(calls, None) == after:
            raise OSError(error, os.strerror(error))
        return call(*arguments)

    return refusing

os.fork = refused_once(os.fork, 1, errno.EAGAIN)
os.pidfd_open = refused_once(os.pidfd_open, 1, errno.EMFILE)
runpy.run_module("workers.confined.server", run_name="__main__")
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    start_server()
    return save_tiny_model(tmp_path_factory.mktemp("models") / "llama", bos=True)


@pytest.fixture
def confined(checkpoint: Path) -> Iterator[ConfinedTokenizer]:
    found = ConfinedTokenizer(checkpoint)
    yield found
    found.close()


def running_server() -> psutil.Process:
    """Among what this process has started, which may have been databases too."""
    (server,) = (child for child in psutil.Process().children() if SERVER in child.cmdline())
    return server


def nothing() -> None:
    """Wait."""


def test_a_checkpoint_is_described_as_in_this_process(checkpoint: Path) -> None:
    assert inspect_checkpoint(checkpoint, nothing) == describe_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("an expression without end", "processor time"), ("a normalizer that multiplies", "memory")],
)
def test_a_limit_is_a_rejection(checkpoint: Path, tmp_path: Path, name: str, limit: str) -> None:
    directory = make_hostile(checkpoint, tmp_path / "hostile", tmp_path / "outside", HOSTILE[name])
    with pytest.raises(CheckpointRejected, match=limit) as rejected:
        inspect_checkpoint(directory, nothing)
    assert rejected.value.code == "limits_exceeded"


def test_who_stops_waiting_leaves_no_process(checkpoint: Path, tmp_path: Path) -> None:
    """As when the lease of the job is lost."""
    spoil = HOSTILE["an expression without end"]
    directory = make_hostile(checkpoint, tmp_path / "hostile", tmp_path / "outside", spoil)
    server = running_server()
    before = server.children()
    found: list[psutil.Process] = []

    def suspend_it() -> None:
        """Else it may come to its limit before anybody stops waiting."""
        while not found:
            found.extend(child for child in server.children() if child not in before)
        found[0].suspend()

    def stop() -> None:
        raise InterruptedError

    suspending = threading.Thread(target=suspend_it)
    suspending.start()
    with pytest.raises(InterruptedError):
        inspect_checkpoint(directory, stop)
    suspending.join()
    assert server.children() == before


@pytest.mark.parametrize("special_tokens", ["control", "text"])
def test_a_confined_tokenizer_gives_the_same_tokens(
    checkpoint: Path, confined: ConfinedTokenizer, monkeypatch: pytest.MonkeyPatch, special_tokens: str
) -> None:
    monkeypatch.setattr(tokenizer, "CHARACTERS_AT_ONCE", 2000)
    own = AutoTokenizer.from_pretrained(checkpoint)
    texts = [*UNUSUAL, *english_sentences()[:100]]
    for ours, theirs in zip(
        tokenize(confined, texts, special_tokens), tokenize(own, texts, special_tokens), strict=True
    ):
        np.testing.assert_array_equal(ours.token_ids, theirs.token_ids)
        np.testing.assert_array_equal(ours.offsets, theirs.offsets)
    assert token_ids_of(confined, texts) == token_ids_of(own, texts)
    assert tokens_put_in_front(confined) == tokens_put_in_front(own) == (own.bos_token_id,)
    assert (confined.bos_token_id, confined.eos_token_id) == (own.bos_token_id, own.eos_token_id)
    token_ids = own(texts[-1])["input_ids"]
    for skip in (True, False):
        assert confined.decode(token_ids, skip_special_tokens=skip) == own.decode(
            token_ids, skip_special_tokens=skip
        )


def test_a_tokenizer_that_never_ends_is_killed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "CPU_SECONDS", 1)
    directory = Path(shutil.copytree(checkpoint, tmp_path / "hostile"))
    content = json.loads((directory / "tokenizer.json").read_text())
    content["pre_tokenizer"] = never_ending("q")
    (directory / "tokenizer.json").write_text(json.dumps(content))
    confined = ConfinedTokenizer(directory)
    assert count_tokens(confined, ["a" * 50_000]) == [50_000]
    with pytest.raises(TokenizingFailed, match="5000 characters"):
        count_tokens(confined, ["q" * 5000])
    assert not confined.is_alive


def test_a_process_that_is_slow_to_take_texts_is_waited_for(confined: ConfinedTokenizer) -> None:
    """As on a machine with much else to do."""
    suspended = []
    for child in running_server().children():  # those of other tests too, which may be ending
        with suppress(psutil.NoSuchProcess):
            child.suspend()
            suspended.append(child)

    def go_on() -> None:
        for child in suspended:
            with suppress(psutil.NoSuchProcess):
                child.resume()

    resume = threading.Timer(1.5, go_on)
    resume.start()
    assert count_tokens(confined, ["a" * 500_000]) == [500_000]
    resume.join()


def test_a_token_may_have_any_number(checkpoint: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint, tmp_path / "hostile"))
    content = json.loads((directory / "tokenizer.json").read_text())
    content["model"]["vocab"]["q"] = 2**32 - 1
    (directory / "tokenizer.json").write_text(json.dumps(content))
    confined = ConfinedTokenizer(directory)
    assert token_ids_of(confined, ["q"]) == [[2**32 - 1]]
    confined.close()


def test_a_process_that_is_killed_is_no_fault_of_the_checkpoint(confined: ConfinedTokenizer) -> None:
    """Another attempt may get through, also when the server was killed."""
    server = running_server()
    for child in server.children():
        child.send_signal(signal.SIGKILL)
    with pytest.raises(JobCrashed):
        count_tokens(confined, ["a"])
    assert not confined.is_alive


def test_the_server_is_started_again(checkpoint: Path, confined: ConfinedTokenizer) -> None:
    server = running_server()
    busy = server.children()
    confined._process.ask(("__call__", ["a" * 4_000_000], {}, 60))  # and nobody waits for it
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    assert busy
    psutil.wait_procs(busy, timeout=10)
    assert not any(each.is_running() for each in busy)
    confined = ConfinedTokenizer(checkpoint)
    assert count_tokens(confined, ["a"]) == [1]
    confined.close()


def test_a_request_that_cannot_be_served_fails_alone(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there are too many processes, and once too many descriptors: for it, and for its sockets."""
    (tmp_path / "refused.py").write_text(REFUSED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(process, "SERVER", "refused")
    monkeypatch.setattr(process, "_server", server := process._Server())
    try:
        busy = ConfinedTokenizer(checkpoint)
        assert count_tokens(busy, ["a"]) == [1]
        assert server._process is not None
        served_by = psutil.Process(server._process.pid)
        (_, most), (child,) = served_by.rlimit(psutil.RLIMIT_NOFILE), served_by.children()
        for attempt in range(3):
            if attempt == 2:
                served_by.rlimit(psutil.RLIMIT_NOFILE, (served_by.num_fds(), most))
            with pytest.raises(JobCrashed):
                count_tokens(ConfinedTokenizer(checkpoint), ["a"])
        served_by.rlimit(psutil.RLIMIT_NOFILE, (most, most))
        again = ConfinedTokenizer(checkpoint)
        assert count_tokens(again, ["a"]) == count_tokens(busy, ["a"]) == [1]
        assert served_by.is_running()
        assert child in served_by.children()
        assert len(served_by.children()) == 2
        for each in (busy, again):
            each.close()
    finally:
        server.end()


def test_a_confined_process_knows_no_secrets(confined: ConfinedTokenizer, checkpoint: Path) -> None:
    server = running_server()
    (child,) = server.children()
    assert set(child.environ()) <= {
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "CUDA_VISIBLE_DEVICES",
        "HF_HUB_OFFLINE",
        "HF_DEACTIVATE_ASYNC_LOAD",
        "OMP_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "LC_CTYPE",
    }
    assert {opened.path for opened in child.open_files()} == set()
    assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
