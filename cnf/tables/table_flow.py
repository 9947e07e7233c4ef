"""A flow of tables as people have them, in scikit-learn's conventions."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnf.checkpoints import load, save
from cnf.data.keys import row_keys
from cnf.errors import CheckpointError, CnfError, DataError
from cnf.files import read_json, write_json
from cnf.tables.codec import to_frame, to_numbers
from cnf.tables.coding import Coded, Coding
from cnf.tables.estimator import Estimator
from cnf.tables.evaluation import log_prob_given, sample_cells
from cnf.tables.kinds import schema_of
from cnf.tables.learning import learned, parts_of
from cnf.tables.libraries import in_library, library_of, pandas_types
from cnf.tables.partial import conditions, is_one_row, partial_numbers
from cnf.tables.prediction import Prediction, prediction_of
from cnf.tables.reading import read
from cnf.tables.schema import Schema, check_names
from cnf.tables.unknown import coded_rows
from cnf.tables.unusual import conformal, two_sided
from cnf.training import FitConfig, FitResult

DRAWS = 64  # of the noise within levels


class TableFlow(Estimator):
    """The density of a table: columns of any kind, empty cells, any cells given any others.

    `fit` reads the table, sees what its columns are (`schema`), and trains a flow. Rows with empty cells are used as
    they are: an empty cell is integrated out. Columns of levels that follow from another column are not modelled but
    looked up; a row that contradicts this has probability 0. Log-probabilities are with respect to the units of the
    numbers and to counting for levels and whole numbers.

    Args:
        model: The model, a key of `cnf.MODELS` that takes any cells as given: "any_cnf".
        kinds: Kinds of columns that are to be other than what is seen, such as `{"wind": "angle:360"}`; see
            `cnf.tables.parse_kind`.
        drop: Names of columns to leave out.
        seconds: Budget of training.
        steps: Budget in steps, in the place of `seconds`; then training can be repeated to the bit.
        seed: Of the split, of training and of the noise of scores and samples.
        unknown: What a level is that the training had not, when rows are scored: "error", or "impossible", with −∞.

    Attributes:
        schema: Kinds of the columns, and why; see `cnf.tables.Schema`.
        flow: The trained `cnf.Flow` of rows, coded as `coding` says.
        coding: How numbers of the table become rows of the flow and back.
        validation: Log-probabilities of the rows that training was judged by; p-values compare with them.
        result: What `cnf.fit` returned; None where it was loaded.

    Example:
        >>> import numpy as np, cnf
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> table = {"size": x[:, 0], "weight": x[:, 0] + 0.1 * x[:, 1]}
        >>> flow = cnf.TableFlow(steps=1).fit(table)
        >>> flow.log_prob(table).shape, flow.sample(3, given={"size": 1.0})["size"].to_list()
        ((200,), [1.0, 1.0, 1.0])
    """

    def __init__(
        self,
        model: str = "any_cnf",
        *,
        kinds: Mapping[str, str] = {},
        drop: Collection[str] = (),
        seconds: float = 90,
        steps: int | None = None,
        seed: int = 0,
        unknown: str = "error",
    ) -> None:
        self.model, self.kinds, self.drop = model, kinds, drop
        self.seconds, self.steps, self.seed, self.unknown = seconds, steps, seed, unknown

    def fit(
        self,
        table: Any,
        y: None = None,
        *,
        schema: Schema | None = None,
        weights: Any = None,
        options: Mapping[str, Any] = {},
        config: FitConfig | None = None,
        progress: bool = False,
        folder: str | Path | None = None,
        resume: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> TableFlow:
        """Train on a table: a path, a DataFrame of pandas or Polars, an Arrow table, a mapping of columns or an array.

        Args:
            table: The rows.
            y: Not used.
            schema: Of the columns, in the place of what `kinds`, `drop` and the cells say.
            weights: Of the rows, `(N,)`, see `cnf.fit`.
            options: Of the model, such as `{"hidden": (64, 64)}`.
            config: Settings of training, in the place of `seconds`, `steps`, `seed` and `progress`.
            progress: Whether to show a bar.
            folder: Where training keeps its checkpoint and its log.
            resume: Whether to go on from the checkpoint there.
            clock: Gives the seconds that the budget counts.

        Raises:
            DataError: A table that cannot be modelled; the message says why and what to do.
        """
        reading = read(table, text=[name for name, kind in self.kinds.items() if kind.startswith("category")])
        if schema is None:
            schema = schema_of(reading.frame, kinds=self.kinds, drop=self.drop, mixed=reading.mixed)
        self.schema, self._library, self._types = schema, library_of(table), pandas_types(table)
        values = to_numbers(reading.frame, schema)
        config = config or self._config(progress)
        self.coding = Coding.of(values, schema, parts_of(row_keys(values), config.seed)[0])
        result, judged = learned(
            self.model, self.coding, values, [schema.names[i] for i in self.coding.modelled], config, options=options,
            weights=None if weights is None else np.asarray(weights), folder=folder, resume=resume, clock=clock,
        )  # fmt: skip
        self.result: FitResult | None = result
        self.flow = result.flow
        self.validation = self._scores(self.coding.encode(values[judged]), (), DRAWS)
        return self

    def _config(self, progress: bool) -> FitConfig:
        seconds = self.seconds if self.steps is None else None
        return FitConfig(seconds=seconds, steps=self.steps, seed=self.seed, progress=progress)

    @property
    def exact(self) -> bool:
        """Whether log-probabilities are exact, up to the error of the ODE solver."""
        return self.fitted.flow.exact

    @property
    def likelihood(self) -> str:
        """What log-probabilities are, in words."""
        return "exact" if self.exact else "a lower bound"

    @property
    def fitted(self) -> TableFlow:
        """Itself, if it has been trained.

        Raises:
            CnfError: It has not.
        """
        if not hasattr(self, "flow"):
            raise CnfError("this TableFlow is not trained yet: call fit(table), or TableFlow.load(folder)")
        return self

    def log_prob(self, table: Any, given: Collection[str] = (), *, draws: int = DRAWS) -> np.ndarray:
        """Log-probabilities of rows in nats, `(N,)`: of the cells that have a value, given those of columns `given`.

        Where levels are among them it is a lower bound, which more draws make tighter.

        Args:
            table: Rows with the columns of the schema, in any order; empty cells are integrated out.
            given: Names of columns that are conditions.
            draws: Of the noise within levels, for each row.

        Raises:
            DataError: Columns are missing, or cells do not fit the schema.
        """
        check_names(given, self.fitted.schema.names, "given")
        return self._scores(self._coded(table), given, draws)

    def score_samples(self, table: Any) -> np.ndarray:
        """`log_prob(table)`, by the name that scikit-learn has for it."""
        return self.log_prob(table)

    def p_values(self, table: Any) -> np.ndarray:
        """Conformal p-values, `(N,)`: `(1 + #{validation rows no more likely}) / (n + 1)`.

        They are uniform for new rows, whatever the model; a small one is an unusual row. For rows of the training they
        mean nothing.

        References:
            Bates et al. 2023, arXiv 2104.08279.
        """
        return conformal(self.log_prob(table), self.validation)

    def typicality(self, table: Any) -> np.ndarray:
        """The same p-values for `|log p − mean|`, so that rows that are far too likely are unusual too, `(N,)`.

        References:
            Nalisnick et al. 2019, arXiv 1906.02994.
        """
        return two_sided(self.log_prob(table), self.validation)

    def contributions(self, table: Any, *, draws: int = DRAWS) -> dict[str, np.ndarray]:
        """For each column `−log p(x_j | x_−j)`, `(N,)`, how unusual a cell is given the others of its row.

        NaN where the cell is empty. A column that follows from another one has 0.
        """
        coded = self._coded(table)
        found = {name: np.zeros(len(coded.x)) for name in self.schema.names}
        for place, column in enumerate(self.coding.modelled):
            given = np.arange(coded.x.shape[1]) != place
            values = -self._scored(coded, given, draws)
            found[self.schema.names[column]] = np.where(coded.present[:, place].numpy(), values, np.nan)
        return found

    def sample(self, n: int = 1, given: Any = None) -> Any:
        """Draw n rows, as a table of the library that `fit` was given.

        Args:
            n: Number of rows.
            given: Conditions: a mapping of columns to values, or a table of one row, or of n rows. Cells that are empty
                or missing are sampled.

        Raises:
            DataError: Conditions that do not fit the schema, or contradict each other.
        """
        generator = torch.Generator().manual_seed(self.fitted.seed)
        drawn = self._drawn(conditions(given, n, self.schema), generator)
        own = given is None or is_one_row(given)
        return self._table(drawn, self._library if own else library_of(given), self._types | pandas_types(given))

    def impute(self, table: Any, draws: int = 1) -> Any:
        """The table with its empty cells drawn from their distribution given the others of their rows.

        Args:
            table: Rows with some columns of the schema; columns that are missing are drawn too.
            draws: How many completed tables; of several a list is returned, each in the library of `table`.
        """
        values, generator = partial_numbers(table, self.fitted.schema), torch.Generator().manual_seed(self.fitted.seed)
        kind = library_of(table), self._types | pandas_types(table)
        tables = [self._table(self._drawn(values, generator), *kind) for _ in range(draws)]
        return tables[0] if draws == 1 else tables

    def predict(self, table: Any, column: str, *, draws: int = 200) -> Prediction:
        """The distribution of one column given the other cells of each row.

        Args:
            table: Rows; where the column has values, the prediction is compared with them.
            column: Its name.
            draws: Samples of each row.
        """
        check_names([column], self.fitted.schema.names, "column")
        place = self.schema.names.index(column)
        values = partial_numbers(table, self.schema)
        truth = values[:, place].copy()
        values[:, place] = np.nan
        every = self._drawn(np.tile(values, (draws, 1)), torch.Generator().manual_seed(self.seed))
        drawn = every[:, place].reshape(draws, -1)
        return prediction_of(column, drawn, truth, self.schema[column].levels, seed=self.seed)

    def save(self, folder: str | Path) -> Path:
        """Write `model.json`, `model.safetensors` and `table.json` to a folder; `load` reads them."""
        folder = save(self.fitted.flow, folder)
        params = self.get_params() | {"drop": list(self.drop), "kinds": dict(self.kinds)}
        facts = {"params": params, "library": self._library, "types": self._types, "schema": self.schema.to_json()}
        facts |= {"coding": self.coding.to_json(), "validation": self.validation.tolist()}
        write_json(folder / "table.json", facts)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> TableFlow:
        """Read what `save` wrote.

        Raises:
            CheckpointError: Files are missing or damaged.
        """
        path = Path(folder) / "table.json"
        facts = read_json(path)
        try:
            flow = cls(**facts["params"])
            flow.schema, flow.coding = Schema.from_json(facts["schema"]), Coding.from_json(facts["coding"])
            flow._library, flow._types, flow.result = facts["library"], facts["types"], None
            flow.validation = np.array(facts["validation"], dtype=float)
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise CheckpointError(f"{path} is not as TableFlow.save wrote it: {error!r}") from error
        flow.flow = load(folder)
        return flow

    def _coded(self, table: Any) -> Coded:
        return coded_rows(table, self.schema, self.coding, unknown=self.unknown)

    def _scores(self, coded: Coded, given: Collection[str], draws: int) -> np.ndarray:
        names = [self.schema.names[place] for place in self.coding.modelled]
        return self._scored(coded, np.array([name in given for name in names]), draws)

    def _scored(self, coded: Coded, given: np.ndarray, draws: int) -> np.ndarray:
        return log_prob_given(self.flow, coded, given, draws=draws, seed=self.seed)

    def _drawn(self, values: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Numbers of the table with sampled values where there are none."""
        coded = self.coding.encode(values)
        if coded.impossible.any():
            rows = np.flatnonzero(coded.impossible)[:5].tolist()
            raise DataError(f"conditions in rows {rows} never occurred in the training, or contradict each other")
        drawn = self.coding.decode(sample_cells(self.flow, len(values), coded.conditions(), generator=generator))
        return np.where(np.isnan(values), drawn, values)

    def _table(self, values: np.ndarray, library: str, types: dict[str, str]) -> Any:
        return in_library(to_frame(values, self.schema), library, types)
