"""Signatures as specifications: what a constructor accepts is read from its annotations, and told in one line.

The parameters of a class's `__init__` are its configuration keys, their annotations what a value must be, their
defaults the only place where a default stands. With `**network: Inherited` the parameters of the base class count
too, so that what many classes take is spelt once:

    class MMoE(NetworkBackbone):
        def __init__(self, num_experts: PositiveInt = 8, expert_units: Units = (32,), **network: Inherited) -> None:
            super().__init__(**network)
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Strict,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    with_config,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from funrec.utils.errors import InputError, did_you_mean


def worded(phrase: str, accepts: Callable[[Any], bool] = lambda value: True, verb: str = "be") -> WrapValidator:
    """Return an annotation that says what a value should be, in place of what pydantic would say.

    Args:
        phrase: What follows "should be".
        accepts: Whether a value of the annotated type will do.
        verb: Another verb than "be".
    """

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            checked = inner(value)
        except ValidationError:
            accepted = False
        else:
            accepted = accepts(checked)
        if not accepted:
            raise PydanticCustomError("worded", "{phrase}", {"phrase": phrase, "verb": verb})
        return checked

    return WrapValidator(check)


def whole(least: int, most: float = math.inf) -> WrapValidator:
    """Return an annotation of an int: at least `least`, and at most `most`."""
    span = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return worded(f"a whole number {span}", lambda number: least <= number <= most)


def between(low: float, high: float, strictly: bool = False) -> WrapValidator:
    """Return an annotation of a float: from `low` to `high`, or strictly between them."""
    span = f"strictly between {low} and {high}" if strictly else f"from {low} to {high}"
    return worded(f"a number {span}", lambda number: low < number < high if strictly else low <= number <= high)


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


#: The activations of Keras, by name: it would take a mapping too, and make of it whatever that names.
ACTIVATIONS = frozenset(
    (
        *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish"),
        *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu"),
        *("sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid"),
        *("sparsemax", "squareplus", "swish", "tanh", "tanh_shrink", "threshold"),
    )
)
Activation = Annotated[
    str, worded("a Keras activation such as relu or gelu", lambda name: name in ACTIVATIONS, verb="name")
]
PositiveInt = Annotated[int, worded("a positive whole number", lambda number: number > 0)]
WholeNumber = Annotated[int, whole(0)]
PositiveNumber = Annotated[float, worded("a positive number", lambda number: number > 0)]
NotNegative = Annotated[float, worded("a number of at least 0", lambda number: number >= 0)]
#: A share that may be 0 but not 1, such as a dropout rate or the decay of an average.
Rate = Annotated[float, worded("at least 0 and below 1", lambda number: 0 <= number < 1)]
#: A share of rows that leaves some on either side.
Share = Annotated[float, worded("a share between 0 and 1", lambda number: 0 < number < 1)]
#: Widths of hidden layers, input side first.
Units = Annotated[tuple[PositiveInt, ...], Strict(False), worded("a list of positive whole numbers", bool)]
#: Likewise; an empty list is no hidden layer.
OptionalUnits = Annotated[tuple[PositiveInt, ...], Strict(False), worded("a list of positive whole numbers")]
Text = Annotated[str, worded("text that is not empty", bool)]
#: The name of a column, a feature or a task; 101 arrives from YAML or the command line as a number.
Name = Annotated[str, BeforeValidator(_text_of_number), worded("a name")]
#: A list of names, or a single one.
Names = Annotated[tuple[Name, ...], Strict(False), BeforeValidator(_as_list), worded("a list of names")]

_PHRASES = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "is_instance_of": "a {class}",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "longer",
}


#: Of `**more`: what the base class's constructor takes.
Inherited = Annotated[Any, "inherited"]


class Spec(NamedTuple):
    """What a class can be configured with.

    Attributes:
        parameters: By key: the parameter, which holds its default (`inspect.Parameter.empty` where it must be given).
        hints: By key: its annotation.
        adapter: Checks a mapping of keys to values.
        takes_any: Whether the class checks further keys itself, as those of Keras do.
    """

    parameters: dict[str, inspect.Parameter]
    hints: dict[str, Any]
    adapter: TypeAdapter[Any]
    takes_any: bool

    def defaults(self) -> dict[str, Any]:
        """Return the default of every key that has one, tuples as lists, as a configuration spells them."""
        return {
            name: _spelt(parameter.default)
            for name, parameter in self.parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }


def spec_of(kind: type, given: Collection[str] = ()) -> Spec:
    """Return the spec of a class.

    Args:
        kind: The class.
        given: Parameters that the program passes, which no configuration may.
    """
    return _spec_of(kind, frozenset(given))


@cache
def _spec_of(kind: type, given: frozenset[str]) -> Spec:
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    is_foreign = kind.__module__.partition(".")[0] == "keras"
    takes_any = False
    for owner in inspect.getmro(kind):
        if "__init__" not in vars(owner) or owner is object:
            continue
        if owner.__module__.partition(".")[0] == "keras" and not is_foreign:
            break  # the options of a Keras layer, such as its name, are no configuration keys
        found = inspect.signature(vars(owner)["__init__"]).parameters.values()
        known = _hints(owner)
        for parameter in list(found)[1:]:
            is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if is_named and parameter.name not in given and parameter.name not in parameters:
                parameters[parameter.name] = parameter
                hints[parameter.name] = known.get(parameter.name, Any)
        rest = [parameter.name for parameter in found if parameter.kind is parameter.VAR_KEYWORD]
        takes_any = is_foreign and bool(rest)
        if not rest or known.get(rest[0]) is not Inherited:
            break
    fields = {name: _takes_lists(Any if is_foreign else hint) for name, hint in hints.items()}
    structure: Any = TypedDict(kind.__name__, fields, total=False)  # type: ignore[misc]
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    return Spec(parameters, hints, TypeAdapter(with_config(config)(structure)), takes_any)


def check(
    kind: type, values: Mapping[str, Any], where: str, given: Collection[str] = (), ignore_nulls: bool = False
) -> dict[str, Any]:
    """Check the values that a configuration has for a class, and return them as its constructor takes them.

    Args:
        kind: The class.
        values: By key; a key that is missing is left to its default.
        where: What to call them in a message, such as `model.backbone`; empty at the top.
        given: Parameters that the program passes.
        ignore_nulls: Whether a null means the default, rather than being a value.

    Raises:
        InputError: If a key is unknown or missing, or a value is not what its annotation says.
    """
    spec = spec_of(kind, given)
    dot = f"{where}." if where else ""
    if ignore_nulls:
        values = {key: value for key, value in values.items() if value is not None or key not in spec.parameters}
    more = {key: value for key, value in values.items() if key not in spec.parameters}
    if not spec.takes_any:
        for key in more:
            raise InputError(f"{dot}{key}: no such key.{did_you_mean(key, spec.parameters)}")
    for key, parameter in spec.parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in values:
            raise InputError(f"{dot}{key} should be given. Received: nothing.")
    try:
        return spec.adapter.validate_python({key: values[key] for key in values if key not in more}) | more
    except ValidationError as error:
        raise InputError(_one_line(error, dot, spec)) from None


def _one_line(error: ValidationError, dot: str, spec: Spec) -> str:
    found = error.errors(include_url=False)[0]
    key = str(found["loc"][0])
    context: dict[str, Any] = found.get("ctx", {})
    # The members of a union are in the place of an error, in pydantic's words.
    place = ".".join(str(part) for part in found["loc"] if isinstance(part, int) or str(part).isidentifier())
    verb, hint = "be", ""
    if found["type"] == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        phrase, hint = f"one of {', '.join(names)}", did_you_mean(found["input"], names)
    elif found["type"] == "worded":
        phrase, verb = context["phrase"], context["verb"]
    else:
        phrase = _PHRASES.get(found["type"], found["msg"].removeprefix("Input should be ")).format(**context)
    if len(found["loc"]) == 1 and type(None) in get_args(spec.hints.get(key)):
        phrase += " or null"
    received = found["input"] if not isinstance(found["input"], tuple) else list(found["input"])
    return f"{dot}{place} should {verb} {phrase}. Received: {'null' if received is None else received}.{hint}"


def _hints(owner: type) -> dict[str, Any]:
    try:
        return get_type_hints(owner.__init__, include_extras=True)  # type: ignore[misc]
    except Exception:  # a class of the user's own may name types that are imported for type checkers alone
        return {}


def _takes_lists(hint: Any) -> Any:
    """Return a hint for which a list will do where it says tuple: YAML knows no tuples."""
    if get_origin(hint) is tuple:
        return Annotated[hint, Strict(False)]
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(_takes_lists(part) for part in get_args(hint))]  # noqa: UP007
    return hint


def _spelt(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_spelt(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _spelt(item) for key, item in value.items()}
    return value
