"""The report of a trained flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnf.arguments import checked
from cnf.data.sources import Source
from cnf.flows import Flow
from cnf.plotting.report.calibration import calibration_section
from cnf.plotting.report.columns import columns_section
from cnf.plotting.report.curve import curve_section
from cnf.plotting.report.images import density_section, images_section
from cnf.plotting.report.markup import Html
from cnf.plotting.report.numbers import number, with_error
from cnf.plotting.report.page import Section, tiles, write_page
from cnf.plotting.report.pairs import pairs_section
from cnf.plotting.report.rows import (
    SCORED,
    TOLERANCE,
    Judged,
    Part,
    judged_cells,
    pairs_of,
    part_of,
    schema_of_rows,
    scored,
    scores_of,
    unusual_of,
)
from cnf.plotting.report.schema import schema_section
from cnf.plotting.report.scores import scores_section
from cnf.plotting.report.unusual import unusual_section
from cnf.plotting.report.use import flow_code, flow_commands, use_section


@checked
def flow_report(
    flow: Flow,
    source: Source,
    path: str | Path,
    *,
    history: Sequence[Mapping[str, float]] = (),
    numbers: Mapping[str, Any] = {},
    folder: str | Path | None = None,
) -> Path:
    """Write what there is to know of a trained flow as one HTML page, which needs no network.

    The page of a table shows its columns, the likelihood of held-out rows beside simple densities, the training, data
    beside samples, calibration, the most unusual rows, and how to load the model. The pages of images and of toys show
    pictures. A part that fails is named on the page.

    Args:
        flow: The flow.
        source: Its data.
        path: The file.
        history: `FitResult.history`.
        numbers: Further results: "test_nll", "likelihood", "training_seconds" and others of `metrics.json`.
        folder: Where the flow is saved, for the lines that load it; by default that of the page.

    Returns:
        The path.

    Example:
        >>> import tempfile, cnf, numpy as np
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savetxt(f"{folder}/x.csv", np.random.default_rng(0).normal(size=(30, 1)), header="x", comments="")
        ...     source = cnf.data.open_source(f"{folder}/x.csv")
        ...     print(flow_report(flow, source, f"{folder}/report.html").name)
        report.html
    """
    path = Path(path)
    page = _Page(flow, source, history, numbers, str(folder or path.parent))
    sections = page.of_images() if len(source.event_shape) == 3 else page.of_rows()
    return write_page(path, Path(source.name).name, page.lead, page.tiles, sections)


class _Page:
    """The parts of a page; what several of them need is computed once."""

    def __init__(
        self,
        flow: Flow,
        source: Source,
        history: Sequence[Mapping[str, float]],
        numbers: Mapping[str, Any],
        folder: str,
    ) -> None:
        self.flow, self.source, self.history, self.numbers, self.folder = flow, source, history, numbers, folder

    @property
    def lead(self) -> str:
        name = (self.flow.spec or {}).get("name", type(self.flow.transform).__name__)
        shape = " × ".join(map(str, self.source.event_shape))
        what = f"images of {shape}" if len(self.source.event_shape) == 3 else f"{shape} columns"
        given = f" given {', '.join(self.source.context)}" if self.source.context else ""
        return f"The density of {what}{given}, learned by the model {name}."

    @property
    def tiles(self) -> Html:
        numbers = self.numbers
        facts = [
            ("rows", f"{sum(len(part) for part in self.parts):,}", " / ".join(f"{len(part):,}" for part in self.parts))
        ]
        facts[0] = (*facts[0][:2], f"training, validation, test: {facts[0][2]}")
        if "test_nll" in numbers:
            nll = with_error(numbers["test_nll"], numbers.get("test_nll_standard_error") or np.nan)
            facts.insert(0, ("test NLL, nats a row", nll, self.likelihood))
        if "bits_per_dim" in numbers:
            bits = with_error(numbers["bits_per_dim"], numbers["bits_per_dim_standard_error"] or np.nan)
            facts.insert(
                1, ("bits per dimension", bits, f"uniform noise: {number(numbers['bits_per_dim_of_uniform_noise'])}")
            )
        if "kl" in numbers:
            facts.insert(
                1, ("KL to the exact density", with_error(numbers["kl"], numbers["kl_standard_error"]), "nats")
            )
        if "training_seconds" in numbers:
            facts.append(("training", f"{numbers['training_seconds']:.0f} s", f"{numbers['steps']:,} steps"))
        facts.append(("parameters", f"{sum(parameter.numel() for parameter in self.flow.parameters()):,}", ""))
        return tiles(facts)

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.source.train, self.source.validation, self.source.test

    @property
    def likelihood(self) -> str:
        return str(self.numbers.get("likelihood", "exact" if self.flow.exact else "estimated"))

    @property
    def euclidean(self) -> bool:
        """Whether columns can be taken one by one, as on manifolds they cannot."""
        return not self.flow.transform.domain.event_dim

    @cached_property
    def test(self) -> Part:
        return part_of(self.source.test, SCORED)

    @cached_property
    def log_prob(self) -> np.ndarray:
        return scored(self.flow, self.test)

    @cached_property
    def judged(self) -> Judged:
        return judged_cells(self.flow, self.source)

    def of_rows(self) -> list[Section]:
        """Of a table or a toy."""
        table = self.source.toy is None
        plane = self.source.event_shape == (2,) and not self.source.context and self.euclidean
        sections = [
            (
                table,
                "Data",
                lambda: schema_section(schema_of_rows(self.source), [self.source.note] if self.source.note else []),
            ),
            (plane, "Density", lambda: density_section(self.flow, self.source)),
            (self.euclidean, "Likelihood", self._likelihood),
            (True, "Training", lambda: curve_section(self.history)),
            (table, "Columns", lambda: columns_section(*self._shown)),
            (table and not plane, "Pairs", lambda: pairs_section(self._shown[0])),
            (table and self.euclidean, "Calibration", self._calibration),
            (table and self.euclidean, "Unusual rows", self._unusual),
            (True, "Use", self._use),
        ]
        return [Section(name, make) for wanted, name, make in sections if wanted]

    def of_images(self) -> list[Section]:
        return [
            Section("Samples", lambda: images_section(self.flow, self.test, self.log_prob)),
            Section("Training", lambda: curve_section(self.history)),
            Section("Use", self._use),
        ]

    @cached_property
    def _shown(self) -> Any:
        return pairs_of(self.flow, self.source)

    def _likelihood(self) -> Html:
        scores = scores_of(self.source, self.test, self.log_prob, self.likelihood)
        return scores_section(scores, f"Compared on {self.test.said} test rows.")

    def _calibration(self) -> Html:
        columns = dict(zip(self.source.columns, self.judged.pit.T, strict=False))
        left = len(self.source.columns) - len(columns)
        few = f" The last {left} columns are left out." if left else ""
        how = f"From {self.judged.rows} test rows, by quadrature of the joint density, tolerance {TOLERANCE:g}.{few}"
        return calibration_section(columns, how)

    def _unusual(self) -> Html:
        unusual = unusual_of(self.flow, self.source, self.test, self.log_prob, self.judged.surprise)
        modelled = schema_of_rows(self.source).columns[: len(self.source.columns)]
        return unusual_section(unusual, modelled, f"Chosen from {self.test.said} test rows; rows are counted from 0.")

    def _use(self) -> Html:
        width = int(np.prod(self.source.event_shape))
        classes = self.source.context_dim if len(self.source.event_shape) == 3 else 0
        code = flow_code(self.folder, self.source.context, width, classes)
        return use_section(code, flow_commands(self.folder, self.source.context, self.source.name))
