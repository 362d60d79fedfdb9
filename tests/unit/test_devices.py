"""Which GPUs a worker's processes take, without any GPU."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from billiard import current_process
from billiard.pool import Pool
from pydantic import ValidationError

from app.embedded.devices import device_groups, device_variables, visible_devices
from app.embedded.errors import EmbeddedError
from app.settings import DeviceGroup, Settings
from workers.running.device import take_devices
from workers.running.machine import this_machine

GROUPS: list[DeviceGroup] = [("2", "3"), ("GPU-8f",)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", []),
        ("0", [("0",)]),
        ("cuda:0,cuda:1", [("0",), ("1",)]),
        ("0+1, cuda:2+cuda:3", [("0", "1"), ("2", "3")]),
        ("GPU-8f-1a,MIG-GPU-8f/1/0", [("GPU-8f-1a",), ("MIG-GPU-8f/1/0",)]),
    ],
)
def test_devices_are_read(monkeypatch: pytest.MonkeyPatch, written: str, read: list[DeviceGroup]) -> None:
    monkeypatch.setenv("MEMAUDIT_DEVICES", written)
    assert Settings().devices == read
    monkeypatch.setenv("MEMAUDIT_DEVICES", device_variables(read)["MEMAUDIT_DEVICES"])
    assert Settings().devices == read


@pytest.mark.parametrize("written", ["cpu", "0,cuda:0", "0+0", "-1", "0;1", "0++1", "cuda:"])
def test_other_names_are_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("MEMAUDIT_DEVICES", written)
    with pytest.raises(ValidationError, match="give each device once"):
        Settings()


@pytest.mark.parametrize(
    ("shown", "visible"),
    [("", ()), ("2,3", ("2", "3")), ("GPU-8f, GPU-9a", ("GPU-8f", "GPU-9a")), ("1,-1,2", ("1",))],
)
def test_visible_devices_are_those_that_cuda_is_shown(
    tmp_path: Path, shown: str, visible: tuple[str, ...]
) -> None:
    (tmp_path / "nvidia0").touch()
    assert visible_devices({"CUDA_VISIBLE_DEVICES": shown}, tmp_path) == visible


def test_otherwise_they_are_the_cards_that_there_are_files_of(tmp_path: Path) -> None:
    for name in ("nvidia3", "nvidia7", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_devices({}, tmp_path) == ("0", "1")
    assert visible_devices({}, tmp_path / "absent") == ()


@pytest.mark.parametrize(
    ("asked", "visible", "groups"),
    [
        ([], (), []),
        ([], ("4", "5"), [("4",), ("5",)]),
        ([("1",), ("0",)], ("4", "5"), [("5",), ("4",)]),
        ([("0", "1")], ("GPU-8f", "GPU-9a"), [("GPU-8f", "GPU-9a")]),
        ([("GPU-8f",)], (), [("GPU-8f",)]),
    ],
)
def test_numbers_count_visible_devices(
    asked: Sequence[DeviceGroup], visible: Sequence[str], groups: list[DeviceGroup]
) -> None:
    assert device_groups(asked, visible) == groups


def test_a_device_that_is_not_visible_is_refused() -> None:
    with pytest.raises(EmbeddedError, match="names device 2, and this machine shows 2"):
        device_groups([("0",), ("2",)], ("0", "1"))


def take_own() -> None:
    take_devices(GROUPS, current_process().index)


def visible_to_this_process(_: object = None) -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "none")


def visible_to(pool: Pool) -> set[str]:
    found: set[str] = set()
    while len(found) < len(GROUPS):  # until each process has answered
        found.add(pool.apply(visible_to_this_process))
    return found


def test_each_process_of_a_pool_takes_its_own_and_so_does_one_in_its_stead() -> None:
    pool = Pool(2, initializer=take_own, maxtasksperchild=1)
    try:
        for _ in range(3):  # each answer ends a process, and another one takes its place
            assert visible_to(pool) == {"2,3", "GPU-8f"}
    finally:
        pool.terminate()
        pool.join()


def test_more_processes_than_groups_share_them_and_without_any_nothing_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    take_devices([], 1)
    assert visible_to_this_process() == "5"
    take_devices(GROUPS, 2)
    assert visible_to_this_process() == "2,3"


class Card:
    name = "NVIDIA H100"
    total_memory = 80 * 2**30


@pytest.mark.parametrize(("cards", "name"), [(1, "NVIDIA H100, 80 GiB"), (2, "2 x NVIDIA H100, 160 GiB")])
def test_a_process_with_several_cards_is_a_class_of_its_own(
    monkeypatch: pytest.MonkeyPatch, cards: int, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    assert this_machine("gpu").name == name
