"""A flow as an estimator of scikit-learn; `cnf.interop.sklearn` is the door to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from cnf.arguments import Count, Rule, conform
from cnf.data import Rows
from cnf.data.keys import row_keys
from cnf.flows import Flow
from cnf.metrics import log_prob_of_rows
from cnf.models import build
from cnf.training import FitConfig
from cnf.training import fit as train_flow

Part = Annotated[float, Rule("not below 0 and below 1", lambda value: 0 <= value < 1)]
Weighted = tuple[np.ndarray, np.ndarray | None]  # rows and their weights
Nothing = tuple[None, None]
FEWEST = 50  # rows from which some are kept for validation


class FlowDensity(DensityMixin, BaseEstimator):
    """Density of a table by a flow, with the methods of `sklearn.neighbors.KernelDensity`.

    It works in pipelines, cross-validation and grid search. All numbers are float64. With a budget in steps, the same
    random state gives the same flow.

    Args:
        model: Name of the model, a key of `cnf.MODELS`.
        options: Options of the model, such as `{"hidden": (64, 64)}`.
        steps: Budget: number of training steps.
        seconds: Budget: seconds of training. The first budget that is used up ends the training; without any it has
            90 seconds.
        batch_size: Rows per training step.
        learning_rate: Highest learning rate; None for that of the model's recipe.
        validation_fraction: Share of the rows that judge the training and end it early. Below 50 rows there are none,
            and the last weights are kept.
        patience: Checks without improvement after which the training ends; None for never.
        random_state: Seed of the weights, the validation rows, the order of the rows and all noise: a whole number, a
            `numpy.random.RandomState`, or None for another one each time.
        verbose: Whether to show a progress bar.

    Attributes:
        flow_: The trained flow, in float64; its densities are in the units of the data.
        history_: One mapping for each check of the training, see `cnf.FitResult`.
        n_iter_: Number of training steps.
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns, if the data had names.

    Example:
        >>> import numpy as np
        >>> from cnf.interop.sklearn import FlowDensity
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> density = FlowDensity("realnvp", options={"hidden": 8}, steps=5, random_state=0).fit(x)
        >>> density.score_samples(x).shape, density.sample(3, random_state=0).shape
        ((100,), (3, 2))
    """

    flow_: Flow
    history_: list[dict[str, float]]
    n_iter_: int

    def __init__(
        self,
        model: str = "cnf",
        *,
        options: Mapping[str, Any] | None = None,
        steps: int | None = 1000,
        seconds: float | None = None,
        batch_size: int = 256,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = 5,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.options = options
        self.steps = steps
        self.seconds = seconds
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> FlowDensity:
        """Train the flow.

        Args:
            X: `(n_samples, n_features)`, an array or a data frame of finite numbers.
            y: Not used.
            sample_weight: `(n_samples,)`, not negative; a weight of 2 counts like two equal rows, 0 like none.

        Returns:
            The estimator.

        Raises:
            ValueError: Parameters out of range, or data that have no density, such as a constant column.
        """
        seed = int(check_random_state(self.random_state).randint(2**31))
        config = self._config(seed)
        x, weights = self._checked(X, sample_weight)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            flow = build(self.model, x.shape[1], **dict(self.options or {})).double()
        (train, train_weights), (validation, validation_weights) = self._parts(x, weights, seed)
        names = getattr(self, "feature_names_in_", ())
        result = train_flow(
            flow, Rows(train, torch.float64, columns=names), None, validation, config,
            weights=train_weights, validation_weights=validation_weights,
        )  # fmt: skip
        self.flow_, self.history_, self.n_iter_ = result.flow, result.history, result.steps
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-densities `(n_samples,)` in nats, in the units of the data.

        A row whose density cannot be computed has NaN, and a `cnf.FailedRowsWarning` names it.

        Args:
            X: `(n_samples, n_features)`, with the columns of the training.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        log_prob: np.ndarray = log_prob_of_rows(self.flow_, x).numpy()
        return log_prob

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-density in nats a row; higher is better.

        Args:
            X: As for `score_samples`.
            y: Not used.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> np.ndarray:
        """Draw rows `(n_samples, n_features)` from the density.

        Args:
            n_samples: Number of rows.
            random_state: Seed of the samples, as in the constructor.
        """
        check_is_fitted(self)
        generator = torch.Generator().manual_seed(int(check_random_state(random_state).randint(2**31)))
        pieces = self.flow_.sample_in_pieces(conform("n_samples", Count, n_samples), generator=generator)
        return torch.cat(list(pieces)).numpy()

    def _config(self, seed: int) -> FitConfig:
        return FitConfig(
            steps=self.steps, seconds=self.seconds, batch_size=self.batch_size, learning_rate=self.learning_rate,
            patience=self.patience, seed=seed, progress=conform("verbose", bool, self.verbose), accelerator="cpu",
        )  # fmt: skip

    def _checked(self, X: Any, sample_weight: Any) -> Weighted:
        """The rows that count, and their weights."""
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if sample_weight is None:
            return x, None
        cells = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
        weights = column_or_1d(cells)
        check_consistent_length(x, weights)
        check_non_negative(weights, "sample_weight")
        counted = weights > 0
        if counted.sum() < 2:
            raise ValueError(
                f"sample_weight must be above 0 in at least 2 rows, got {counted.sum()} such rows: a row of "
                "weight zero does not count"
            )
        return x[counted], weights[counted]

    def _parts(self, x: np.ndarray, weights: np.ndarray | None, seed: int) -> tuple[Weighted, Weighted | Nothing]:
        """The rows for training and for validation, with their weights; copies of a row are in one part."""
        share = conform("validation_fraction", Part, self.validation_fraction)
        copies = row_keys(x)
        distinct = len(np.unique(copies))
        if distinct < FEWEST or share * distinct < 1:
            return (x, weights), (None, None)
        shuffle = GroupShuffleSplit(n_splits=1, test_size=share, random_state=seed)
        train, validation = (
            (x[rows], None if weights is None else weights[rows]) for rows in next(shuffle.split(x, groups=copies))
        )
        return train, validation
