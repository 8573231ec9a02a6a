"""Geometry: the mesh, its atlas, projection and rasteriser."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reid_synthpeople.atlas import CHARTS, SIDE, TEXELS
from reid_synthpeople.camera import face_front
from reid_synthpeople.figure import Figures, shape_figures
from reid_synthpeople.gait import FRONTAL_POSE
from reid_synthpeople.mesh import Mesh, spline
from reid_synthpeople.projection import project
from reid_synthpeople.rasteriser import Fragments, rasterise
from reid_synthpeople.scenes import Scene, Scenes, Shot
from reid_synthpeople.settings import WorldSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    world = Scenes(WorldSettings(seed=2, spread=1.8, wardrobe=0.0, p_truncation=0.0))
    return [world.scene(Shot(pid, 0, pid % 3, 0)) for pid in range(40)]


@pytest.fixture(scope="module")
def figures(scenes: list[Scene]) -> Figures:
    return shape_figures(
        [scene.person for scene in scenes],
        [scene.outfit for scene in scenes],
        [scene.pose for scene in scenes],
        CPU,
    )


def test_charts_do_not_overlap_and_fill_the_atlas() -> None:
    covered = np.zeros((SIDE, SIDE), int)
    for chart in CHARTS:
        covered[chart.slices] += 1
    assert len(CHARTS) == 18
    assert covered.max() == 1
    assert covered.mean() == pytest.approx(0.955, abs=0.001)


def test_the_front_is_in_the_middle_of_a_chart() -> None:
    for chart in CHARTS:
        middle = TEXELS.around[chart.slices][:, chart.width // 2 - 1 : chart.width // 2 + 1]
        np.testing.assert_allclose(middle.mean(), 0, atol=1e-6)
        along = TEXELS.along[chart.slices][:, 0]
        assert along[1] > 0 > along[0]  # one texel of margin
        assert along[-2] < 1 < along[-1]


def test_size_of_the_mesh() -> None:
    mesh = Mesh(CPU)
    assert mesh.vertices == 2705
    assert mesh.faces.shape == (4576, 3)
    assert mesh.parts.shape == (4576,)
    texels = mesh.texels
    assert texels.min() >= 1
    assert texels.max() <= SIDE - 1


def test_people_have_human_measures(scenes: list[Scene], figures: Figures) -> None:
    vertices = figures.vertices
    assert torch.isfinite(vertices).all()
    assert torch.isfinite(figures.normals).all()
    np.testing.assert_allclose(vertices[..., 1].amin(1), 0, atol=1e-12)
    height = vertices[..., 1].amax(1).numpy()
    assert height.min() > 1.2
    assert height.max() < 2.3
    built = np.array([scene.person.build.height for scene in scenes])
    assert np.corrcoef(built, height)[0, 1] > 0.4
    length = figures.normals.norm(dim=-1)
    assert ((length - 1).abs() < 1e-3).float().mean() > 0.75  # what has no area has no normal


def test_joints_keep_the_bones_of_the_build(scenes: list[Scene], figures: Figures) -> None:
    """Thigh and lower leg: the measures of `Build`, in any pose."""
    for joints, scene in zip(figures.joints.numpy(), scenes, strict=True):
        build = scene.person.build
        leg = build.leg * build.height
        for hip, knee, ankle in ((11, 13, 15), (12, 14, 16)):
            thigh, shank = (
                np.linalg.norm(joints[hip] - joints[knee]),
                np.linalg.norm(joints[knee] - joints[ankle]),
            )
            assert thigh == pytest.approx(leg * build.thigh_share)
            assert shank == pytest.approx(leg * (1 - build.thigh_share))


def test_a_straight_body_is_symmetric(scenes: list[Scene]) -> None:
    person, outfit = scenes[0].person, scenes[0].outfit
    outfit = replace(outfit, cut=replace(outfit.cut, shoulder_bag=0.0))
    figure = shape_figures([person], [outfit], [FRONTAL_POSE], CPU)
    joints = figure.joints[0].numpy()
    mirrored = joints * [-1, 1, 1]
    pairs = [0, *(joint + 1 if joint % 2 else joint - 1 for joint in range(1, 17))]
    np.testing.assert_allclose(joints, mirrored[pairs], atol=1e-9)


def test_spline_passes_through_its_knots() -> None:
    weights = spline(5, [0, 1, 2, 3, 4], CPU)
    np.testing.assert_allclose(weights.numpy(), np.eye(5), atol=1e-12)
    np.testing.assert_allclose(spline(5, [0.3, 2.7], CPU).sum(1), 1)


def test_a_figure_fills_its_frame(scenes: list[Scene], figures: Figures) -> None:
    """The bare body's height is the picture's over the view's scale, whatever is worn."""
    views = [replace(scene.view, centre_x=0.0, centre_y=0.0) for scene in scenes]
    framing = Mesh(CPU).framing
    projected = project(figures, views, framing, (256, 128))
    y = projected.points[:, framing, 1].numpy()
    scale = np.array([view.scale for view in views])
    np.testing.assert_allclose(y.max(1) - y.min(1), 256 / scale, rtol=1e-4)
    np.testing.assert_allclose((y.max(1) + y.min(1)) / 2, 128, atol=0.01)


def test_perspective_of_a_point() -> None:
    """A camera at 8 m and eye level sees what is a metre nearer 8/7 times as large."""
    view = replace(face_front(Scenes(WorldSettings()).scene(Shot(0, 0, 0, 0)).view), pitch=0.0)
    corners = torch.tensor([[[1.0, 0.95, 0.0], [1.0, 0.95, 1.0], [0, 0, 0], [0, 1.9, 0]]])
    figures = Figures(corners.double(), torch.zeros(1, 4, 3), torch.zeros(1, 17, 3).double())
    projected = project(figures, [view], torch.tensor([2, 3]), (100, 100))
    x = projected.points[0, :, 0] - 50
    assert x[1] / x[0] == pytest.approx(8 / 7)
    np.testing.assert_allclose(projected.nearness[0, :2], [1 / 8, 1 / 7])


def test_roll_turns_the_picture() -> None:
    view = replace(face_front(Scenes(WorldSettings()).scene(Shot(0, 0, 0, 0)).view), pitch=0.0)
    figure = Figures(
        torch.tensor([[[0, 0, 0], [0, 1.9, 0]]]).double(),
        torch.zeros(1, 2, 3),
        torch.zeros(1, 17, 3).double(),
    )
    rolled = project(figure, [replace(view, roll=0.1)], torch.tensor([0, 1]), (100, 100))
    (x0, y0), (x1, y1) = rolled.points[0].tolist()
    assert (x1 - x0) / (y1 - y0) == pytest.approx(-np.tan(0.1), rel=1e-4)


def slow_rasterise(
    points: np.ndarray, nearness: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest triangle and its inverse distance per pixel: one triangle at a time."""
    best = np.zeros(size)
    owner = np.full(size, -1)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for number, (a, b, c) in enumerate(faces):
        (xa, ya), (xb, yb), (xc, yc) = points[a], points[b], points[c]
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if area > -1e-4:
            continue
        second = ((x - xa) * (yc - ya) - (xc - xa) * (y - ya)) / area
        third = ((xb - xa) * (y - ya) - (x - xa) * (yb - ya)) / area
        inside = (second >= 0) & (third >= 0) & (second + third <= 1)
        depth = (1 - second - third) * nearness[a] + second * nearness[b] + third * nearness[c]
        won = inside & (depth > best)
        best[won], owner[won] = depth[won], number
    return owner, best


def test_rasteriser_agrees_with_a_loop_over_triangles(
    scenes: list[Scene], figures: Figures
) -> None:
    mesh, size = Mesh(CPU), (64, 32)
    projected = project(figures, [scene.view for scene in scenes], mesh.framing, size)
    points, nearness = projected.points[:2], projected.nearness[:2]
    fragments = rasterise(points, nearness, mesh.faces, size)
    found = np.full(2 * size[0] * size[1], -1)
    found[fragments.pixel] = fragments.triangle - fragments.image * len(mesh.faces)
    for row, owner in enumerate(found.reshape(2, *size)):
        expected, depth = slow_rasterise(
            points[row].double().numpy(),
            nearness[row].double().numpy(),
            mesh.faces.numpy(),
            size,
        )
        assert (owner == expected).mean() > 0.995  # pixels on an edge belong to either
        same = owner == expected
        np.testing.assert_allclose(fragments.nearness[row][same], depth[same], atol=1e-6)


def one_triangle(corners: list[list[float]], nearness: list[float]) -> Fragments:
    return rasterise(
        torch.tensor([corners]), torch.tensor([nearness]), torch.tensor([[0, 1, 2]]), (4, 4)
    )


def test_pixels_of_a_triangle_by_hand() -> None:
    """The lower left half of the 4 x 4 pixels, its diagonal included."""
    fragments = one_triangle([[0.0, 0.0], [0.0, 4.0], [4.0, 4.0]], [0.1, 0.1, 0.2])
    expected = [4 * y + x for y in range(4) for x in range(4) if x <= y]
    assert fragments.pixel.tolist() == expected
    np.testing.assert_allclose(fragments.weights.sum(1), 1, atol=1e-6)
    # At the centre of the first pixel: an eighth of the way to the third corner.
    np.testing.assert_allclose(fragments.weights[0], [0.875, 0.0, 0.125], atol=1e-6)
    assert fragments.nearness[0, 0, 0] == pytest.approx(0.1125, abs=1e-6)


def test_triangles_seen_from_behind_are_left_out() -> None:
    fragments = one_triangle([[0.0, 0.0], [4.0, 4.0], [0.0, 4.0]], [0.1, 0.1, 0.1])
    assert len(fragments.pixel) == 0
    assert not fragments.nearness.any()


def test_triangles_outside_the_picture_are_cut() -> None:
    fragments = one_triangle([[-40.0, -40.0], [-40.0, 80.0], [80.0, 80.0]], [0.1, 0.1, 0.1])
    assert fragments.pixel.tolist() == [4 * y + x for y in range(4) for x in range(4) if x <= y]
