"""Findings about a board's Python and its runtime."""

from __future__ import annotations

from .errors import DeviceError
from .findings import Finding
from .runtime_choice import OLDEST_PYTHON, BoardPython, choose_runtime

RUNTIMES = ("ai-edge-litert", "tflite-runtime", "onnxruntime")


def python_findings(python: BoardPython | None, words: str, board: str) -> list[Finding]:
    """The interpreter and its runtime; `words` is why nothing is known of it, where that is so."""
    if python is None:
        remedy = "install python3 there, or name the interpreter as `python` in boards.toml"
        return [Finding("python", "problem", words, remedy)]
    if python.minor < OLDEST_PYTHON:
        return [
            Finding(
                "python",
                "problem",
                f"{python}; the worker needs 3.8",
                "install a newer one there, and name it as `python` in boards.toml",
            )
        ]
    return [Finding("python", "ok", str(python)), runtime_finding(python, board)]


def runtime_finding(python: BoardPython, board: str) -> Finding:
    """Whether a runtime is there and can be used, and which one could be installed."""
    numpy = python.versions.get("numpy")
    there = [name for name in RUNTIMES if python.usable(name)]
    if there and python.usable("numpy"):
        words = f"{', '.join(f'{name} {python.versions[name]}' for name in there)}, NumPy {numpy}"
        if there == ["tflite-runtime"] and not (numpy or "").startswith(("0.", "1.")):
            return Finding(
                "runtime",
                "problem",
                f"{words}: tflite-runtime fails with NumPy 2",
                f"install 'numpy<2' there, or `boardfit devices setup {board}`",
            )
        return Finding("runtime", "ok", words)
    return Finding(
        "runtime", "problem", _what_is_wrong(python, bool(there)), _remedy(python, board)
    )


def _what_is_wrong(python: BoardPython, has_runtime: bool) -> str:
    broken = [name for name in (*RUNTIMES, "numpy") if name in python.problems]
    for name in broken:
        version, words = python.versions.get(name, ""), python.problems[name]
        if "GLIBC_" in words and python.glibc:
            return (
                f"{name} {version} is installed and needs a newer glibc than the board's "
                f"{python.glibc[0]}.{python.glibc[1]}"
            )
        return f"{name} {version} is installed and cannot be imported: {words}"
    return "a runtime is installed, and NumPy is not" if has_runtime else "none is installed"


def _remedy(python: BoardPython, board: str) -> str:
    try:
        choice = choose_runtime(python)
    except DeviceError as error:
        return str(error)
    why = f" ({choice.why})" if choice.why else ""
    return f"`boardfit devices setup {board}` installs {choice}{why}"
