"""Rows of a table as a flow sees them, and back: the units of columns, and those that follow from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cnf.discrete import cells_context
from cnf.tables.dependences import Dependence, check_lines, dependences_of
from cnf.tables.schema import Schema
from cnf.tables.units import Unit, unit_from_json, unit_of, unit_to_json


class Coded(NamedTuple):
    """Rows for a flow.

    Attributes:
        x: `(N, D)`, 0 for empty cells.
        present: `(N, D)`, whether a cell has a value.
        log_slope: `(N, D)`, `log |dx/dvalue|`, 0 for empty cells.
        impossible: `(N,)`, whether a row has a value that no row of the training could have.
    """

    x: Tensor
    present: Tensor
    log_slope: np.ndarray
    impossible: np.ndarray

    def context(self, given: np.ndarray) -> Tensor:
        """The context in which the cells that are present are modelled, but for those `given`, `(D,)` or `(N, D)`."""
        mask = torch.from_numpy(np.broadcast_to(given, self.x.shape).copy()) & self.present
        return cells_context(self.x, mask, self.present & ~mask)

    def rows(self, numbers: np.ndarray) -> Coded:
        """Some of the rows."""
        return Coded(self.x[numbers], self.present[numbers], self.log_slope[numbers], self.impossible[numbers])

    def conditions(self) -> Tensor:
        """The context in which the cells that are present are given, and the others modelled."""
        return cells_context(self.x, self.present)


@dataclass(frozen=True)
class Coding:
    """How the numbers of a table, see `cnf.tables.to_numbers`, become rows of a flow.

    Attributes:
        units: Of all columns.
        dependences: Columns that are not modelled, because they follow from others.
    """

    units: tuple[Unit, ...]
    dependences: tuple[Dependence, ...] = ()

    @classmethod
    def of(cls, values: np.ndarray, schema: Schema, train: np.ndarray | None = None) -> Coding:
        """The coding of a table's numbers, `(N, D)` with NaN for empty cells.

        Args:
            values: The numbers.
            schema: Of the columns.
            train: Numbers of the rows that say which values are atoms; others could not judge what they helped to make.
        """
        pairs = zip(schema.columns, values.T, (values if train is None else values[train]).T, strict=True)
        units = tuple(unit_of(column, cells, seen) for column, cells, seen in pairs)
        check_lines(values, schema.names, units)
        return cls(units, dependences_of(_coded(values, units), units))

    @property
    def modelled(self) -> list[int]:
        """Places of the columns that the flow has."""
        gone = {each.column for each in self.dependences}
        return [place for place in range(len(self.units)) if place not in gone]

    @property
    def options(self) -> dict[str, Any]:
        """What `cnf.build("any_cnf", D)` needs to know of the columns."""
        units = [self.units[place] for place in self.modelled]
        return {
            "levels": tuple(unit.levels for unit in units),
            "atoms": tuple(_floats(unit.encode(np.array(unit.atoms))) for unit in units),
            "whole": tuple(place for place, unit in enumerate(units) if unit.whole),
            "circles": tuple(place for place, unit in enumerate(units) if unit.circle),
        }

    def encode(self, values: np.ndarray) -> Coded:
        """Rows for the flow, from numbers `(N, D)`."""
        x = _coded(values, self.units)
        unknown = np.isnan(x) & ~np.isnan(values)
        slopes = np.stack([_log_slope(unit, cells) for unit, cells in zip(self.units, values.T, strict=True)], 1)
        broken = unknown.any(1)
        for each in self.dependences:
            broken |= self._contradicts(x, each)
        kept = self.modelled
        present = ~np.isnan(x[:, kept])
        coded = torch.from_numpy(np.where(present, x[:, kept], 0.0)).float()
        return Coded(coded, torch.from_numpy(present), np.where(present, slopes[:, kept], 0.0), broken)

    def _contradicts(self, x: np.ndarray, each: Dependence) -> np.ndarray:
        """Whether a column is not what it follows from; a source that is empty is filled, if it can be."""
        source, column = x[:, each.source], x[:, each.column]
        if each.inverse is not None:
            lost = np.isnan(source) & ~np.isnan(column)
            x[lost, each.source] = _looked_up(column[lost], each.inverse)
        expected = _looked_up(x[:, each.source], each.table)
        return ~np.isnan(expected) & ~np.isnan(column) & (expected != column)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """The numbers of all columns, from rows of the flow with NaN for empty cells."""
        whole = np.full((len(x), len(self.units)), np.nan)
        whole[:, self.modelled] = x
        for each in self.dependences:
            whole[:, each.column] = _looked_up(whole[:, each.source], each.table)
        return np.stack([_decoded(unit, cells) for unit, cells in zip(self.units, whole.T, strict=True)], 1)

    def to_json(self) -> dict[str, Any]:
        """As numbers and words."""
        dependences = [
            {"column": each.column, "source": each.source, "table": [list(pair) for pair in each.table.items()]}
            for each in self.dependences
        ]
        return {"units": [unit_to_json(unit) for unit in self.units], "dependences": dependences}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Coding:
        """What `to_json` gave."""
        dependences = [
            Dependence(each["column"], each["source"], dict(map(tuple, each["table"]))) for each in facts["dependences"]
        ]
        return cls(tuple(map(unit_from_json, facts["units"])), tuple(dependences))


def _coded(values: np.ndarray, units: tuple[Unit, ...]) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([unit.encode(cells) for unit, cells in zip(units, values.T, strict=True)], 1)


def _looked_up(levels: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Levels by a table, NaN where it has none."""
    found = np.full(max(table, default=0) + 2, np.nan)
    for key, value in table.items():
        found[key] = value
    places = np.where(np.isnan(levels) | (levels > max(table, default=0)), len(found) - 1, levels).astype(int)
    return found[places]


def _log_slope(unit: Unit, cells: np.ndarray) -> np.ndarray:
    """0 where the log-probability is one of a value, not of a density."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isin(cells, unit.counted), 0.0, unit.log_slope(cells))


def _decoded(unit: Unit, x: np.ndarray) -> np.ndarray:
    """Values from numbers of the flow; an atom is given back as it was."""
    values, atoms = unit.decode(x), np.array(unit.atoms)
    if not len(atoms):
        return values
    coded = np.array(_floats(unit.encode(atoms)))
    place = np.clip(np.searchsorted(coded, x), 0, len(atoms) - 1)
    return np.where(coded[place] == x, atoms[place], values)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.astype(np.float32).astype(float).tolist())
