"""What an epoch comes to: its row of the history, and what is shown of it while a model trains."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("funrec")


class TrainingProgress:
    """Shows epoch, speed, losses and time left: in a live line on standard error, or as log lines, one per epoch."""

    def __init__(self, tasks: Sequence[str], total_steps: int, live: bool) -> None:
        self.tasks = list(tasks)
        self._live: Progress | None = None
        if live:
            self._live = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f}%  {task.fields[speed]}  {task.fields[losses]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar = self._live.add_task("", total=total_steps, epoch=1, speed="", losses="")

    def __enter__(self) -> TrainingProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live:
            self._live.stop()

    def skip(self, steps: int) -> None:
        """Show steps that were taken before: no speed and no time left follow from them."""
        if self._live and steps:
            self._live.reset(self._bar, completed=steps)

    def advance(self, epoch: int, steps: int, rows_per_second: float, losses: np.ndarray, weights: np.ndarray) -> None:
        """Show a finished block: its mean losses and weights `(tasks,)`."""
        if self._live:
            self._live.update(
                self._bar,
                advance=steps,
                epoch=epoch + 1,
                speed=f"{rows_per_second:,.0f} rows/s",
                losses=self._losses(losses, weights),
            )

    def end_epoch(self, row: Mapping[str, Any], monitor: str) -> None:
        """Show a finished epoch, as its row of the history has it."""
        losses = np.array([row[f"loss_{task}"] for task in self.tasks])
        weights = np.array([row[f"weight_{task}"] for task in self.tasks])
        score = f", {monitor} {row[monitor]:.4f}" if monitor in row else ""
        losses_text = self._losses(losses, weights)
        self.say(f"epoch {row['epoch']}: {losses_text}{score}, {row['rows_per_second']:,.0f} rows/s")

    def say(self, text: str) -> None:
        """Log a line; where there is a live line, show it above, since a log line would be drawn over it."""
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        log.log(logging.DEBUG if self._live else logging.INFO, "%s", text)

    def _losses(self, losses: np.ndarray, weights: np.ndarray) -> str:
        return " ".join(
            f"{task} {loss:.4f}" + ("" if weight == 1 else f" (x{weight:.2g})")
            for task, loss, weight in zip(self.tasks, losses, weights, strict=True)
        )


class EpochTotals:
    """Sums over an epoch's steps; a task counts in the steps in which it had a valid row."""

    def __init__(self, tasks: Iterable[str]) -> None:
        self.tasks = list(tasks)
        self.steps = 0
        self.seconds = 0.0
        #: Steps that fell back to even weights; None for a weighting that solves nothing.
        self.fallbacks: int | None = None
        count = len(self.tasks)
        self._losses, self._weights, self._active = np.zeros(count), np.zeros(count), np.zeros(count)
        self._norms, self._with_norm = np.zeros(count), np.zeros(count)
        self._cosines, self._with_cosine = np.zeros((count, count)), np.zeros((count, count))

    def add(self, report: Mapping[str, np.ndarray], seconds: float) -> None:
        """Add a block of steps, as `TrainingStep.run` reports them."""
        losses, weights = (report[name].astype(np.float64) for name in ("losses", "weights"))
        active = report.get("active", np.ones(losses.shape, bool))
        self.steps += len(losses)
        self.seconds += seconds
        self._losses += (losses * active).sum(0)
        self._weights += (weights * active).sum(0)
        self._active += active.sum(0)
        if "gramian" in report:
            self._add_gramians(report["gramian"].astype(np.float64), active)

    def _add_gramians(self, gramians: np.ndarray, active: np.ndarray) -> None:
        norms = np.sqrt(np.maximum(np.diagonal(gramians, axis1=1, axis2=2), 0))  # (steps, tasks)
        self._norms += (norms * active).sum(0)
        self._with_norm += active.sum(0)
        products = norms[:, :, None] * norms[:, None, :]
        is_known = products > 0
        self._cosines += (gramians / np.where(is_known, products, 1) * is_known).sum(0)
        self._with_cosine += is_known.sum(0)

    def to_plain(self) -> dict[str, Any]:
        """Return it as what JSON has; floats survive that to the last bit."""
        sums = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}
        return {name.lstrip("_"): value for name, value in sums.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> EpochTotals:
        """Return what `to_plain` was called on."""
        totals = cls(plain["tasks"])
        for name, value in vars(totals).items():
            known = plain[name.lstrip("_")]
            setattr(totals, name, np.asarray(known) if isinstance(value, np.ndarray) else known)
        return totals

    @property
    def losses(self) -> np.ndarray:
        """Mean losses, `(tasks,)`; 0 for a task that had no valid row."""
        return self._losses / np.maximum(self._active, 1)

    @property
    def weights(self) -> np.ndarray:
        return self._weights / np.maximum(self._active, 1)

    def row(self, epoch: int, batch_size: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return the epoch's row of the history.

        `loss_<task>`, `weight_<task>` and the validation metrics; where the weighting reads gradients also
        `gradient_norm_<task>` and `gradient_cosine_<task>_<other>`, means over the steps in which both had a gradient
        (absent if there was none); and `weighting_fallbacks`, the steps that fell back to even weights.
        `epoch` is counted from 0.
        """
        return {
            "epoch": epoch + 1,
            "steps": self.steps,
            **{f"loss_{task}": float(loss) for task, loss in zip(self.tasks, self.losses, strict=True)},
            **{f"weight_{task}": float(weight) for task, weight in zip(self.tasks, self.weights, strict=True)},
            **self._gradients(),
            **({} if self.fallbacks is None else {"weighting_fallbacks": self.fallbacks}),
            **metrics,
            "seconds": self.seconds,
            "rows_per_second": self.steps * batch_size / max(self.seconds, 1e-9),
        }

    def _gradients(self) -> dict[str, float]:
        columns = {}
        for task, norm, steps in zip(self.tasks, self._norms, self._with_norm, strict=True):
            if steps:
                columns[f"gradient_norm_{task}"] = float(norm / steps)
        for i, j in combinations(range(len(self.tasks)), 2):
            if steps := self._with_cosine[i, j]:
                columns[f"gradient_cosine_{self.tasks[i]}_{self.tasks[j]}"] = float(self._cosines[i, j] / steps)
        return columns
