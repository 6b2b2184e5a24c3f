"""Which folder is the data root, and that a mistyped one is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

import data
from data import DataError
from data.roots import data_root, describe_root


def test_the_argument_goes_before_the_environment_and_that_before_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGAN_DATA", "")
    assert data.__file__ is not None
    assert data_root() == Path(data.__file__).resolve().parent / "raw"
    assert data_root(data_root()) == data_root(), "the default may be given back, whether it exists or not"
    assert "CGAN_DATA is not set" in describe_root(data_root())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("CGAN_DATA", str(tmp_path / "elsewhere"))
    assert data_root() == data_root("") == tmp_path / "elsewhere"
    assert data_root(tmp_path) == data_root(str(tmp_path)) == tmp_path
    assert describe_root(tmp_path) == str(tmp_path)
    with pytest.raises(DataError, match=r"data root, .*missing, does not exist: .*mkdir"):
        data_root(tmp_path / "missing")
    monkeypatch.setenv("CGAN_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"CGAN_DATA, .*typo, does not exist"):
        data_root()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        data_root(tmp_path / "file")
