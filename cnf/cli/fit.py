"""`cnf fit`: train a model on a data set."""

from __future__ import annotations

import copy
import dataclasses
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import tyro
from tyro.conf import Positional

from cnf.arguments import Count, Positive, Seed
from cnf.checkpoints import save
from cnf.cli.claim import CHECKPOINT, METRICS, check_folder, claimed
from cnf.cli.kinds import as_text, declared, is_plain, seen_schema
from cnf.cli.mixed import ANY, MixedTable, mixed_table, report_table, train_table
from cnf.cli.options import ReadingOptions, check_options, model_options, optional, solving
from cnf.cli.pictures import check_shown, draw
from cnf.cli.report import measure, summary
from cnf.cli.runs import describe
from cnf.cli.usage import UsageError, check_devices, check_numbers, chosen_columns, names_in, note, use_threads
from cnf.data.columns import check_rows
from cnf.data.image_files import Bits
from cnf.data.image_sets import is_image_set
from cnf.data.reading import is_table, read_file
from cnf.data.sketch import keys_of
from cnf.data.sources import Source, open_source, reading_notes, table_source
from cnf.data.tabular import OpenTable, open_table
from cnf.errors import TrainingError
from cnf.files import write_json
from cnf.flows import Flow
from cnf.models import build
from cnf.tables.learning import takes_tables
from cnf.training.launch import find_launch

if TYPE_CHECKING:
    from cnf.training import FitConfig, FitResult

Options = Annotated[tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="KEY=VALUE"), tyro.conf.UseAppendAction]


@dataclass
class Fit(ReadingOptions):
    """Train a model on a data set, and write the model, its test results and its pictures to a folder.

    Args:
        data: Name of a built-in data set (see `cnf list`), or path of a table: .csv, .tsv, .txt, .data (also
            with .gz), .parquet, .feather, .xlsx, .npy; or folder of images.
        out: Folder to write. It must not exist, except with --resume.
        model: Name of the model; `cnf list` lists them. any_cnf takes columns of any kinds and empty cells; it is the
            default of tables that have other columns than complete ones of real numbers.
        kinds: Kinds of columns that are to be other than what is seen, such as city=category,wind=angle:360,
            age=integer, or a JSON file: of kinds by the names of columns, or an edited schema.json of a run.
        drop: Columns of a table to leave out, separated by commas.
        weights: Column of a table with the weights of its rows.
        context: Columns to condition on, separated by commas; the model is the density of the other columns given them.
            For images with classes: label.
        option: Option of the model, such as --option hidden=128,128; `cnf list` lists the options.
        steps: Budget: number of training steps.
        epochs: Budget: number of passes over the training data.
        seconds: Budget: training time in seconds.
        batch_size: Rows per training step.
        learning_rate: Highest learning rate of the schedule.
        patience: Stop after this many validation checks without improvement; None to never stop early.
        seed: Random seed for the split, the initial weights, the order of the data and all noise.
        columns: Columns to show in corner.png, separated by commas.
        bits: Bits of each pixel of images that are kept, of 8.
        flips: Mirror training images, left and right, at random.
        data_root: Folder of downloaded data sets.
        devices: Processes on this machine, one for each GPU.
        num_nodes: Number of machines; start the command on each with torchrun.
        accelerator: Where to train: auto, cpu or cuda.
        threads: CPU threads; more than one slow small models down.
        precision: Precision of matrix products in training.
        resume: Continue an interrupted run.
        progress: Show progress bars.
    """

    data: Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    model: Annotated[str | None, optional("NAME", "cnf, or any_cnf")] = None
    kinds: Annotated[str, optional("COLUMN=KIND,…", "seen by the cells")] = ""
    drop: Annotated[str, optional("COLUMNS")] = ""
    weights: Annotated[str, optional("COLUMN")] = ""
    context: Annotated[str, optional("COLUMNS")] = ""
    option: Options = ()
    steps: Annotated[Count | None, optional("INT")] = None
    epochs: Annotated[Positive | None, optional("FLOAT")] = None
    seconds: Annotated[Positive | None, optional("FLOAT", "90, without another budget")] = None
    batch_size: Count = 256
    learning_rate: Annotated[Positive | None, optional("FLOAT", "that of the model's recipe")] = None
    patience: Count | None = 5
    seed: Seed = 0
    columns: Annotated[str, optional("COLUMNS", "the first 8")] = ""
    bits: Annotated[Bits | None, optional("INT", "all")] = None
    flips: bool = False
    data_root: Annotated[Path | None, optional("FOLDER", "the environment variable CNF_DATA")] = None
    devices: Count = 1
    num_nodes: Count = 1
    accelerator: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    threads: Annotated[Count | None, optional("INT", "1 below 100,000 parameters, else all")] = None
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    resume: bool = False
    progress: bool = True

    def __call__(self) -> None:
        check_numbers(self)
        check_devices(self.devices)
        config, helper = self._config(), find_launch(self.devices, self.num_nodes).helper
        if not helper:
            check_folder(self.out, resume=self.resume)
        opened = self._opened()
        table = None if opened is None else self._mixed(opened)
        try:
            if table is not None:
                self._fit_table(table, config, helper)
            else:
                self._fit_source(self._source(opened), config, helper)
        except KeyboardInterrupt:
            if not helper:
                note(self._next())
            raise

    def _fit_source(self, source: Source, config: FitConfig, helper: bool) -> None:
        """Train a flow of numbers."""
        flow = self._flow(source)
        if helper:
            self._train(flow, source, config)
            return
        with claimed(self.out, resume=self.resume):
            rows = {part: len(getattr(source, part)) for part in ("train", "validation", "test")}
            about = self._about(source.columns, source.context, rows)
            describe(self.out, keys_of(source.train), about, resume=self.resume)
            self._report(flow, source, self._train(flow, source, config))

    def _fit_table(self, table: MixedTable, config: FitConfig, helper: bool) -> None:
        """Train a flow of a table."""
        train = partial(
            train_table, table, config, model=self.model or ANY, options=model_options(self.option), out=self.out,
            resume=self.resume, threads=self.threads,
        )  # fmt: skip
        if helper:
            train()
            return
        with claimed(self.out, resume=self.resume):
            about = self._about(table.schema.names, table.context, {}) | table.about()
            describe(self.out, [table.keys[table.fitted]], about, resume=self.resume)
            try:
                flow = train()
            except TrainingError as error:
                raise self._in_words_of_options(error) from error
            report_table(flow, table, self.out)

    def _opened(self) -> OpenTable | None:
        """The table, if the data are one."""
        if (is_table(self.data) or Path(self.data).is_file()) and not (
            is_image_set(self.data) or self.bits or self.flips
        ):
            text = as_text(declared(self.kinds))
            return open_table(self.data, header=self.header_given(), sheet=self.sheet, text=text)
        for name in ("kinds", "drop", "weights", "sheet"):
            if getattr(self, name):
                raise UsageError(f"--{name} is for tables of your own, and {self.data} is none: leave it out")
        return None

    def _mixed(self, opened: OpenTable) -> MixedTable | None:
        """The table, if it needs a flow of tables; what was understood is printed."""
        if self.model is not None and not takes_tables(self.model):
            if self.kinds or self.weights:
                given = "--kinds" if self.kinds else "--weights"
                raise UsageError(f"{given} is for --model {ANY}, {self.model} takes the numbers as they are")
            return None
        kinds, drop = declared(self.kinds), names_in(self.drop)
        left_out = [*drop, *([self.weights] if self.weights else [])]
        schema = seen_schema(self.data, opened, kinds, left_out)
        for line in reading_notes(self.data, opened):
            note(line)
        if not find_launch(self.devices, self.num_nodes).helper:
            print(schema, flush=True)
        frame = None if opened.reading is None else opened.reading.frame
        if self.model is None and not (self.kinds or self.weights) and is_plain(schema, frame, drop):
            return None
        check_options(self.model or ANY, model_options(self.option))
        if self.columns:
            raise UsageError("--columns chooses what corner.png shows, which is drawn of real numbers: leave it out")
        reading = opened.reading or read_file(self.data)
        return mixed_table(
            self.data, reading, schema, context=names_in(self.context), weights=self.weights, seed=self.seed
        )

    def _config(self) -> FitConfig:
        from cnf.training import FitConfig  # it loads the training engine

        names = {entry.name for entry in dataclasses.fields(FitConfig)} & set(vars(self))
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None or name == "patience"}
        return FitConfig(**given)

    def _source(self, opened: OpenTable | None) -> Source:
        if opened is None:
            return open_source(
                self.data, context=names_in(self.context), root=self.data_root, seed=self.seed, bits=self.bits,
                flips=self.flips,
            )  # fmt: skip
        drop = names_in(self.drop)
        return table_source(self.data, opened, context=names_in(self.context), seed=self.seed, drop=drop)

    def _flow(self, source: Source) -> Flow:
        """The model with its initial weights, after a check that it suits the data."""
        options = model_options(self.option)
        check_options(self.model or "cnf", options)
        if source.levels is not None:
            options["levels"] = source.levels
        torch.manual_seed(self.seed)
        try:
            flow = build(self.model or "cnf", source.event_shape, source.context_dim, **options)
        except TypeError as error:
            raise UsageError(f"--model {self.model} cannot be built with these options: {error}") from error
        check_shown(chosen_columns(self.columns, source.columns), flow, source)
        use_threads(flow, self.threads)
        x, context, _ = source.train.read([0])
        flow.rows(x, context)
        if not self.resume and not flow.transform.domain.event_dim:  # on a manifold, columns depend on each other
            check_rows(source.train, quiet=find_launch(self.devices, self.num_nodes).helper)
        return flow

    def _about(self, columns: Sequence[str], context: Sequence[str], rows: dict[str, int]) -> dict[str, Any]:
        """Data and model of the run, which later commands need, and which a resumed run is compared with."""
        given = {"kinds": self.kinds, "drop": self.drop, "weights": self.weights}
        return {
            "data": str(Path(self.data).resolve()) if Path(self.data).is_file() else self.data,
            "header": self.header_given(),
            "sheet": self.sheet,
            "model": self.model,
            "options": [pair for group in self.option for pair in group],
            "columns": list(columns),
            "context": list(context),
            "seed": self.seed,
            "bits": self.bits,
            "flips": self.flips or None,
            "data_root": None if self.data_root is None else str(self.data_root),
            "rows": rows,
        } | {name: value for name, value in given.items() if value}

    def _train(self, flow: Flow, source: Source, config: FitConfig) -> FitResult:
        from cnf.training import fit

        try:
            result = fit(
                flow, source.train, validation=source.validation, config=config, folder=self.out, resume=self.resume
            )
        except TrainingError as error:
            raise self._in_words_of_options(error, flow.recipe[0].learning_rate) from error
        if result.stopped == "interrupted":
            print(f"Interrupted at step {result.steps}; continue with the same command and --resume")
            raise SystemExit(128 + (result.signal or signal.SIGINT))  # as shells count
        return result

    def _in_words_of_options(self, error: TrainingError, rate: float | None = None) -> TrainingError:
        """The error with advice in terms of command line options instead of Python calls."""
        now = self.learning_rate or rate
        folder = ", in another --out" if (self.out / CHECKPOINT).exists() else ""
        told = copy.copy(error)
        told.kept = ""  # the flow ends with the command
        tried = f" (now {now:g})" if now else ""
        told.advice = (
            f"a smaller --learning-rate{tried}{folder}, looking for huge values in these rows (counted from 0, "
            "without the header), or another --model."
        )
        return told

    def _report(self, flow: Flow, source: Source, result: FitResult) -> None:
        """Write the model, the test results and then the pictures, which may fail."""
        save(flow, self.out)
        with solving(flow, f"cnf score {shlex.quote(str(self.out))} {shlex.quote(self.data)} with"):
            numbers = measure(flow, source, result, self.progress)
        write_json(self.out / METRICS, numbers)
        print(summary(numbers, self.out), flush=True)
        draw(flow, source, self.out, result.history, chosen_columns(self.columns, source.columns))

    def _next(self) -> str:
        """How to continue after a run that was interrupted."""
        if (self.out / METRICS).exists():
            return f"{self.out} holds the model and its numbers; cnf plot {shlex.quote(str(self.out))} draws them"
        if (self.out / CHECKPOINT).exists():
            return "continue with the same command and --resume"
        return "nothing has been trained; start again with the same command"
