"""Checkpoints: contents survive, damage is refused, a failure leaves the old file whole; kills are in test_trainer."""

from __future__ import annotations

import errno
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cgan import checkpoint
from cgan.networks import Generator
from tests.cgan.nets import layers, refused, specs

TENSORS = {
    "G.w": torch.arange(6.0).view(2, 3),
    "step": torch.tensor(3.0),
    "labels": torch.tensor([1, -2]),
    "half": torch.tensor([0.1], dtype=torch.bfloat16),
    "rng": torch.arange(7, dtype=torch.uint8),
    "nothing": torch.empty(0, 4),
    "turned": torch.arange(12.0).view(3, 4).t(),
    "parameter": torch.nn.Parameter(torch.arange(3.0)),
}
RECORD = {"t": 1500, "best": float("-inf"), "identity": {"seed": 1, "name": "ä"}, "history": [{"d_loss": 0.1}]}


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == TENSORS.keys() and all(
        value.dtype == TENSORS[name].dtype and torch.equal(value, TENSORS[name]) for name, value in tensors.items()
    )


def test_a_saved_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    digest = checkpoint.save(path, TENSORS, RECORD)
    tensors, record = checkpoint.load(path)
    assert same(tensors) and record == RECORD and checkpoint.tensors_sha256(tensors) == digest
    assert [*tmp_path.iterdir()] == [path]
    assert same(load_file(path))  # A plain safetensors file, as any tool reads it.


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, RECORD)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with refused(str(path), "not a readable safetensors file"):
            checkpoint.load(path)
    save_file({"G.w": TENSORS["G.w"]}, tmp_path / "foreign")
    (tmp_path / "weights.pth").write_bytes(b"PK")
    for name, says in (("foreign", "not a checkpoint of this project"), ("weights.pth", "weights_only=True")):
        with refused(name, says):
            checkpoint.load(tmp_path / name)
    for missing in (tmp_path / "nothing", tmp_path):
        with refused(str(missing), "no such checkpoint"):
            checkpoint.load(missing)


def test_any_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, RECORD)
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place * 5 % 8)  # Every bit has its turn in one byte or another.
        path.write_bytes(damaged)
        with refused(str(path)):
            checkpoint.load(path)


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, RECORD)
    with pytest.raises(FileNotFoundError):
        checkpoint.save(tmp_path / "missing" / "c", TENSORS, RECORD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # As a full disk: no file grows beyond 4 KiB.
    try:
        with pytest.raises(OSError) as caught:
            checkpoint.save(path, {"big": torch.zeros(10_000)}, RECORD)
        assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert same(checkpoint.load(path)[0])
    assert [*tmp_path.iterdir()] == [path]


def test_weights_load_into_their_own_network_alone(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    spec = specs(condition="embedding", generator={"joint": layers("relu:6,batch_norm")})
    first, second = Generator(spec[0], rng), Generator(spec[0], rng)
    checkpoint.load_into(second, first.state_dict(), tmp_path)
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())
    wider = Generator(specs(condition="embedding")[0], rng)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    for module, state, words in (
        (wider, first.state_dict(), ("joint.0.norm.weight", "none expected")),
        (second, wider.state_dict(), ("joint.0.norm.weight", "missing")),
        (wider, {**wider.state_dict(), "output.bias": torch.zeros(4)}, ("output.bias", "(4,)", "(5,)")),
    ):
        with refused("best.safetensors", "another spec", *words):
            checkpoint.load_into(module, state, tmp_path / "best.safetensors")
    assert all(torch.equal(before[name], value) for name, value in wider.state_dict().items())
