"""The search spaces that are shipped, by the name under which each is opened."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ..devices.errors import SpaceError
from . import fastdepth, mobilenetv3
from .nasbench201 import nasbench201
from .space import SearchSpace

SPACES: dict[str, Callable[..., SearchSpace]] = {
    "mobilenetv3-32": partial(
        mobilenetv3.mobilenetv3,
        "mobilenetv3-32",
        mobilenetv3.SMALL,
        classes=12,
        input_size=32,
        width_factor=1.0,
        kernels=(3, 5),
    ),
    "mobilenetv3-large": partial(
        mobilenetv3.mobilenetv3,
        "mobilenetv3-large",
        mobilenetv3.LARGE,
        classes=1000,
        input_size=224,
        width_factor=1.25,
        kernels=(3, 5, 7),
    ),
    "fastdepth-64": partial(
        fastdepth.fastdepth,
        "fastdepth-64",
        fastdepth.SMALL,
        input_size=64,
        width_factor=1.0,
        kernels=(3, 5),
    ),
    "fastdepth": partial(
        fastdepth.fastdepth,
        "fastdepth",
        fastdepth.LARGE,
        input_size=224,
        width_factor=1.25,
        kernels=(3, 5),
    ),
    "nasbench201": nasbench201,
}


def open_space(name: str, **overrides: Any) -> SearchSpace:
    """The search space of that name; `overrides` replace the keyword fields of the
    function that makes it, e.g. `open_space("mobilenetv3-large", input_size=160, classes=10)`.

    Raises `SpaceError` for an unknown name or field, with the nearest one, and for a value that
    does not fit.
    """
    if name not in SPACES:
        raise SpaceError(f"no search space is called {name!r}; {_nearest(name, list(SPACES))}")
    make = SPACES[name]
    parameters = inspect.signature(make).parameters.values()
    fields = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for field in overrides:
        if field not in fields:
            raise SpaceError(f"{name} has no field {field!r}; {_nearest(field, fields)}")
        _check_type(name, field, overrides[field])
    return make(**overrides)


def _check_type(name: str, field: str, value: object) -> None:
    """Raise `SpaceError` for a value of another kind than the field has."""

    def whole(number: object) -> bool:
        return isinstance(number, int) and not isinstance(number, bool)

    kinds: dict[str, tuple[Callable[[Any], bool], str]] = {
        "classes": (whole, "a whole number"),
        "input_size": (whole, "a whole number"),
        "granule": (whole, "a whole number"),
        "bypass_cap": (lambda v: v is None or whole(v), "a whole number"),
        "width_factor": (lambda v: whole(v) or isinstance(v, float), "a number"),
        "kernels": (
            lambda v: isinstance(v, list | tuple) and bool(v) and all(whole(k) for k in v),
            "a list of whole numbers, such as [3,5]",
        ),
    }
    fits, wanted = kinds.get(field, (lambda v: isinstance(v, str), "a word"))
    if not fits(value):
        raise SpaceError(f"{name}: {field} is {value!r}, but has to be {wanted}")


def _nearest(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
