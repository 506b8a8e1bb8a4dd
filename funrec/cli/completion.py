"""`funrec completion`: a shell completes commands, choices, configuration keys and paths."""

from __future__ import annotations

from collections.abc import Sequence

from funrec.cli.arguments import Parser

SCRIPTS = {
    "bash": """\
_funrec() {
    local IFS=$'\\n'
    COMPREPLY=($(funrec completion --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    local start="${COMP_LINE:0:COMP_POINT}"; start="${start##* }"
    # readline takes what follows the last of its word breaks, such as =, for the word
    local cut="${start%"${start##*[=:,]}"}"; COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -o nospace -o default -F _funrec funrec
""",
    "zsh": """\
_funrec() {
    local -a found; found=("${(@f)$(funrec completion --line "${LBUFFER}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -U -S '' -a found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _funrec funrec
""",
}

#: Commands that take overrides, as they begin.
COMPOSED = (("run",), ("tune",), ("data", "describe"))


def main(arguments: Sequence[str]) -> int:
    """Print what a shell evaluates, or the completions of a line."""
    parser = Parser(prog="funrec completion", description='Completion in the shell: eval "$(funrec completion bash)"')
    parser.add_argument("shell", nargs="?", choices=SCRIPTS, help="bash or zsh")
    parser.add_argument("--line", help="print how this command line may go on, a completion per line")
    options = parser.parse_args(arguments)
    if options.line is not None:
        print("\n".join(completions(options.line)))
    elif options.shell is None:
        parser.error(f"name a shell: {' or '.join(SCRIPTS)}")
    else:
        print(SCRIPTS[options.shell], end="")
    return 0


def completions(line: str) -> list[str]:
    """Return what the last word of a command line may become; nothing where it is a path."""
    from funrec.cli.main import COMMANDS
    from funrec.config.catalogue import GROUPS

    *before, word = [*line.split()[1:], *([""] if line.endswith(" ") else [])] or [""]
    choices = {
        (): COMMANDS,
        ("list",): GROUPS,
        ("data",): ("describe", "verify", "fetch"),
        ("completion",): tuple(SCRIPTS),
    }
    if (given := choices.get(tuple(before))) is not None:
        return [f"{choice} " for choice in given if choice.startswith(word)]
    if not any(tuple(before[: len(start)]) == start for start in COMPOSED):
        return []
    return _overrides(
        [word for word in before if "=" in word], word, config_name="tune" if before[0] == "tune" else "config"
    )


def _overrides(chosen: Sequence[str], word: str, config_name: str) -> list[str]:
    """Return what Hydra knows of a word after these overrides: groups, their options, keys and values in files."""
    import hydra
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra

    from funrec.config.compose import CONFIG_MODULE

    before, comma, last = word.rpartition(",")  # a sweep's values: model=mmoe,p
    stem = f"{before.partition('=')[0]}={last}" if comma else word
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        found = BashCompletion(GlobalHydra.instance().config_loader())._query(
            config_name, " ".join([*chosen, stem]) or " "
        )
    found = [match for match in found if "._target_" not in match]
    return [f"{before},{match.partition('=')[2]}" if comma else match for match in found]
