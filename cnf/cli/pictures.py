"""The pictures of a trained model; one that fails is reported, and the others are drawn."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor

from cnf.cli.claim import METRICS
from cnf.cli.options import in_words_of_options
from cnf.cli.usage import UsageError, note
from cnf.continuous.twins import cnfs_of
from cnf.data.sources import Source
from cnf.errors import SampleError
from cnf.files import read_json
from cnf.flows import Flow
from cnf.tables import TableFlow

if TYPE_CHECKING:
    import polars as pl

Draw = Callable[[Any, Path], object]  # with the plotting functions, to a file
IMAGES, PLANE, CORNER = "samples.png", "fit.png", "corner.png"  # one of them for each kind of data
REPORT, LOG = "report.html", "log.csv"
DATA_ROWS, SAMPLES = 2_000, 2_000  # in a corner plot
PAIRS = 6  # of images with others between them


def draw(
    flow: Flow,
    source: Source,
    out: Path,
    history: Sequence[dict[str, float]] = (),
    columns: Sequence[str] = (),
    folder: Path | None = None,
) -> list[Path]:
    """Draw the pictures that suit the data, the training curves if there are any, and write the report page.

    Args:
        flow: The model.
        source: Its data.
        out: Where to write.
        history: `FitResult.history`.
        columns: Which columns to compare; by default the first ones.
        folder: Where the model is, with its results and its log; by default `out`.

    Returns:
        What was written; for each picture that failed, standard error has a line with the reason.
    """
    pictures = [*_pictures(flow, source, history, columns), (REPORT, _report(flow, source, history, folder or out))]
    return [path for name, make in pictures if _drawn(make, path := out / name, flow)]


def _report(flow: Flow, source: Source, history: Sequence[dict[str, float]], folder: Path) -> Draw:
    def make(plotting: Any, path: Path) -> None:
        numbers = read_json(folder / METRICS) if (folder / METRICS).exists() else {}
        plotting.flow_report(
            flow, source, path, history=history or _log(folder / LOG), numbers=numbers, folder=folder.resolve()
        )

    return make


def _log(path: Path) -> list[dict[str, float]]:
    """The checks of a training run, from the log in its folder; none where there is no log."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def draw_table(
    flow: TableFlow, train: pl.DataFrame, test: pl.DataFrame, out: Path, *, name: str, notes: Sequence[str] = (),
    folder: Path | None = None,
) -> list[Path]:  # fmt: skip
    """Draw the training curves of a flow of a table, and write its report page.

    Args:
        flow: The model.
        train: Rows that it was trained on.
        test: Rows that it has not seen.
        out: Where to write.
        name: Of the data.
        notes: What was understood when the table was read.
        folder: Where the model is, with its results and its log; by default `out`.

    Returns:
        What was written.
    """
    at = folder or out
    history = flow.result.history if flow.result is not None else _log(at / LOG)

    def report(plotting: Any, path: Path) -> None:
        plotting.table_report(
            flow, train, test, path, name=name, notes=notes, history=history, numbers=read_json(at / METRICS),
            folder=at.resolve(),
        )  # fmt: skip

    pictures = [("training.png", _training(history))] if history else []
    return [path for name, make in [*pictures, (REPORT, report)] if _drawn(make, path := out / name)]


def _drawn(make: Draw, path: Path, flow: Flow | None = None) -> bool:
    try:
        from cnf import plotting  # it loads matplotlib

        make(plotting, path)
    except Exception as error:  # a picture that fails must not end the command, whose results are written
        if isinstance(error, SampleError) and flow is not None and cnfs_of(flow):
            error = in_words_of_options(error, "cnf plot with")
        note(f"{path.name} could not be drawn: {' '.join(str(error).split()) or type(error).__name__}")
        return False
    return True


def _pictures(
    flow: Flow, source: Source, history: Sequence[dict[str, float]], columns: Sequence[str]
) -> list[tuple[str, Draw]]:
    pictures = [("training.png", _training(history))] if history else []
    main = main_picture(flow, source)
    if main == IMAGES:
        return [*pictures, *_images(flow, source).items()]
    makers: dict[str, Callable[[], Draw]] = {
        PLANE: lambda: _fit(flow, source),
        CORNER: lambda: _corner(flow, source, columns),
    }
    if main is not None:
        pictures.append((main, makers[main]()))
    if main == PLANE and flow.transform.continuous:
        pictures += [("path.png", _path(flow)), ("path.gif", _animation(flow))]
    return pictures


def main_picture(flow: Flow, source: Source) -> str | None:
    """Which picture compares data and samples."""
    if len(source.event_shape) == 3:
        return IMAGES
    if source.event_shape == (2,) and not source.context and not flow.transform.domain.event_dim:
        return PLANE
    return CORNER if source.columns else None


def check_shown(columns: Sequence[str], flow: Flow, source: Source) -> None:
    """Refuse a choice of columns where no picture shows columns.

    Raises:
        UsageError: There is no corner.png.
    """
    main = main_picture(flow, source)
    if columns and main != CORNER:
        instead = f", for which {main} is drawn" if main else ""
        raise UsageError(
            f"--columns chooses what corner.png shows, but there is none of {source.name}{instead}: leave --columns out"
        )


def _noise() -> Generator:
    return Generator().manual_seed(0)


def _training(history: Sequence[dict[str, float]]) -> Draw:
    return lambda plotting, path: plotting.save_figure(plotting.training_figure(history), path)


def _images(flow: Flow, source: Source) -> dict[str, Draw]:
    """Samples, the same at other temperatures, images between held-out images, and the way from noise to images."""
    x, context = source.test.read(range(min(2 * PAIRS, len(source.test))))[:2]

    def samples(plotting: Any, path: Path) -> None:
        plotting.save_figure(
            plotting.samples_figure(flow, context=plotting.classes_shown(source.context_dim), generator=_noise()), path
        )

    def temperatures(plotting: Any, path: Path) -> None:
        figure = plotting.samples_figure(
            flow,
            context=plotting.classes_shown(source.context_dim),
            temperatures=plotting.TEMPERATURES,
            generator=_noise(),
        )
        plotting.save_figure(figure, path)

    def between(plotting: Any, path: Path) -> None:
        plotting.save_figure(plotting.neighbours_figure(flow, x, context, generator=_noise()), path)

    def way(plotting: Any, path: Path) -> None:
        plotting.images_animation(flow, path, context=plotting.classes_shown(source.context_dim), generator=_noise())

    pictures: dict[str, Draw] = {IMAGES: samples, "temperatures.png": temperatures, "between.png": between}
    return {**pictures, "path.gif": way} if flow.transform.continuous else pictures


def _fit(flow: Flow, source: Source) -> Draw:
    toy = source.toy
    density = toy.log_prob if toy is not None and toy.density is not None else None
    names = ("", "") if toy is not None else source.columns  # x and y of a toy need no names

    def make(plotting: Any, path: Path) -> None:
        x, _ = _rows(source)
        figure = plotting.fit_figure(flow, x, true_density=density, columns=names, generator=_noise())
        plotting.save_figure(figure, path)

    return make


def _path(flow: Flow) -> Draw:
    return lambda plotting, path: plotting.save_figure(plotting.trajectory_figure(flow, generator=_noise()), path)


def _animation(flow: Flow) -> Draw:
    return lambda plotting, path: plotting.path_animation(flow, path, generator=_noise())


def _corner(flow: Flow, source: Source, columns: Sequence[str]) -> Draw:
    shown = [source.columns.index(name) for name in columns] or list(range(len(source.columns)))

    def make(plotting: Any, path: Path) -> None:
        x, context = _rows(source)
        copies = -(-SAMPLES // len(x))  # of each context, so that the samples of few rows have a shape to see
        conditions = None if context is None else context.repeat(copies, 1)
        samples = flow.sample(SAMPLES if context is None else copies * len(x), conditions, generator=_noise())
        figure = plotting.corner_figure(
            x[:, shown], samples[:, shown], [source.columns[i] for i in shown],
            max_columns=len(columns) or 8, labels=("test rows", "samples"),
        )  # fmt: skip
        plotting.save_figure(figure, path)

    return make


def _rows(source: Source) -> tuple[Tensor, Tensor | None]:
    x, context, _ = source.test.read(range(min(len(source.test), DATA_ROWS)))
    return x, context
