"""Every planted table of docs/objectives.md: selection, delays, duration bias, one after the other.

    python scripts/study_objectives.py [--seeds 10] [--grid 0 0.9] [--overrides ...]

Each study is a script of its own beside this one; options are passed on to all of them.
"""

from __future__ import annotations

import runpy
from pathlib import Path

STUDIES = ("study_selection", "study_delays", "study_duration")


def main() -> None:
    for name in STUDIES:
        print(f"\n{name}\n", flush=True)
        runpy.run_path(str(Path(__file__).with_name(f"{name}.py")), run_name="__main__")


if __name__ == "__main__":
    main()
