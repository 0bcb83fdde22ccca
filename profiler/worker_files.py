"""The worker's own files, and the folder on a board that holds this version of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

WORKER_FILE = Path(__file__).with_name("worker.py")
WORKER_FILES = (  # what lies on a board
    WORKER_FILE,
    WORKER_FILE.with_name("worker_operators.py"),
    WORKER_FILE.with_name("worker_onnx.py"),
)


def worker_folder() -> str:
    """The name of this version's folder in a board's workspace."""
    content = hashlib.sha256(b"".join(file.read_bytes() for file in WORKER_FILES))
    return f"worker-{content.hexdigest()[:16]}"


def worker_digests() -> dict[str, str]:
    """The SHA-256 of each of the worker's files by its name, as a worker tells them."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in WORKER_FILES}
