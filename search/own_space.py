"""A search space from a Python file of the user's own.

The file is a program, and opening it runs it: that happens only where the user named it (`--space
my_space.py`), never because a table or a run folder says so. These remember the file's digest, so
that what was measured for one text is not taken for another.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..devices.errors import BoardfitError, SpaceError
from .space import SearchSpace

SUFFIX = ".py"
FUNCTION = "space"
MARK = f"{SUFFIX}#"  # in the name of a space that a file of the user's own made


def is_own(name: str) -> bool:
    """Whether a space is named by its file."""
    return name.endswith(SUFFIX)


def open_own_space(file: str, **options: Any) -> SearchSpace:
    """Run the file and call its `space(**options)`; the space is named by the file and its digest.

    Raises `SpaceError` where the file is missing or fails, with its own words and line, or where
    it has no such function or field.
    """
    path = Path(file)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SpaceError(f"cannot read the space {path}: {error.strerror}") from error
    digest = hashlib.sha256(text).hexdigest()[:12]
    make = _function(path, text, digest)
    fields = list(inspect.signature(make).parameters)
    for field in options:
        if field not in fields:
            raise SpaceError(
                f"{path} has no field {field!r}; {FUNCTION} takes {', '.join(fields) or 'none'}"
            )
    try:
        made = make(**options)
    except BoardfitError:
        raise
    except Exception as error:
        raise SpaceError(f"{path} fails{_line(error, path)}: {_words(error)}") from error
    if not isinstance(made, SearchSpace):
        raise SpaceError(
            f"{FUNCTION} of {path} gives {type(made).__name__}, not a boardfit.search.space."
            "SearchSpace; see docs/own_space.md"
        )
    return replace(made, name=f"{path.name}#{digest}")


def refuse_to_run(name: str) -> None:
    """Raise `SpaceError` for the name of an own space that a file, and not the user, gives."""
    if MARK in name:
        raise SpaceError(
            f"the space {name} is in a Python file, which boardfit runs only where you name it: "
            f"give --space PATH/{name.partition('#')[0]}"
        )


def _function(path: Path, text: bytes, digest: str) -> Callable[..., Any]:
    """The file's function. A file that was run before in this process is not run again."""
    name = f"boardfit_own_space_{digest}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(path)
        sys.modules[name] = module  # where dataclasses look up their own annotations
        try:
            exec(compile(text, str(path), "exec"), module.__dict__)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, BoardfitError) or not isinstance(error, Exception):
                raise
            raise SpaceError(f"{path} fails{_line(error, path)}: {_words(error)}") from error
    found = getattr(module, FUNCTION, None)
    if not callable(found):
        raise SpaceError(
            f"{path} has no function {FUNCTION}(**options) that gives a SearchSpace; see "
            "docs/own_space.md"
        )
    function: Callable[..., Any] = found
    return function


def _line(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f" in line {error.lineno}"
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" in line {line}"


def _words(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"
