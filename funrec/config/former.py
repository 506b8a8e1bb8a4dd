"""Keys and modules that have moved since version 0.1: its records are still read, its keys are pointed to what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Where the classes went that runs of version 0.1 name in their records.
FORMER_MODULES = {
    "funrec.baselines": "funrec.experiment.baselines",
    "funrec.data.kuairand": "funrec.data.datasets.kuairand",
    "funrec.data.synthetic": "funrec.data.datasets.synthetic",
    "funrec.data.synthetic_pair": "funrec.data.datasets.synthetic_pair",
    "funrec.data.tabular": "funrec.data.datasets.tabular",
    "funrec.training.loop": "funrec.training.trainer",
}

#: What to use in place of a key.
FORMER_KEYS = {
    "model.linear_term": "model/wide=linear or model/wide=none",
    "model.linear_scale": "model.wide.scale",
    "metrics.ndcg_k": "metrics/extra=[ndcg_at_k] with metrics.extra.ndcg_at_k.k",
    "model.linear_l2": "model.wide.l2, or for logistic model.backbone.l2",
}


def moved(key: str) -> str:
    """Return where a key has moved to, as the end of a message; nothing if it has not."""
    return f" It has moved: use {FORMER_KEYS[key]}." if key in FORMER_KEYS else ""


def full_label(label: str, config: Mapping[str, Any]) -> str:
    """Return a model's label with the linear part that version 0.1 left out; `config` as it was written."""
    has_term = bool((config.get("model") or {}).get("linear_term"))
    return f"{label} + linear" if has_term and label not in ("logistic", "popularity") else label


def translate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration as it reads today."""
    if "ndcg_k" in (metrics := config.get("metrics") or {}):
        # Version 0.1 recorded NDCG unasked, over other users.
        config = {**config, "metrics": {key: value for key, value in metrics.items() if key != "ndcg_k"}}
    model = dict(config.get("model") or {})
    if "linear_term" not in model:
        return dict(config)
    scale, penalty = model.pop("linear_scale", 30.0), model.pop("linear_l2", 0.0)
    model["wide"] = (
        {"_target_": "funrec.models.wide.linear.Linear", "scale": scale, "l2": penalty}
        if model.pop("linear_term")
        else {"_target_": "funrec.models.wide.none.NoWide"}
    )
    model["interaction"] = {"_target_": "funrec.models.interactions.none.NoInteraction"}
    model["groups"] = None
    if str(model["backbone"].get("_target_")).endswith(".Logistic"):
        model["backbone"] = {**model["backbone"], "l2": penalty}
    return {**config, "model": model}
