"""Imported by the process that forks a sweep's jobs, so that none of them has to wait for TensorFlow's import.

A process with several threads cannot be forked safely. TensorFlow starts its threads with its first operation, so it
may be imported here and not used; Polars starts them when it is imported, so nothing here may import it; OpenBLAS
starts one per core unless it is told not to, and so does the allocator of pyarrow, which pandas imports if it is there.
"""

from __future__ import annotations

import importlib
import os

from funrec.runs.provenance import running_code
from funrec.utils.logging import load_tensorflow

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
load_tensorflow(look_for_devices=False)
running_code()  # which is the code that the jobs run, whatever becomes of the files meanwhile
for _module in ("funrec.training.trainer", "funrec.training.gates", "funrec.config.compose", "funrec.metrics"):
    importlib.import_module(_module)
