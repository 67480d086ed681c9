"""Checks of constructor arguments: no argument is silently ignored or misread."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial, reduce
from itertools import islice
from numbers import Integral, Real
from operator import or_
from types import NoneType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from langchain_llm_router.types.lazy import suggest_name

__all__ = [
    "CheckedArguments",
    "argument_types",
    "check_kind",
    "check_range",
    "is_bool",
    "refuse_unknown",
    "unwrap_numpy",
]

_MAX_CHECKED = 100
"""Number of elements of a collection that are checked; tables check their own contents."""


class CheckedArguments:
    """Base class that refuses unknown constructor arguments and values of a wrong type.

    For dataclasses and plain classes, users' subclasses included. The types are those of the
    annotations: an int is accepted for a float and a NumPy scalar for either, but a bool is not. An
    annotation that cannot be resolved is not checked; ranges are checked by each class itself.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # A type checker reads `__init__` alone.

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            """Check the arguments; `copy` and `pickle` pass none."""
            if args or kwargs:
                _check(cls, args, kwargs)
            return super().__new__(cls)


def refuse_unknown(names: Iterable[str], allowed: Iterable[str], owner: str) -> None:
    """Refuse argument names that are not allowed.

    Args:
        names: The argument names to check.
        allowed: The allowed names.
        owner: Name of the class or function that has the arguments, for the message.

    Raises:
        TypeError: If a name is not allowed; the message suggests the nearest allowed one.
    """
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            public = [one for one in allowed if not one.startswith("_")]
            choices = f"It must be one of {public}." if public else "It takes none."
            msg = f"{owner} has no argument `{name}`.{suggest_name(name, public)} {choices}"
            raise TypeError(msg)


def check_range(
    owner: object, *names: str, low: float = 0.0, high: float = math.inf, above: bool = False
) -> None:
    """Refuse attributes that are NaN, infinite or out of range; None is accepted.

    Args:
        owner: The object whose attributes are checked.
        names: Names of the attributes.
        low: Smallest allowed value.
        high: Largest allowed value.
        above: Whether `low` itself is excluded.

    Raises:
        ValueError: If a value is not allowed; the message states it and the range.
    """
    for name in names:
        value = getattr(owner, name)
        if value is None or (
            math.isfinite(value) and (low < value if above else low <= value) and value <= high
        ):
            continue
        allowed = f"lie in {'(' if above else '['}{low:g}, {high:g}]"
        if high == math.inf:
            bound = "" if low == -math.inf else f" {'>' if above else '>='} {low:g}"
            allowed = f"be a finite number{bound}"
        msg = f"`{name}` must {allowed}, got {value!r}."
        raise ValueError(msg)


def unwrap_numpy(owner: object, *names: str) -> None:
    """Convert a frozen object's NumPy numbers, which strict checkpointers refuse, to Python's."""
    for name in names:
        value = getattr(owner, name)
        if value is not None and hasattr(value, "dtype"):
            object.__setattr__(owner, name, value.item())


def check_kind(name: str, value: Any, *kinds: type) -> None:
    """Refuse a value of the wrong class.

    Raises:
        TypeError: If it is an instance of none of `kinds`; the message names them all.
    """
    if not isinstance(value, kinds):
        msg = f"`{name}` must be {_describe(reduce(or_, kinds))}, got {_short_repr(value)}."
        raise TypeError(msg)


def argument_types(cls: type) -> dict[str, Any]:
    """Return the constructor's arguments and their types; `Any` where there is no annotation.

    Raises:
        NameError: If an annotation uses a name that its module does not define.
    """
    constructor = _constructor(cls)
    return {name: constructor.resolve(name) for name in constructor.parameters}


def _check(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    constructor = _constructor(cls)
    if constructor.is_closed and not kwargs.keys() <= constructor.parameters.keys():
        refuse_unknown(kwargs, constructor.parameters, cls.__name__)
    if args and constructor.is_empty:
        msg = f"{cls.__name__} takes no arguments, got {_short_repr(args[0])}."
        raise TypeError(msg)
    arguments = dict(zip(constructor.positional, args, strict=False)) | kwargs
    for position, (name, value) in enumerate(arguments.items()):
        if constructor.accepts(name, value):
            continue
        kind, hint = constructor.type_of(name), "."
        # Too many arguments accept a string for a suggestion to be of use.
        if position < len(args) and not isinstance(value, str):
            for other in (one for one in constructor.parameters if one not in arguments):
                if constructor.type_of(other) is not Any and constructor.accepts(other, value):
                    hint = f": did you mean {other}={_short_repr(value)}?"
                    break
        msg = f"`{name}` must be {_describe(kind)}, got {_short_repr(value)}{hint}"
        choices = [choice for part in _parts(kind) for choice in _choices(part)]
        same_type = any(type(value) is type(choice) for choice in choices)
        raise (ValueError if same_type else TypeError)(msg)


class _Constructor:
    """A class's constructor arguments, whose types are resolved on first use."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.init: Any = cls.__init__  # type: ignore[misc]
        self.is_empty = self.init is object.__init__
        signature: list[inspect.Parameter] = []
        if not self.is_empty:
            signature = list(inspect.signature(self.init).parameters.values())[1:]
        self.is_closed = all(one.kind is not one.VAR_KEYWORD for one in signature)
        named = [one for one in signature if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        self.parameters = {one.name: one for one in named}
        self.positional = [one.name for one in named if one.kind is not one.KEYWORD_ONLY]
        self._tests: dict[str, Callable[[Any], bool]] = {}

    def accepts(self, name: str, value: Any) -> bool:
        """Return whether an argument may have this value."""
        if name not in self._tests:
            self._tests[name] = _make_test(self.type_of(name))
        if self._tests[name](value):
            return True
        return name in self.parameters and value is self.parameters[name].default

    def type_of(self, name: str) -> Any:
        """Return the type of an argument, `Any` where it cannot be resolved."""
        try:
            return self.resolve(name)
        # A class defined in a function, or a name that only type checkers import.
        except (NameError, AttributeError, TypeError, ImportError):
            return Any

    def resolve(self, name: str) -> Any:
        text = self.parameters[name].annotation if name in self.parameters else Any
        if not isinstance(text, str):
            return Any if text is inspect.Parameter.empty else _replace_array_like(text)
        # The fields that a dataclass inherits were annotated in the modules of its bases.
        bases = (one for one in self.cls.__mro__ if name in vars(one).get("__annotations__", ()))
        module = sys.modules[next(bases, self.init).__module__]
        # `getattr` imports names that are imported lazily.
        names = re.findall(r"[^\W\d]\w*", text)
        local = {one: getattr(module, one) for one in names if hasattr(module, one)}
        holder = SimpleNamespace(__annotations__={"it": text})
        return _replace_array_like(get_type_hints(holder, vars(module), local)["it"])


_constructor = lru_cache(maxsize=1024)(_Constructor)


class _Array:
    """Stand-in for NumPy's `ArrayLike`, whose members mean nothing in an error message."""


_MEMBERS = (complex, float, int, bool, str, bytes)


def _replace_array_like(kind: Any) -> Any:
    parts = _parts(kind)
    rest = [p for p in parts if not getattr(p, "__module__", "").startswith("numpy._typing")]
    if len(rest) == len(parts):
        return kind
    return Union[(_Array, *(part for part in rest if part not in _MEMBERS))]


def _parts(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union; for any other type a tuple of itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _make_test(kind: Any) -> Callable[[Any], bool]:
    """Return a function that checks whether a value is of a type."""
    parts = _parts(kind)
    if len(parts) > 1:
        tests = [_make_test(part) for part in parts]
        return lambda value: any(test(value) for test in tests)
    base, inside = get_origin(kind) or kind, get_args(kind)
    if base is Any:
        return lambda value: True
    if base is Literal:
        return lambda value: any(type(value) is type(one) and value == one for one in inside)
    is_base = _SPECIAL.get(base) or partial(_is, base)
    if not inside or base not in _COLLECTIONS:
        return is_base
    has_elements = _make_element_test(base, inside)
    return lambda value: is_base(value) and has_elements(value)


def _is(base: Any, value: Any) -> bool:
    try:
        return isinstance(value, base)
    except TypeError:  # A protocol, a `TypedDict`, a type variable.
        return True


def is_bool(value: Any) -> bool:
    """Return whether a value is True or False, also one of NumPy's."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def _is_number(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    # A NumPy array is no `Sequence`, and a string is one, though not a list of items.
    indexable = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return indexable and not isinstance(value, str | bytes | Mapping)


_SPECIAL: dict[Any, Callable[[Any], bool]] = {
    bool: is_bool,
    float: partial(_is_number, Real),
    int: partial(_is_number, Integral),
    type: lambda value: isinstance(value, type),
    Callable: callable,
    Sequence: _is_sequence,
    _Array: lambda value: hasattr(value, "__array__") or _is_sequence(value),
}


_COLLECTIONS = (Mapping, Sequence, dict, frozenset, list, set, tuple)


def _make_element_test(base: Any, inside: tuple[Any, ...]) -> Callable[[Any], bool]:
    """Return a function that checks the types of a collection's first elements."""
    tests = [_make_test(one) for one in inside if one is not ...]
    if base in (Mapping, dict):
        return lambda value: all(
            tests[0](key) and tests[1](item) for key, item in islice(value.items(), _MAX_CHECKED)
        )
    if base is tuple and ... not in inside:
        return lambda value: (
            len(value) == len(tests) and all(t(v) for t, v in zip(tests, value, strict=True))
        )
    return lambda value: all(map(tests[0], islice(value, _MAX_CHECKED)))


_WORDS: dict[Any, tuple[str, str]] = {
    _Array: ("an array", "arrays"),
    NoneType: ("None", "None"),
    bool: ("True or False", "True or False"),
    bytes: ("bytes", "bytes"),
    float: ("a number", "numbers"),
    int: ("a whole number", "whole numbers"),
    str: ("a string", "strings"),
}


def _describe(kind: Any, *, plural: bool = False, named: Sequence[Any] = ()) -> str:
    """Describe a type in words, in the plural for a collection's elements.

    Args:
        kind: The type.
        plural: Whether to use the plural.
        named: The types named just before, for which "them" is enough.
    """
    parts = sorted(_parts(kind), key=lambda part: part is NoneType)
    if len(parts) > 1:
        texts = [_describe(part, plural=plural, named=parts) for part in parts]
        return f"{', '.join(texts[:-1])} or {texts[-1]}"
    if kind in _WORDS:
        return _WORDS[kind][plural]
    base, inside = get_origin(kind) or kind, get_args(kind)
    if base is Literal:
        return f"one of {list(inside)}" if len(inside) > 1 else repr(inside[0])
    name = getattr(base, "__name__", str(base))
    if base is Callable:
        name = "callable"
    elif base is type:
        name = "class"
    elif inside and isinstance(base, type) and issubclass(base, Sequence | Mapping):
        element = inside[-1] if issubclass(base, Mapping) else inside[0]
        of = "them" if element in named else _describe(element, plural=True)
        name = f"{'mapping' if issubclass(base, Mapping) else 'sequence'} of {of}"
    if plural:
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _short_repr(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
