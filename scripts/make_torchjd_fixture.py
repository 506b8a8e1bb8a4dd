"""Make tests/weighting/torchjd.npz: TorchJD's answers for 200 Gramians, so that tests need no PyTorch.

Run it in an environment of its own:

    python -m venv torchjd
    torchjd/bin/pip install torch==2.13.0 torchjd==0.18.0 quadprog qpsolvers cvxpy clarabel ecos
    torchjd/bin/python scripts/make_torchjd_fixture.py

Gramians of 2 to 6 tasks, of the kinds named in `KINDS`, in float64. TorchJD regularises some problems and stops some
solvers early; both are turned down as far as its solvers go, since we compare with the exact solution.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import cvxpy
import numpy as np
import torch
from torchjd.aggregation import (
    AlignedMTLWeighting,
    CAGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    MGDAWeighting,
    NashMTL,
    PCGradWeighting,
    UPGradWeighting,
)
from torchjd.linalg import QuadprogProjector

KINDS = ("random", "conflicting", "nearly_singular", "singular", "zero_gradient")
COUNT = 200
MOST_TASKS = 6
GRADVAC_STEPS = 3
GRADVAC_BETA = 0.3
CAGRAD_C = 0.5
FILE = Path(__file__).parent.parent / "tests" / "weighting" / "torchjd.npz"


def draw_gradients(kind: str, tasks: int, generator: np.random.Generator) -> np.ndarray:
    """Return gradients `(tasks, parameters)` whose norms differ up to tenfold."""
    gradients = generator.normal(size=(tasks, 12))
    if kind == "conflicting":
        gradients += np.where(np.arange(tasks) % 2, 1.2, -1.2)[:, None]
    if kind == "nearly_singular":
        gradients[-1] = gradients[0] + 0.05 * gradients[-1]
    if kind == "singular":  # fewer dimensions than tasks, all on one side, so that some direction helps every task
        gradients = generator.normal(size=(tasks, max(tasks - 1, 1)))
        gradients[:, 0] = np.abs(gradients[:, 0]) + 0.5
    if kind == "zero_gradient":
        gradients[generator.integers(tasks)] = 0
    return gradients * 10 ** generator.uniform(-0.5, 0.5, size=(tasks, 1))


def is_rank_plain(gramian: np.ndarray) -> bool:
    """Whether every eigenvalue is clearly 0 or clearly not, for Gramians summed in float32 as in float64."""
    values = np.linalg.eigvalsh(gramian)
    return not ((values > 1e-12 * values[-1]) & (values < 3e-6 * values[-1])).any()


def padded(values: np.ndarray) -> np.ndarray:
    return np.pad(values, [(0, MOST_TASKS - size) for size in values.shape[-1:] * values.ndim])


def tighten_clarabel() -> None:
    solve = cvxpy.Problem.solve

    def solve_tightly(self: cvxpy.Problem, solver: str | None = None, **options: object) -> float:
        if solver == cvxpy.CLARABEL:
            options |= {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13, "tol_feas": 1e-13, "max_iter": 500}
        return solve(self, solver=solver, **options)

    cvxpy.Problem.solve = solve_tightly


def with_orders(weighting: torch.nn.Module, gramian: torch.Tensor, orders: np.ndarray) -> np.ndarray:
    """Run a weighting that draws orders with `torch.randperm`, giving it ours.

    Row `i` of `orders` lists all tasks; GradVac draws the order of the others alone, by their place among them.
    """
    rows = iter(enumerate(orders))

    def next_order(size: int) -> torch.Tensor:
        task, order = next(rows)
        if size == len(order):
            return torch.tensor(order)
        return torch.tensor([other - (other > task) for other in order if other != task])

    original, torch.randperm = torch.randperm, next_order
    try:
        return weighting(gramian).numpy()
    finally:
        torch.randperm = original


def answer(gramian: np.ndarray, orders: np.ndarray) -> dict[str, np.ndarray]:
    """Return TorchJD's weights by scheme; NaN where it has none."""
    tasks = len(gramian)
    matrix = torch.tensor(gramian)
    values, vectors = np.linalg.eigh(gramian)
    root = torch.tensor(vectors * np.sqrt(np.maximum(values, 0)))  # gradients with this Gramian
    gradvac = GradVacWeighting(beta=GRADVAC_BETA, eps=1e-12)
    answers = {
        "aligned_mtl": AlignedMTLWeighting()(matrix).numpy(),
        "imtl_g": IMTLGWeighting()(matrix).numpy(),
        "mgda": MGDAWeighting(epsilon=1e-12, max_iters=3_000)(matrix).numpy(),
        "upgrad": UPGradWeighting(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-11))(matrix).numpy(),
        "cagrad": CAGradWeighting(c=CAGRAD_C)(matrix).numpy(),
        "pcgrad": with_orders(PCGradWeighting(), matrix, orders[0]),
    }
    for step in range(GRADVAC_STEPS):
        answers[f"gradvac_{step}"] = with_orders(gradvac, matrix, orders[step])
    try:
        nash = NashMTL(n_tasks=tasks, max_norm=1.0, optim_niter=50)
        answers["nash_mtl"] = nash.weighting(root).numpy().astype(np.float64)
    except (ValueError, cvxpy.SolverError):
        answers["nash_mtl"] = np.full(tasks, np.nan)
    return answers


def main() -> None:
    generator = np.random.default_rng(0)
    torch.set_default_dtype(torch.float64)
    tighten_clarabel()
    columns: dict[str, list] = {}
    for i in range(COUNT):
        tasks, kind = 2 + i % 5, KINDS[i // 5 % len(KINDS)]
        gradients = draw_gradients(kind, tasks, generator)
        while not is_rank_plain(gramian := gradients @ gradients.T):
            gradients = draw_gradients(kind, tasks, generator)
        orders = np.array([[generator.permutation(tasks) for _ in range(tasks)] for _ in range(GRADVAC_STEPS)])
        row = {name: padded(weights) for name, weights in answer(gramian, orders).items()}
        row |= {"gramian": padded(gramian), "tasks": tasks, "kind": kind}
        row["orders"] = np.stack([padded(order) for order in orders]).astype(np.int8)
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    constants = {"gradvac_beta": GRADVAC_BETA, "cagrad_c": CAGRAD_C, "torchjd": version("torchjd")}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(FILE, **columns, **constants)
    print(f"{FILE}: {COUNT} Gramians, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
