"""Backbones on KuaiRand-Pure, each tuned with the same number of trials, then trained anew with five seeds.

    python scripts/tune_backbones.py ROOT FOLDER [--wide linear] [--trials 30] [--models mmoe ple ...]
    python scripts/tune_backbones.py ROOT FOLDER [--wide linear] --report

The first command trains up to 30 April and chooses on 1 and 2 May: the trial with the best mean rank over macro AUC and
macro GAUC. What it finds stays in FOLDER, and a study that was interrupted goes on. The second trains the chosen
configurations up to 2 May, evaluates them on 3 to 5 May and compares them; it is meant to be run once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MODELS = ("logistic", "single_task", "shared_bottom", "mmoe", "ple", "adatt", "home", "snr_trans", "dselect_k")
CHOOSING = ["dataset.split.valid_from=20220501", 'dataset.where="date <= 20220502"']
#: Days on which nothing was chosen, so that the runs say so.
REPORTED = ["dataset.split.valid_from=20220503", "dataset.where=null", "tuned_on=null"]
EPOCHS = "search.space.trainer.epochs={low: 2, high: 4}"
PENALTY = "search.space.model.wide.l2={low: 0.2, high: 10.0, log: true}"


def funrec(*arguments: str, folder: Path) -> str:
    """Run the command in a folder and return what it printed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "funrec.cli.main", *arguments]
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def study(folder: Path) -> Path | None:
    return next(iter(sorted((folder / "outputs/studies").glob("*"))), None)


def tune(model: str, folder: Path, options: argparse.Namespace) -> None:
    found = study(folder)
    if found is not None and not (found / "best").exists():
        print(funrec("resume", str(found.relative_to(folder)), folder=folder))
    elif found is None:
        wide = [f"model/wide={options.wide}", PENALTY] if options.wide != "none" and model != "logistic" else []
        objectives = f"search.trials={options.trials}", "search.objectives=[auc_macro,gauc_macro]"
        root = f"dataset.root={options.root.resolve()}"
        arguments = [f"model={model}", f"search={model}", root, *wide, *CHOOSING, EPOCHS, *objectives]
        print(funrec("tune", "experiment=kuairand_backbones", *arguments, folder=folder))


def report(models: list[str], options: argparse.Namespace) -> None:
    seeds = f"seed={','.join(map(str, range(1, options.seeds + 1)))}"
    sweeps = []
    for model in models:
        folder = options.folder / options.wide / model
        done = sorted((folder / "outputs/sweeps").glob("*"))
        if not done:
            best = study(folder) / "best"
            funrec("run", "-m", "--config-dir", str(best.resolve()), "experiment=best", seeds, *REPORTED, folder=folder)
            done = sorted((folder / "outputs/sweeps").glob("*"))
        sweeps += [str(sweep.resolve()) for sweep in done]
    baseline = "shared_bottom" if options.wide == "none" else f"shared_bottom + {options.wide}"
    print(funrec("compare", *sweeps, "--baseline", baseline, folder=options.folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="KuaiRand-Pure's folder")
    parser.add_argument("folder", type=Path, help="for studies and runs")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--wide", default="none", help="none or linear")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--report", action="store_true", help="train and compare what was chosen, on the days reported")
    options = parser.parse_args()
    if options.report:
        report(options.models, options)
        return
    for model in options.models:
        tune(model, options.folder / options.wide / model, options)


if __name__ == "__main__":
    main()
