"""Whether a run that is resumed goes on as it began."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import fingerprint
from funrec.runs.folder import checkpoint_notes
from funrec.runs.provenance import differences, origin
from funrec.utils.errors import InputError

log = logging.getLogger("funrec")


def check_origin(config: Mapping[str, Any], folder: Path, force: bool) -> None:
    """Check that a checkpoint's configuration, data, code and libraries are those that are here now.

    Args:
        config: The configuration to go on with.
        folder: The run's folder.
        force: Whether to say what differs and go on.

    Raises:
        InputError: If they are not, with what differs.
    """
    notes = checkpoint_notes(folder)
    if notes is None:
        return
    dataset = build(config["dataset"], Dataset, "dataset")
    found = differences(notes.get("origin", {}), origin(config, fingerprint(dataset)))
    if not found:
        return
    if not force:
        raise InputError(
            f"{folder} should go on as it began, {notes['position']}. Changed since: {'; '.join(found)}. "
            "Run it anew, or go on all the same with --force."
        )
    log.warning("Going on although this has changed since: %s.", "; ".join(found))
