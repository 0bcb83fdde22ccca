"""What all tests share: threads, a place of their own, and how a missing program is told."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair, which others share.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime, where tests use it themselves

# Tests of this process do not wait for another's, nor for a person's who measures here.
_leases = tempfile.TemporaryDirectory(prefix="boardfit-leases-")
os.environ["BOARDFIT_LEASES"] = _leases.name


def missing(what: str, remedy: str) -> None:
    """Skip a test that needs something this machine lacks; where nothing may be skipped, fail."""
    message = f"needs {what}; {remedy}"
    if os.environ.get("BOARDFIT_NO_SKIP"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own configuration and cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BOARDFIT_BOARDS", raising=False)
