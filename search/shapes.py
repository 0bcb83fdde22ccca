"""Pictures that are drawn on the spot, so that a search can be tried without downloading anything.

Each picture shows one large object, the target, before smaller ones that mean nothing. The class
is the target's outline together with its pattern: `OUTLINES[label // 3]`, `PATTERNS[label % 3]`:

    outline     triangle, square, cross, star
    pattern     plain, stripes, checks, in two colours
    class       0 plain triangle, 1 triangle with stripes, ..., 11 star with checks

Place, angle, size, colours and the pattern's period are random and say nothing about the class;
the smaller objects have outlines and patterns of the same kinds. The constants were chosen such
that a network's width matters. `mobilenetv3-32`, 20,000 images, 1000 steps of 64 with the default
recipe, one seed: the full network reached 0.963 on 2000 test images, the one narrowed to a quarter
0.681. That is at equal steps: trained for longer, the narrow one goes on improving.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

OUTLINES = ("triangle", "square", "cross", "star")
PATTERNS = ("plain", "stripes", "checks")
CLASSES = tuple(f"{outline} with {pattern}" for outline in OUTLINES for pattern in PATTERNS)

DISTRACTORS = 2
NOISE = 0.06  # standard deviation; white minus black is 1
CONTRAST = 0.6  # between a pattern's two colours, before they are clipped; at most sqrt(3)
TARGET_RADIUS = (0.30, 0.42)  # of the picture's side
DISTRACTOR_RADIUS = (0.10, 0.19)
PERIOD = (5.0, 7.5)  # of a pattern, in pixels of a picture of 32
SMALLEST = 16  # pixels of a side, below which outlines are lost
CHUNK = 250  # pictures drawn from one stream of random numbers


def draw(
    begin: int, end: int, *, size: int, seed: int, split: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures `begin` to `end` (exclusive) of an endless row: uint8 [N, 3, size, size], labels.

    The same `(seed, split, index)` gives the same picture, whatever range it is asked for in;
    splits have nothing in common.
    """
    images, labels = [], []
    for chunk in range(begin // CHUNK, -(-end // CHUNK)):
        first = chunk * CHUNK
        drawn, classes = _chunk(np.random.default_rng((seed, split, chunk)), size)
        images.append(drawn[max(begin - first, 0) : end - first])
        labels.append(classes[max(begin - first, 0) : end - first])
    if not images:
        return np.empty((0, 3, size, size), np.uint8), np.empty(0, np.int64)
    return np.concatenate(images), np.concatenate(labels)


def _chunk(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    labels = rng.integers(len(CLASSES), size=CHUNK)
    picture = np.empty((CHUNK, 3, size, size), np.float32)
    picture[:] = rng.uniform(0, 1, (CHUNK, 3, 1, 1))
    for _ in range(DISTRACTORS):
        centre = rng.uniform(0, 1, (2, CHUNK))
        others = rng.integers(len(CLASSES), size=CHUNK)
        _paint(picture, others, centre, rng.uniform(*DISTRACTOR_RADIUS, CHUNK), rng)
    radius = rng.uniform(*TARGET_RADIUS, CHUNK)
    centre = radius + rng.uniform(0, 1, (2, CHUNK)) * (1 - 2 * radius)
    _paint(picture, labels, centre, radius, rng)
    picture += NOISE * rng.standard_normal(picture.shape, np.float32)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), labels


def _paint(
    picture: FloatArray,
    labels: NDArray[np.int64],
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Draw one object into each picture; centre and radius as parts of the picture's side."""
    size = picture.shape[-1]
    pixel = (np.arange(size, dtype=np.float32) + 0.5) / size
    x = pixel[None, None, :] - _column(centre[0])
    y = pixel[None, :, None] - _column(centre[1])
    turn = rng.uniform(0, 2 * math.pi, len(labels))
    r = np.sqrt(x * x + y * y)
    angle = np.arctan2(y, x) - _column(turn)
    steps = (angle * np.float32(ANGLES / (2 * math.pi))).astype(np.int32) % ANGLES
    edge = OUTLINE_RADII[labels[:, None, None] // len(PATTERNS), steps]
    cover = np.clip((edge * _column(radius) - r) * size + 0.5, 0, 1)[:, None]

    period = _column(rng.uniform(*PERIOD, len(labels)) / 32)
    wave = np.float32(2 * math.pi) / period
    shift = _column(rng.uniform(0, 2 * math.pi, len(labels)))
    u, v = wave * r * np.cos(angle), wave * r * np.sin(angle)
    kind = labels[:, None, None] % len(PATTERNS)
    stripes, checks = np.sin(u + shift), 1.5 * np.sin(u) * np.sin(v)
    level = np.where(kind == 0, 0.5, np.where(kind == 1, stripes, checks))
    mix = np.clip(level * 2 + 0.5, 0, 1)[:, None]

    first, second = _two_colours(len(labels), rng)
    colour = first[:, :, None, None] + mix * (second - first)[:, :, None, None]
    picture += cover * (colour - picture)


def _two_colours(count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Two colours for each object, `CONTRAST` apart."""
    first = rng.uniform(0, 1, (count, 3)).astype(np.float32)
    away = rng.standard_normal((count, 3), np.float32)
    away *= CONTRAST / np.linalg.norm(away, axis=1, keepdims=True)
    second = first + np.where((first + away < 0) | (first + away > 1), -away, away)
    return first, second


def _column(values: NDArray[np.float64]) -> FloatArray:
    """One value a picture, to be broadcast over its pixels."""
    return values.astype(np.float32)[:, None, None]


ANGLES = 360


def _outline_radii() -> FloatArray:
    """The distance of each outline from its centre, one row an outline, one column a degree."""
    angle = np.arange(ANGLES) * (2 * math.pi / ANGLES)

    def polygon(corners: int) -> NDArray[np.float64]:
        part = 2 * math.pi / corners
        radii: NDArray[np.float64] = math.cos(part / 2) / np.cos(angle % part - part / 2)
        return radii

    x, y = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    long, short = np.maximum(x, y), np.minimum(x, y)
    arm = 0.32  # half the width of a bar
    cross = np.where(short / long < arm, 1 / long, arm / np.maximum(short, 1e-9))
    star = 0.4 + 0.6 * np.abs(angle % (2 * math.pi / 5) / (math.pi / 5) - 1)
    return np.stack([polygon(3), polygon(4), cross, star]).astype(np.float32)


OUTLINE_RADII = _outline_radii()
