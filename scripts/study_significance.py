"""Are the claims of `funrec compare` calibrated? False claims, power and coverage, measured.

1. Simulated models with planted user and seed variance. A row has Gaussian features, part of which its user shares;
   a label depends on their sum; a variant's seed adds them up with weights that are off by noise of its own, and a
   better variant has less noise. The true AUC is known by integration. Measured over `--comparisons` pairs: how often
   variants that are equal are called better or worse (at most 5%), how often 95% intervals cover the true difference
   (93% to 97%), and how often a difference of growing size is found.
2. Real runs of one variant, which differ in seed alone: how many pairs of single runs intervals over users alone call
   different, and how many pairs of groups of seeds are called different as variants. Pairs share runs, so that their
   share is less certain than its ± says. Give run folders, or `--train N` trains small ones.

    python scripts/study_significance.py
    python scripts/study_significance.py --comparisons 100 --train 12
    python scripts/study_significance.py --comparisons 0 --runs outputs/sweeps/2026-01-31_12-00-00_1a2b
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from funrec.comparison.measuring import Meter, Rows, build_statistics
from funrec.comparison.significance import LEVEL, Accumulator, Estimate, Measured, estimate, holm
from funrec.comparison.variants import find
from funrec.metrics import standard_metrics

FEATURES = 32
SLOPE, INTERCEPT = 1.2, -1.5
#: What the true weights are off by, from seeds that differ in nothing but their jitter to seeds that differ a lot.
NOISES = (0.0, 0.15, 0.35, 0.8)
JITTER = 0.3
SHORT = ["dataset.rows=60_000", "dataset.users=2_000", "trainer.epochs=1"]
METRICS = ("auc_click", "gauc_click")


def draw_rows(random: np.random.Generator, users: int, shared: float) -> tuple[NDArray, Rows]:
    """Return features `(rows, features)` and rows; `shared` is the part of the features' variance between users."""
    sizes = 1 + random.geometric(0.12, users)
    codes = np.repeat(np.arange(users), sizes)
    features = np.sqrt(shared) * random.normal(size=(users, FEATURES))[codes]
    features += np.sqrt(1 - shared) * random.normal(size=features.shape)
    logits = SLOPE * features.sum(axis=1) / np.sqrt(FEATURES) + INTERCEPT
    labels = (random.random(codes.size) < expit(logits)).astype(np.float32)
    return features, Rows(codes, {"click": labels})


class Model(NamedTuple):
    """A trained model of the simulation: `score = features @ weights + jitter * noise of its own in every row`."""

    weights: NDArray
    jitter: float
    seed: int


def draw_model(random: np.random.Generator, noise: float, jitter: float) -> Model:
    """Return a seed's model: the true weights, off by Gaussian `noise`, which costs every seed another part of its AUC.

    The jitter costs all seeds the same, so that with jitter alone they differ on a sample of users and not in truth.
    """
    weights = np.ones(FEATURES) + noise * random.normal(size=FEATURES)
    return Model(weights, jitter * np.sqrt(FEATURES), int(random.integers(2**31)))


@cache
def auc_curve() -> tuple[NDArray, NDArray]:
    """Return correlations of the score with the true logit, and the AUC that each has, by integration."""
    t = np.linspace(-6, 6, 481)
    density = np.exp(-(t**2) / 2)
    positive, negative = density * expit(SLOPE * t + INTERCEPT), density * expit(-SLOPE * t - INTERCEPT)
    pairs = np.outer(positive / positive.sum(), negative / negative.sum())
    rho = np.linspace(0.05, 0.9999, 300)
    distance = t[:, None] - t[None, :]
    return rho, np.array([float((pairs * ndtr(r * distance / np.sqrt(2 * (1 - r * r)))).sum()) for r in rho])


def true_auc(models: Sequence[Model]) -> NDArray:
    """Return the AUC of models over all users, `(models,)`: it depends on their correlation with the true logit."""
    weights = np.stack([model.weights for model in models])
    jitter = np.array([model.jitter for model in models])
    deviation = np.sqrt(np.square(weights).sum(axis=1) + np.square(jitter))
    return np.interp(weights.sum(axis=1) / deviation / np.sqrt(FEATURES), *auc_curve())


def measure_models(features: NDArray, rows: Rows, models: Sequence[Model]) -> Measured:
    """Measure the seeds of a variant as `funrec compare` does."""
    statistics = [found.statistic for found in build_statistics(rows, standard_metrics(), set(METRICS)).values()]
    sums = Accumulator(np.array([statistic.count for statistic in statistics]))
    for model in models:
        noise = np.random.default_rng(model.seed).normal(size=len(features))
        scores = (features @ model.weights + model.jitter * noise).astype(np.float32)
        found = [statistic.measure(scores) for statistic in statistics]
        sums.add(np.array([value for value, _ in found]), np.stack([vector for _, vector in found]))
    return sums.result()


def simulate(
    random: np.random.Generator, comparisons: int, users: int, seeds: int, noises: tuple[float, float], jitter: float
) -> tuple[list[list[Estimate]], NDArray]:
    """Compare two variants many times, on other users and seeds each time.

    Returns:
        By comparison the estimates of `METRICS`, and the true AUC difference of the very models, `(comparisons,)`.
    """
    found, truths = [], []
    for _ in range(comparisons):
        features, rows = draw_rows(random, users, shared=0.3)
        sides = [[draw_model(random, noise, jitter) for _ in range(seeds)] for noise in noises]
        ours, base = (measure_models(features, rows, models) for models in sides)
        found.append([estimate(ours, weights, base) for weights in np.eye(len(METRICS))])
        truths.append(true_auc(sides[0]).mean() - true_auc(sides[1]).mean())
    return found, np.array(truths)


def variant_difference(random: np.random.Generator, noises: tuple[float, float], jitter: float) -> float:
    """Return the true AUC difference of two variants: a mean over many seeds."""
    means = [true_auc([draw_model(random, noise, jitter) for _ in range(20_000)]).mean() for noise in noises]
    return float(means[0] - means[1])


def share(hits: Sequence[bool] | NDArray) -> str:
    """Return a share with twice its binomial standard error."""
    rate = float(np.mean(hits))
    return f"{100 * rate:5.1f}% ± {200 * np.sqrt(rate * (1 - rate) / len(hits)):.1f}"


def study_simulations(comparisons: int, users: int, seed: int) -> None:
    """Print false claims and coverage by seeds a side and by how much seeds vary, and a power curve."""
    random = np.random.default_rng(seed)
    print(f"Equal variants, {comparisons} comparisons of {users} users each (± two binomial standard errors)")
    print("| sd over seeds | seeds a side | claim about | AUC: false claims | GAUC: false claims | AUC: covered |")
    print("|---|---|---|---|---|---|")
    for noise in NOISES:
        drawn = true_auc([draw_model(random, noise, JITTER) for _ in range(20_000)])
        for seeds in (1, 3, 5, 10):
            found, truths = simulate(random, comparisons, users, seeds, (noise, noise), JITTER)
            about = found[0][0].about_variants
            truth = np.zeros(comparisons) if about else truths
            claims = [share([pair[place].p_value <= LEVEL for pair in found]) for place in (0, 1)]
            if not about and noise:
                claims = ["the models differ"] * 2
            covered = [pair[0].low <= true <= pair[0].high for pair, true in zip(found, truth, strict=True)]
            claim = "variants" if about else "two trained models"
            print(f"| {drawn.std():.4f} | {seeds} | {claim} | {' | '.join(claims)} | {share(covered)} |", flush=True)
    print()
    print("A better variant: how often it is found, and how often its difference is covered")
    print("| true AUC difference | sd over seeds | seeds a side | called better | called worse | covered |")
    print("|---|---|---|---|---|---|")
    base = NOISES[2]
    for seeds in (3, 5, 10):
        for noise in np.array([1.0, 0.9, 0.75, 0.5, 0.2]) * base:
            truth = variant_difference(random, (noise, base), JITTER)
            spread = [
                true_auc([draw_model(random, each, JITTER) for _ in range(20_000)]).std() for each in (noise, base)
            ]
            found, _ = simulate(random, comparisons, users, seeds, (noise, base), JITTER)
            estimates = [pair[0] for pair in found]
            claimed = np.array([one.p_value <= LEVEL for one in estimates])
            above = np.array([one.value > 0 for one in estimates])
            covered = [one.low <= truth <= one.high for one in estimates]
            columns = (share(claimed & above), share(claimed & ~above), share(covered))
            sd = f"{spread[0]:.4f}, {spread[1]:.4f}"
            print(f"| {truth:+.4f} | {sd} | {seeds} | {' | '.join(columns)} |", flush=True)


def study_real_runs(paths: Sequence[str], seed: int) -> None:
    """Print how many pairs of runs, and of groups of runs, of one variant are called different."""
    runs = find(paths).runs
    names = [name for name in runs[0].record["metrics"] if name.startswith(("auc_", "gauc_")) and "_given_" not in name]
    meter = Meter(runs, names)
    names = [name for name in names if meter.is_measured(name)]
    single = [measured for run in runs if (measured := meter.measure([run])[1]) is not None]
    print(f"{len(single)} real runs of one variant, which differ in seed alone")
    print("| seeds a side | claim about | pairs | " + " | ".join(names) + " | any, after Holm |")
    print("|" + "---|" * (4 + len(names)))
    random = np.random.default_rng(seed)
    for seeds in (1, 3, 5, 10):
        if 2 * seeds > len(single):
            break
        pairs = list(itertools.combinations(single, 2))
        if seeds > 1:
            draws = [random.permutation(len(single))[: 2 * seeds] for _ in range(400)]
            pairs = [(_join([single[i] for i in d[:seeds]]), _join([single[i] for i in d[seeds:]])) for d in draws]
        p_values = np.array([[estimate(a, meter.weights(name), b).p_value for name in names] for a, b in pairs])
        any_claim = [min(holm(list(row))) <= LEVEL for row in p_values]
        claims = [share(p_values[:, place] <= LEVEL) for place in range(len(names))]
        about = "variants" if seeds >= 3 else "two trained models"
        print(f"| {seeds} | {about} | {len(pairs)} | {' | '.join(claims)} | {share(any_claim)} |", flush=True)


def _join(runs: Sequence[Measured]) -> Measured:
    """Return single runs as one variant."""
    return Measured(
        np.concatenate([run.values for run in runs]),
        np.mean([run.deviations for run in runs], axis=0),
        np.mean([run.products for run in runs], axis=0),
        runs[0].counts,
    )


def train(count: int, overrides: Sequence[str]) -> list[str]:
    """Train mmoe with so many seeds, under outputs/ in the working directory; return the run folders."""
    import funrec

    return [str(funrec.run_experiment("mmoe", f"seed={seed}", *overrides).path) for seed in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=400, help="simulated pairs a row; 0 simulates none")
    parser.add_argument("--users", type=int, default=1500, help="users of a simulated comparison")
    parser.add_argument("--runs", nargs="*", default=[], metavar="PATH", help="runs of one variant, by seed")
    parser.add_argument("--train", type=int, default=0, metavar="N", help="train N short runs and use them")
    parser.add_argument("--overrides", nargs="*", default=SHORT, help="of those runs, such as dataset=kuairand_pure")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    options = parser.parse_args()
    if options.comparisons:
        study_simulations(options.comparisons, options.users, options.seed)
        print()
    if paths := [*options.runs, *(train(options.train, options.overrides) if options.train else [])]:
        study_real_runs(paths, options.seed)


if __name__ == "__main__":
    main()
