"""Rooms with exact depth maps, rendered on the spot, so that a search for depth estimation can be
tried without downloading anything.

A scene is a room of random size, seen from inside: floor, ceiling and walls, of which some have
stripes or checks, with boxes and balls on the floor and in the air, lit by one lamp. Camera, field
of view, sizes, colours, patterns and lamp are random. The depth of a pixel is the distance along
the optical axis (as in NYU Depth V2), in metres, of the surface that its ray meets first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

BOXES, BALLS = 4, 3
NOISE = 0.02  # standard deviation; white minus black is 1
AMBIENT = 0.35  # of a surface's brightness that does not come from the lamp
SMALLEST = 16  # pixels of a side, below which objects are lost
CHUNK = 100  # scenes drawn from one stream of random numbers
NEAREST = np.float32(0.2)  # metres; what is nearer to the camera is not seen


def draw(
    begin: int, end: int, *, size: int, seed: int, split: int
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Scenes `begin` to `end` (exclusive) of an endless row: uint8 [N, 3, size, size], and depths
    float32 [N, 1, size, size] in metres.

    The same `(seed, split, index)` gives the same scene, whatever range it is asked for in; splits
    have nothing in common.
    """
    images, depths = [], []
    for chunk in range(begin // CHUNK, -(-end // CHUNK)):
        first = chunk * CHUNK
        image, depth = _chunk(np.random.default_rng((seed, split, chunk)), size)
        images.append(image[max(begin - first, 0) : end - first])
        depths.append(depth[max(begin - first, 0) : end - first])
    if not images:
        return np.empty((0, 3, size, size), np.uint8), np.empty((0, 1, size, size), np.float32)
    return np.concatenate(images), np.concatenate(depths)


def _chunk(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], FloatArray]:
    room = _uniform(rng, [3.0, 2.4, 4.0], [7.0, 3.4, 9.0])  # width, height, length
    eye = room * _uniform(rng, [0.2, 0.35, 0.04], [0.8, 0.65, 0.15])
    rays = _rays(rng, size)
    view = _View(eye, rays)
    view.meet_room(rng, room)
    for number in range(BOXES + BALLS):
        place = room * _uniform(rng, [0.05, 0.0, 0.3], [0.95, 1.0, 1.0])
        lies = rng.random(CHUNK) < 0.7
        extent = _uniform(rng, [0.15, 0.15, 0.15], [0.7, 0.9, 0.7])
        if number < BOXES:
            place[:, 1] = np.where(lies, extent[:, 1], place[:, 1])
            view.meet_box(rng, place, extent)
        else:
            radius = extent[:, 0]
            place[:, 1] = np.where(lies, radius, place[:, 1])
            view.meet_ball(rng, place, radius)
    lamp = room * _uniform(rng, [0.2, 0.7, 0.1], [0.8, 0.95, 0.8])
    picture = view.lit(lamp)
    picture += NOISE * rng.standard_normal(picture.shape, np.float32)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), view.depth[:, None]


def _uniform(rng: np.random.Generator, low: list[float], high: list[float]) -> FloatArray:
    return rng.uniform(low, high, (CHUNK, 3)).astype(np.float32)


def _rays(rng: np.random.Generator, size: int) -> FloatArray:
    """Directions [3, N, size, size], a unit long along the axis: x right, y up, z forward."""
    half = np.tan(rng.uniform(math.radians(28), math.radians(36), CHUNK))
    centre = half[:, None] * ((np.arange(size) + 0.5) / size * 2 - 1)
    shape = (CHUNK, size, size)
    x = np.broadcast_to(centre.astype(np.float32)[:, None, :], shape)
    y = -np.broadcast_to(centre.astype(np.float32)[:, :, None], shape)
    pitch = rng.uniform(math.radians(-18), math.radians(8), CHUNK).astype(np.float32)
    yaw = rng.uniform(math.radians(-35), math.radians(35), CHUNK).astype(np.float32)
    y, z = _turned(y, np.ones_like(y), pitch)
    x, z = _turned(x, z, yaw)
    return np.stack([x, y, z])


def _turned(a: FloatArray, b: FloatArray, angle: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coordinates in a plane after a turn that takes b's axis towards a's."""
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return a * cosine + b * sine, b * cosine - a * sine


class _View:
    """What each ray of each scene [N, size, size] meets first, while objects are added."""

    def __init__(self, eye: FloatArray, rays: FloatArray) -> None:
        shape = rays.shape[1:]
        self.eye = eye
        self.rays = rays
        self.depth = np.full(shape, np.inf, np.float32)
        self.normal = np.zeros(rays.shape, np.float32)
        self.colour = np.zeros(rays.shape, np.float32)

    def meet_room(self, rng: np.random.Generator, room: FloatArray) -> None:
        """The six sides, each with its own colour and pattern."""
        for axis in range(3):
            ray = self.rays[axis]
            for side in (0, 1):
                wall = room[:, axis] if side else np.zeros(CHUNK, np.float32)
                with np.errstate(divide="ignore", invalid="ignore"):
                    distance = (wall - self.eye[:, axis])[:, None, None] / ray
                towards = ray > 0 if side else ray < 0
                normal = np.zeros((3, 1, 1, 1), np.float32)
                normal[axis] = -1.0 if side else 1.0
                u, v = (a for a in range(3) if a != axis)
                self._meet(rng, towards, distance, normal, (u, v))

    def meet_box(self, rng: np.random.Generator, place: FloatArray, extent: FloatArray) -> None:
        """A box with its own half extents, turned about the vertical."""
        angle = rng.uniform(0, math.pi, CHUNK).astype(np.float32)
        sine, cosine = np.sin(angle), np.cos(angle)
        away = self.eye - place
        origin = [away[:, 0] * cosine - away[:, 2] * sine, away[:, 1],
                  away[:, 0] * sine + away[:, 2] * cosine]  # fmt: skip
        x, z = _turned(self.rays[0], self.rays[2], -angle)
        enter = np.full(self.depth.shape, -np.inf, np.float32)
        leave = np.full(self.depth.shape, np.inf, np.float32)
        face = np.zeros(self.depth.shape, np.int8)
        directions = (x, self.rays[1], z)
        for axis, ray in enumerate(directions):
            safe = np.where(np.abs(ray) < 1e-6, np.float32(1e-6), ray)
            one, two = (
                (end * extent[:, axis] - origin[axis])[:, None, None] / safe for end in (-1, 1)
            )
            near = np.minimum(one, two)
            face = np.where(near > enter, np.int8(axis), face)
            enter = np.maximum(enter, near)
            leave = np.minimum(leave, np.maximum(one, two))
        own = [np.where(face == axis, -np.sign(directions[axis]), 0) for axis in range(3)]
        back_x, back_z = _turned(own[0], own[2], angle)
        normal = np.stack([back_x, own[1], back_z]).astype(np.float32)
        self._meet(rng, enter < leave, enter, normal, (0, 1))

    def meet_ball(self, rng: np.random.Generator, place: FloatArray, radius: FloatArray) -> None:
        """A sphere."""
        away = (self.eye - place).T[:, :, None, None]
        square = (self.rays**2).sum(axis=0)
        half = (self.rays * away).sum(axis=0)
        rest = (away**2).sum(axis=0) - (radius**2)[:, None, None]
        inside = half**2 - square * rest
        distance = (-half - np.sqrt(np.maximum(inside, 0))) / square
        normal = (away + self.rays * distance) / radius[:, None, None]
        self._meet(rng, inside > 0, distance, normal, (0, 1))

    def _meet(
        self,
        rng: np.random.Generator,
        hit: NDArray[np.bool_],
        distance: FloatArray,
        normal: FloatArray,
        plane: tuple[int, int],
    ) -> None:
        """Put a surface before what is farther away; its pattern follows two world coordinates."""
        colours = rng.uniform(0.1, 1.0, (2, 3, CHUNK)).astype(np.float32)
        period = rng.uniform(0.25, 1.2, CHUNK).astype(np.float32)
        kind = rng.integers(0, 3, CHUNK)  # plain, stripes, checks
        nearer = hit & (distance > NEAREST) & (distance < self.depth)
        scene, row, column = np.nonzero(nearer)
        depth = distance[nearer]
        wave = [
            np.floor((self.eye[scene, axis] + self.rays[axis][nearer] * depth) / period[scene])
            for axis in plane
        ]
        stripes, checks = wave[0] % 2, (wave[0] + wave[1]) % 2
        second = np.where(kind[scene] == 1, stripes, np.where(kind[scene] == 2, checks, 0)) > 0
        self.depth[nearer] = depth
        for channel in range(3):
            pair = colours[:, channel, scene]
            self.colour[channel, scene, row, column] = np.where(second, pair[1], pair[0])
            whole = np.broadcast_to(normal[channel], self.depth.shape)
            self.normal[channel, scene, row, column] = whole[nearer]

    def lit(self, lamp: FloatArray) -> FloatArray:
        """The picture [N, 3, size, size]: Lambert's law, the light falling off with distance."""
        points = self.eye.T[:, :, None, None] + self.rays * self.depth
        light = lamp.T[:, :, None, None] - points
        square = (light**2).sum(axis=0)
        angle = np.maximum((light * self.normal).sum(axis=0), 0) / np.sqrt(square)
        brightness = AMBIENT + (1 - AMBIENT) * angle * (4 / (4 + square)) * 1.6
        picture: FloatArray = (self.colour * brightness).transpose(1, 0, 2, 3)
        return picture
