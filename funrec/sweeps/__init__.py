"""Where the jobs of a sweep run: processes of this machine, and Hydra's way of choosing them."""

from __future__ import annotations


def register() -> None:
    """Make `hydra/sweeper=funrec` and `hydra/launcher=process` known to Hydra.

    Hydra takes plug-ins from the package `hydra_plugins` alone, and imports all it finds there whenever any program
    that uses Hydra starts, which an editable install hides from it besides. Ours are known to it in funrec alone.
    """
    import importlib
    import sys
    from types import ModuleType

    from hydra.core.plugins import Plugins

    from funrec.sweeps.process import ProcessLauncher
    from funrec.sweeps.sweeper import Sweeper

    plugins = Plugins.instance()
    try:
        package = importlib.import_module("hydra_plugins")
    except ModuleNotFoundError:  # no plug-in is installed
        package = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
    place = ModuleType("hydra_plugins.funrec")
    vars(package)["funrec"] = place
    for plugin in (Sweeper, ProcessLauncher):
        known = type(plugin.__name__, (plugin,), {"__module__": place.__name__, "__doc__": plugin.__doc__})
        setattr(place, plugin.__name__, known)
        plugins.register(known)
