"""Requests that a worker was sent ahead, so that it has something to do while answers are taken."""

from __future__ import annotations

from collections import deque

from .visits import Model, VisitRequest

LOAD_AHEAD = 1_000_000  # bytes of models that are sent before the first of them is built
VISITS_AHEAD = 1000  # that are sent before they are due


class UnderWay:
    """Requests that were sent and are not answered yet, in order."""

    def __init__(self) -> None:
        self._requests: deque[tuple[Model | VisitRequest, int]] = deque()
        self._keys: set[str] = set()
        self._place = 0  # answers that the first one has had
        self._visits = self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._requests)

    @property
    def wants_more(self) -> bool:
        """Whether the worker might have to wait; one request is always sent ahead."""
        return len(self._requests) < 2 or (self._visits < VISITS_AHEAD and self._bytes < LOAD_AHEAD)

    def loads(self, key: str) -> bool:
        """Whether a model is among them."""
        return key in self._keys

    def add(self, request: Model | VisitRequest, size: int) -> None:
        """Add one that was sent as so many bytes."""
        self._requests.append((request, size))
        if isinstance(request, Model):
            self._keys.add(request.key)
            self._bytes += size
        else:
            self._visits += len(request.visits)

    def next(self) -> tuple[Model | VisitRequest, int]:
        """Whose answer comes next, and which of its answers that is."""
        request, size = self._requests[0]
        place = self._place
        self._place += 1
        if isinstance(request, VisitRequest) and place < len(request.visits):
            self._visits -= 1
            return request, place
        self._requests.popleft()
        self._place = 0
        if isinstance(request, Model):
            self._bytes -= size
            self._keys.discard(request.key)
        return request, place

    def keys_alone(self) -> list[str]:
        """The models that are left, where nothing but models is."""
        if not all(isinstance(request, Model) for request, _ in self._requests):
            return []
        return [request.key for request, _ in self._requests if isinstance(request, Model)]
