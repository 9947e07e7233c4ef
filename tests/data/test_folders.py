"""The folder of downloaded data."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnf.data.folders import data_root
from cnf.errors import DataError


def test_data_root_is_the_argument_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("CNF_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(str(other)) == other
    monkeypatch.setenv("CNF_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"got .*none, which is no folder; correct .*CNF_DATA"):
        data_root()
    monkeypatch.delenv("CNF_DATA")
    with pytest.raises(DataError, match="pass --data-root .* or set the environment variable CNF_DATA"):
        data_root()
