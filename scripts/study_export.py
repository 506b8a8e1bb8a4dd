"""Exported models beside the models themselves: every backbone under every funnel, in every format.

    python scripts/study_export.py                                # prints a line a pair, then a table of ONNX
    python scripts/study_export.py --backbones ple --funnels esmm --formats onnx
    python scripts/study_export.py --only-table < lines           # the table of lines that were printed before

A row has ids, text, numbers, buckets and lists, some of them unknown or missing, and a domain. Weights are random, so
that nothing stands at its start; logits lie between -16 and 16. What differs is the largest difference of a logit over
2,000 rows from the model as `funrec predict` runs it. A combination that funrec or a format refuses is a line that says
why.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import polars as pl

ROWS = 2_000
#: Largest logit: float32 has steps of 1e-6 below it, and of 8e-6 at 64.
MOST = 16.0
CONF = Path(__file__).parents[1] / "conf" / "model"
FORMATS = ("savedmodel", "onnx", "keras")
DATASET = (
    *("dataset=tabular", "dataset.group=user", "dataset.split={by: random, valid: 0.1}", "dataset.domain=tab"),
    "dataset.tasks={click: {label: click}, like: {label: like, after: click}, buy: {label: buy, after: click}}",
    "dataset.features={user: {}, item: {min_count: 2}, tab: {}, age: {kind: numeric}, "
    "price: {kind: numeric, fill: 0, quantiles: 8}, "
    "tags: {kind: sequence, max_length: 4, share_with: item, pooling: mean}}",
)


def log() -> pl.DataFrame:
    """Return raw rows of every kind of value."""
    draw = np.random.default_rng(0)
    click = draw.random(ROWS) < 0.5
    tags = [[f"i{tag}" for tag in draw.integers(0, 90, draw.integers(0, 6))] for _ in range(ROWS)]
    return pl.DataFrame(
        {
            "user": [None if user % 17 == 0 else user for user in draw.integers(0, 200, ROWS).tolist()],
            "item": [f"i{item}" for item in draw.integers(0, 90, ROWS)],
            "tab": draw.integers(0, 3, ROWS),
            "age": draw.normal(size=ROWS),
            "price": np.where(draw.random(ROWS) < 0.2, np.nan, draw.normal(size=ROWS)),
            "tags": pl.Series(tags, dtype=pl.List(pl.String)),
            "click": click.astype(int),
            "like": (click & (draw.random(ROWS) < 0.5)).astype(int),
            "buy": (click & (draw.random(ROWS) < 0.2)).astype(int),
        }
    )


class Study:
    """Builds and exports models on one small log."""

    def __init__(self, folder: Path) -> None:
        from funrec.config.build import build
        from funrec.config.compose import compose
        from funrec.data.datasets.base import Dataset
        from funrec.data.preparation.prepare import prepare
        from funrec.export.inputs import read_inputs

        self._folder = folder
        log().write_parquet(folder / "log.parquet")
        self._overrides = [*DATASET, f"dataset.path={folder / 'log.parquet'}"]
        dataset = build(compose(self._overrides)["dataset"], Dataset, "dataset")
        self.data = prepare(dataset, folder / "cache")
        self._raw = read_inputs(self.data, log())

    def model(self, backbone: str, funnel: str) -> tuple[Any, Any]:
        """Return the configuration of a pair, and its model with random weights."""
        from funrec.config.compose import compose
        from funrec.experiment.building import build_model
        from funrec.training.scoring import Scorer

        config = compose([*self._overrides, f"model/backbone={backbone}", f"model/funnel={funnel}"])
        model = build_model(config["model"], self.data.tasks, self.data.layout, "float32")
        model.initialise(0, dict.fromkeys(("click", "like", "buy"), 0.3))
        start, rows = [np.array(variable) for variable in model.trainable_variables], self.data.encode(log())
        for scale in (0.05, 0.02, 0.01):
            draw = np.random.default_rng(1)
            for variable, value in zip(model.trainable_variables, start, strict=True):
                variable.assign(value + draw.normal(scale=scale, size=value.shape))
            if max(np.abs(logits).max() for logits in Scorer(model).score(rows).values()) < MOST:
                break
        return config, model

    def difference(self, config: Any, model: Any, format: str) -> tuple[float, int, list[float]]:
        """Return a format's largest difference of a logit, its bytes, and milliseconds for 1 and 1,000 rows."""
        from importlib import import_module

        from funrec.export.export import FORMATS as NAMES
        from funrec.export.heads import Heads
        from funrec.export.score import load, milliseconds
        from funrec.training.scoring import Scorer

        writer = import_module(f"funrec.export.{'archive' if format == 'keras' else format}")
        with TemporaryDirectory(dir=self._folder) as place:
            path = Path(place) / NAMES[format]
            writer.write(Heads(model, None, None), self.data, path, *([config] if format == "keras" else []))
            score = load(path)
            found = score(self._raw)
            size = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
        expected = Scorer(model).score(self.data.encode(log()))
        some = [  # an archive is for Keras, which compiles it first
            0.0 if format == "keras" else milliseconds(score, {name: v[:rows] for name, v in self._raw.items()})
            for rows in (1, 1000)
        ]
        return max(float(np.abs(found[f"logit_{h}"] - v).max()) for h, v in expected.items()), size, some


def names(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def lines(backbones: Sequence[str], funnels: Sequence[str], formats: Sequence[str]) -> Iterator[str]:
    """Yield a line a pair and format: what differs, bytes, milliseconds."""
    from funrec.utils.errors import InputError
    from funrec.utils.files import one_line

    with TemporaryDirectory(prefix="study-export-") as folder:
        study = Study(Path(folder))
        for backbone in backbones:
            for funnel in funnels:
                try:
                    config, model = study.model(backbone, funnel)
                except InputError as error:
                    yield f"{backbone} {funnel} - refused: {error}"
                    continue
                for format in formats:
                    try:
                        found, size, (one, many) = study.difference(config, model, format)
                        yield f"{backbone} {funnel} {format} {found:.1e} {size} {one:.2f} {many:.2f}"
                    except Exception as error:  # what a converter cannot express has no class of its own
                        yield f"{backbone} {funnel} {format} refused: {one_line(error)}"


def table(printed: Sequence[str]) -> str:
    """Return ONNX's differences as a table in Markdown, and what the formats' largest are."""
    cells = {tuple(line.split()[:3]): line.split() for line in printed}
    backbones = list(dict.fromkeys(key[0] for key in cells))
    funnels = list(dict.fromkeys(key[1] for key in cells))
    rows = [["", *funnels], ["---"] * (len(funnels) + 1)]
    for backbone in backbones:
        found = [cells.get((backbone, funnel, "onnx"), ["-"] * 4)[3] for funnel in funnels]
        rows.append([backbone, *found])
    text = ["| " + " | ".join(row) + " |" for row in rows]
    for format in FORMATS:
        known = [cell for key, cell in cells.items() if key[2] == format and not cell[3].startswith("refused")]
        if known:
            worst = max(known, key=lambda cell: float(cell[3]))
            size, one, many = (np.median([float(cell[place]) for cell in known]) for place in (4, 5, 6))
            times = "" if format == "keras" else f", {one:.2f} ms for 1 row, {many:.2f} ms for 1,000"
            text.append(
                f"{format}: {len(known)} pairs, largest {worst[3]} ({worst[0]} x {worst[1]}); "
                f"medians {size / 1e6:.2f} MB{times}"
            )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=names("backbone"))
    parser.add_argument("--funnels", nargs="+", default=names("funnel"))
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--only-table", action="store_true", help="read lines from standard input")
    arguments = parser.parse_args()
    if arguments.only_table:
        print(table(sys.stdin.read().splitlines()))
        return
    printed, clock = [], time.perf_counter()
    for line in lines(arguments.backbones, arguments.funnels, arguments.formats):
        print(line, flush=True)
        printed.append(line)
    print(f"\n{table(printed)}\n{time.perf_counter() - clock:.0f} s")


if __name__ == "__main__":
    main()
