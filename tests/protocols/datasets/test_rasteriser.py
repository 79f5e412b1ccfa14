"""The triangles of the build scripts are drawn as a slow loop over every sample draws them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protocols.datasets import _rasteriser as drawing
from protocols.datasets._rasteriser import Floats, Outline

# In the plane z = 0, seen without any turn: a square of side 2 in two triangles.
SQUARE = np.array(
    [
        [[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0]],
        [[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]],
    ]
)


def slow(seen: Outline, side: int) -> dict[int, tuple[int, float]]:
    """Return place -> (nearest triangle, its nearness there), one sample after the other."""
    found: dict[int, tuple[int, float]] = {}
    for t in range(len(seen.columns)):
        (ax, bx, cx), (ay, by, cy) = seen.columns[t], seen.rows[t]
        plane = np.array([[ax, bx, cx], [ay, by, cy], [1.0, 1.0, 1.0]])
        if abs(np.linalg.det(plane)) < 1e-9:
            continue
        for row in range(side):
            for column in range(side):
                weights = np.linalg.solve(plane, [column + 0.5, row + 0.5, 1.0])
                near = float(weights @ seen.nearness[t])
                place = row * side + column
                if (weights >= 0).all() and near > found.get(place, (0, -1.0))[1]:
                    found[place] = (t, near)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_is_seen_is_what_a_loop_over_all_samples_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = drawing.centred(rng.uniform(-1, 1, (12, 3, 3)) * rng.uniform(0.3, 1, (12, 1, 1)))
    seen = drawing.outline(corners, 1.3 * 14, np.array([6.0, 8.0]))  # some of it is cut off
    samples = drawing.covered(seen, 14)
    nearness = samples.of(seen.nearness)
    front = drawing.nearest(samples, nearness)
    met = {
        int(place): (int(triangle), pytest.approx(float(near), abs=1e-9))
        for place, triangle, near in zip(
            samples.place[front], samples.triangle[front], nearness[front], strict=True
        )
    }
    expected = slow(seen, 14)
    assert len(expected) > 40
    assert met == expected


def test_a_square_fills_the_share_asked_for_and_has_no_seam() -> None:
    seen = drawing.outline(SQUARE, 8.0, np.array([8.0, 6.0]))
    samples = drawing.covered(seen, 16)
    picture = np.zeros(256, int)
    picture[samples.place] = 1
    grid = picture.reshape(16, 16)
    assert grid[2:10, 4:12].all()
    assert grid.sum() == 64


def test_nothing_outside_and_no_line_is_drawn() -> None:
    line = np.array([[[-1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]])
    assert len(drawing.covered(drawing.outline(line, 8.0, np.array([8.0, 8.0])), 16).place) == 0
    away = drawing.outline(SQUARE, 8.0, np.array([100.0, 8.0]))
    samples = drawing.covered(away, 16)
    assert len(samples.place) == len(drawing.nearest(samples, samples.of(away.nearness))) == 0


def test_what_is_nearer_hides_what_is_behind_whatever_the_order() -> None:
    both = np.concatenate([SQUARE * 0.5 + [0, 0, 0.5], SQUARE])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        seen = drawing.outline(both[order], 16.0, np.array([8.0, 8.0]))
        samples = drawing.covered(seen, 16)
        front = samples.chosen(drawing.nearest(samples, samples.of(seen.nearness)))
        at_front = {
            int(p) for p, t in zip(front.place, front.triangle, strict=True) if order[t] < 2
        }
        assert 8 * 16 + 8 in at_front, "the small square hides the middle"
        assert 0 not in at_front
        assert len(front.place) == 256
        # Half as large at distance 2.5 of 3: 0.6 of the outline.
        assert len(at_front) == pytest.approx((16 * 0.6) ** 2, rel=0.1)


def matrix(axis: int, degrees: float) -> Floats:
    """Return the rotation about an axis that turns the next axis towards the one after it."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    found = np.eye(3)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    found[a, a], found[a, b], found[b, a], found[b, b] = c, -s, s, c
    return found


def test_turns_are_rotations_one_after_the_other() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (5, 3, 3))
    expected = points @ (matrix(2, 7) @ matrix(0, 25) @ matrix(1, -40)).T
    assert drawing.turned(points, -40, 25, 7) == pytest.approx(expected, abs=1e-12)


def test_a_raised_camera_sees_the_top() -> None:
    top = drawing.turned(np.array([0.0, 1.0, 0.0]), 0, 30)
    assert top[2] == pytest.approx(0.5), "the top comes towards the viewer"
    behind = drawing.turned(np.array([0.0, 0.0, -1.0]), 0, 30)
    assert behind[1] == pytest.approx(0.5), "what is behind stands higher in the image"


def test_normals_areas_and_light() -> None:
    corners = drawing.centred(np.random.default_rng(1).uniform(-1, 1, (20, 3, 3)))
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(across, axis=1)
    normal, area = drawing.normals(corners)
    assert normal == pytest.approx(across / length[:, None])
    assert area == pytest.approx(length / 2)
    light = np.array([0.0, 0.6, 0.8])
    expected = 0.3 + 0.7 * np.abs(normal @ light)
    assert drawing.lit(corners, light, 0.3) == pytest.approx(expected)
    assert drawing.lit(corners[:, ::-1], light, 0.3) == pytest.approx(expected), "both sides"
    flat = np.zeros((1, 3, 3))
    assert drawing.normals(flat)[0].tolist() == [[0, 0, 0]]


def test_centred_models_fit_into_the_unit_sphere() -> None:
    corners = drawing.centred(np.random.default_rng(2).uniform(3, 9, (20, 3, 3)))
    low, high = corners.min((0, 1)), corners.max((0, 1))
    assert low == pytest.approx(-high)
    assert np.linalg.norm(high) == pytest.approx(1)


def test_samples_are_averaged_and_rounded_to_shades() -> None:
    fine = np.zeros((4, 4, 3))
    fine[:2, :2] = 100
    fine[0, 2] = 100
    small = drawing.averaged(fine, 2)
    assert small[..., 0].tolist() == [[100, 25], [0, 0]]
    assert drawing.shades(small, 17)[..., 0].tolist() == [[102, 17], [0, 0]]
    assert drawing.shades(np.array([-20.0, 300.0]), 17).tolist() == [0, 255]
