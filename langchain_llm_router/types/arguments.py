"""What a constructor is given: nothing that a user says is ignored or misread."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from numbers import Integral, Real
from types import NoneType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from langchain_llm_router.types.lazy import nearest

__all__ = [
    "CheckedArguments",
    "argument_types",
    "check_kind",
    "check_range",
    "make_plain",
    "refuse_unknown",
]

_LOOKED_AT = 100
"""So many elements of a sequence are looked at; what a table holds it checks itself."""


class CheckedArguments:
    """Refuses an argument that the constructor does not have, or whose type is plainly wrong.

    A base class for dataclasses and plain classes, one's own included. Types are those of the
    annotations: an int will do for a float and a NumPy scalar for either, but no bool. What cannot
    be resolved is not checked; ranges are the classes' own matter.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # A type checker looks at `__init__` alone.

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            """Check what the constructor is given; `copy` and `pickle` give it nothing."""
            if args or kwargs:
                _check(cls, args, kwargs)
            return super().__new__(cls)


def refuse_unknown(given: Iterable[str], known: Iterable[str], who: str) -> None:
    """Refuse names that are not known.

    Args:
        given: The names that were given.
        known: The names that are allowed.
        who: What was given them, e.g. a class's name.

    Raises:
        TypeError: If one is unknown; the message names the nearest known one.
    """
    known = list(known)
    for name in given:
        if name not in known:
            public = [one for one in known if not one.startswith("_")]
            near = nearest(name, public)
            msg = f"{who} has no argument `{name}`.{near} Allowed are {public}."
            raise TypeError(msg)


def check_range(
    owner: object, *names: str, low: float = 0.0, high: float = math.inf, above: bool = False
) -> None:
    """Refuse attributes that are NaN, infinite or out of range; None is let through.

    Args:
        owner: Whose attributes.
        names: Which of them.
        low: The least that is allowed.
        high: The most that is allowed.
        above: `low` itself is not allowed.

    Raises:
        ValueError: If one is; the message names its value and the range.
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


def make_plain(owner: object, *names: str) -> None:
    """Make a frozen object's numbers Python's own; strict checkpointers refuse NumPy's."""
    for name in names:
        value = getattr(owner, name)
        if value is not None and hasattr(value, "dtype"):
            object.__setattr__(owner, name, value.item())


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuse a value of the wrong class.

    Raises:
        TypeError: With the argument's name and the value.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        msg = f"`{name}` must be {article} {kind.__name__}, got {value!r}."
        raise TypeError(msg)


def argument_types(cls: type) -> dict[str, Any]:
    """The constructor's arguments and their types; `Any` where there is no annotation.

    Raises:
        NameError: If an annotation names what its module does not have.
    """
    constructor = _constructor(cls)
    return {name: constructor.resolved(name) for name in constructor.parameters}


def _check(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    constructor = _constructor(cls)
    if constructor.is_closed and not kwargs.keys() <= constructor.parameters.keys():
        refuse_unknown(kwargs, constructor.parameters, cls.__name__)
    if args and constructor.is_empty:
        msg = f"{cls.__name__} takes no arguments, got {_shown(args[0])}."
        raise TypeError(msg)
    given = dict(zip(constructor.places, args, strict=False)) | kwargs
    for place, (name, value) in enumerate(given.items()):
        if constructor.takes(name, value):
            continue
        kind, meant = constructor.kind(name), "."
        # A text fits in many places.
        if place < len(args) and not isinstance(value, str):
            for other in (one for one in constructor.parameters if one not in given):
                if constructor.kind(other) is not Any and constructor.takes(other, value):
                    meant = f": did you mean {other}={_shown(value)}?"
                    break
        msg = f"`{name}` must be {_described(kind)}, got {_shown(value)}{meant}"
        choices = [choice for part in _parts(kind) for choice in _choices(part)]
        same_type = any(type(value) is type(choice) for choice in choices)
        raise (ValueError if same_type else TypeError)(msg)


class _Constructor:
    """The arguments of a class, their types found as they are needed."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.init: Any = cls.__init__  # type: ignore[misc]
        self.is_empty = self.init is object.__init__
        found: list[inspect.Parameter] = []
        if not self.is_empty:
            found = list(inspect.signature(self.init).parameters.values())[1:]
        self.is_closed = all(one.kind is not one.VAR_KEYWORD for one in found)
        named = [one for one in found if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        self.parameters = {one.name: one for one in named}
        self.places = [one.name for one in named if one.kind is not one.KEYWORD_ONLY]
        self._tests: dict[str, Callable[[Any], bool]] = {}

    def takes(self, name: str, value: Any) -> bool:
        """Whether an argument may have this value."""
        if name not in self._tests:
            self._tests[name] = _test(self.kind(name))
        if self._tests[name](value):
            return True
        return name in self.parameters and value is self.parameters[name].default

    def kind(self, name: str) -> Any:
        """The type of an argument, `Any` where it is unknown."""
        try:
            return self.resolved(name)
        # A class made in a function, or a name for type checkers: nothing to check against.
        except (NameError, AttributeError, TypeError, ImportError):
            return Any

    def resolved(self, name: str) -> Any:
        text = self.parameters[name].annotation if name in self.parameters else Any
        if not isinstance(text, str):
            return Any if text is inspect.Parameter.empty else _with_arrays(text)
        # A dataclass's `__init__` has the fields of its bases too, whose types other modules know.
        bases = (one for one in self.cls.__mro__ if name in vars(one).get("__annotations__", ()))
        module = sys.modules[next(bases, self.init).__module__]
        # Through `getattr`, since a name may be imported when it is first asked for.
        names = re.findall(r"[^\W\d]\w*", text)
        local = {one: getattr(module, one) for one in names if hasattr(module, one)}
        holder = SimpleNamespace(__annotations__={"it": text})
        return _with_arrays(get_type_hints(holder, vars(module), local)["it"])


_constructor = lru_cache(maxsize=1024)(_Constructor)


class _Array:
    """Stands for NumPy's `ArrayLike`, whose members mean nothing in an error message."""


_MEMBERS = (complex, float, int, bool, str, bytes)


def _with_arrays(kind: Any) -> Any:
    parts = _parts(kind)
    rest = [p for p in parts if not getattr(p, "__module__", "").startswith("numpy._typing")]
    if len(rest) == len(parts):
        return kind
    return Union[(_Array, *(part for part in rest if part not in _MEMBERS))]


def _parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _test(kind: Any) -> Callable[[Any], bool]:
    """A function that tells of a value whether it is of a type, without changing it."""
    parts = _parts(kind)
    if len(parts) > 1:
        tests = [_test(part) for part in parts]
        return lambda value: any(test(value) for test in tests)
    base, inside = get_origin(kind) or kind, get_args(kind)
    if base is Any:
        return lambda value: True
    if base is Literal:
        return lambda value: any(type(value) is type(one) and value == one for one in inside)
    is_one = _SPECIAL.get(base) or partial(_is, base)
    if not inside or base not in _COLLECTIONS:
        return is_one
    held = _test_of_elements(base, inside)
    return lambda value: is_one(value) and held(value)


def _is(base: Any, value: Any) -> bool:
    try:
        return isinstance(value, base)
    except TypeError:  # A protocol, a `TypedDict`, a type variable.
        return True


def _is_number(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    # NumPy's arrays are none by name, and a text is one by name only.
    listed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return listed and not isinstance(value, str | bytes | Mapping)


_SPECIAL: dict[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"),
    float: partial(_is_number, Real),
    int: partial(_is_number, Integral),
    type: lambda value: isinstance(value, type),
    Callable: callable,
    Sequence: _is_sequence,
    _Array: lambda value: hasattr(value, "__array__") or _is_sequence(value),
}


_COLLECTIONS = (Mapping, Sequence, dict, frozenset, list, set, tuple)


def _test_of_elements(base: Any, inside: tuple[Any, ...]) -> Callable[[Any], bool]:
    """The same of the first elements of a collection."""
    tests = [_test(one) for one in inside if one is not ...]
    if base in (Mapping, dict):
        return lambda value: all(
            tests[0](key) and tests[1](held) for key, held in islice(value.items(), _LOOKED_AT)
        )
    if base is tuple and ... not in inside:
        return lambda value: (
            len(value) == len(tests) and all(t(v) for t, v in zip(tests, value, strict=True))
        )
    return lambda value: all(map(tests[0], islice(value, _LOOKED_AT)))


_WORDS: dict[Any, tuple[str, str]] = {
    _Array: ("an array", "arrays"),
    NoneType: ("None", "None"),
    bool: ("True or False", "True or False"),
    bytes: ("bytes", "bytes"),
    float: ("a number", "numbers"),
    int: ("a whole number", "whole numbers"),
    str: ("a text", "texts"),
}


def _described(kind: Any, *, several: bool = False, them: Sequence[Any] = ()) -> str:
    """A type in words, `several` as what a collection holds; `them` were named just before."""
    parts = sorted(_parts(kind), key=lambda part: part is NoneType)
    if len(parts) > 1:
        texts = [_described(part, several=several, them=parts) for part in parts]
        return f"{', '.join(texts[:-1])} or {texts[-1]}"
    if kind in _WORDS:
        return _WORDS[kind][several]
    base, inside = get_origin(kind) or kind, get_args(kind)
    if base is Literal:
        return f"one of {list(inside)}" if len(inside) > 1 else repr(inside[0])
    name = getattr(base, "__name__", str(base))
    if base is Callable:
        name = "callable"
    elif base is type:
        name = "class"
    elif inside and isinstance(base, type) and issubclass(base, Sequence | Mapping):
        held = inside[-1] if issubclass(base, Mapping) else inside[0]
        of = "them" if held in them else _described(held, several=True)
        name = f"{'mapping' if issubclass(base, Mapping) else 'sequence'} of {of}"
    if several:
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
