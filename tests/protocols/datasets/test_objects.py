"""The objects set: views of models, by the rules of its build script."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocols.datasets import _embedded, _rasteriser, objects
from protocols.datasets.objects import build
from protocols.errors import DataError
from tests.measure_datasets import pixels_of

BOX = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
SIDES = ["1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"]


def box(x: float, y: float, z: float, more: str = "") -> str:
    """Return a box of the given sizes in the format of the wheel's files."""
    points = [f"v {a * x} {b * y} {c * z}" for a, b, c in BOX]
    return "\n".join(["o box", *points, "s off", *(f"f {side}" for side in SIDES), more])


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Five models: two boxes, one of them twice, one without a finite triangle."""
    texts = [
        box(1, 1, 1),
        box(3, 1, 1),
        box(1, 1, 4),
        box(1.02, 1, 1),
        "v nan nan nan\nv 0 0 0\nv 1 0 0\nf 1 2 3",
    ]
    path = tmp_path / "pybullet-3.2.7-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for number, text in enumerate(texts):
            archive.writestr(f"pybullet_data/random_urdfs/{number:03d}/{number:03d}.obj", text)
        archive.writestr("pybullet_data/other/000.obj", "v 0 0 0")
        archive.writestr("pybullet_data/random_urdfs/000/000.mtl", "")
    return path


def test_models_are_read_from_the_wheel(wheel: Path) -> None:
    assert list(build.models(wheel)) == ["000", "001", "002", "003", "004"]


def test_faces_become_triangles_and_broken_ones_are_left_out() -> None:
    model = build.corners(box(1, 2, 3))
    assert model is not None
    assert model.shape == (12, 3, 3), "six sides of four corners"
    high = model.max((0, 1))
    assert high / high[0] == pytest.approx([1, 3, 2]), "what is upright in the file is y here"
    torn = build.corners(box(1, 2, 3, "v nan 0 0\nf 1 2 9\nf 1 1 2\nf 1/4/7 2//3 3"))
    assert torn is not None
    assert len(torn) == 13, "neither the one with NaN nor the one without area"
    assert build.corners("v nan 0 0\nv 0 0 0\nv 1 0 0\nf 1 2 3") is None


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a wheel of pybullet 3\.2\.7"):
        build.models(tmp_path / "pybullet-3.2.6-any.whl")
    (tmp_path / "pybullet-3.2.7-any.whl").write_bytes(b"no zip")
    with pytest.raises(DataError, match="cannot be read"):
        build.models(tmp_path / "pybullet-3.2.7-any.whl")


def test_models_that_look_alike_count_once(wheel: Path) -> None:
    kept = build.choose(build.models(wheel))
    assert len(kept) == 3
    assert {"001", "002"} < set(kept)
    assert len({"000", "003"} & set(kept)) == 1, "the second of them looks like the first"


def test_views_depend_on_the_number_alone_and_stay_in_their_bounds() -> None:
    def said(view: build.View) -> str:
        return repr(view)

    assert list(map(said, build.views("007"))) == list(map(said, build.views("007")))
    assert said(build.views("007")[0]) != said(build.views("008")[0])
    every = [view for number in range(100) for view in build.views(f"{number:03d}")]
    assert len(every) == 1000
    for view in every:
        assert abs(view.sideways) <= 45
        assert 20 <= view.above <= 40
        assert view.light[2] > 0
        assert np.linalg.norm(view.light) == pytest.approx(1)
        assert np.ptp(view.body) <= 50
        assert np.ptp(view.ground) <= 20


def test_colours_are_no_property_of_the_model() -> None:
    model = build.corners(box(1, 1, 1))
    assert model is not None
    view = replace(build.views("000")[0], body=np.zeros(3), ground=np.full(3, 250.0))
    picture = build.drawn(model, view, 32)
    assert picture[0, 0].tolist() == [250, 250, 250]
    assert picture.min() == 0
    assert 0.2 < (picture[..., 0] < 125).mean() < 0.8


def test_the_sharpness_of_an_edge_is_its_share_of_samples() -> None:
    """A flat square seen from the front, half a pixel off: its edges are half grey."""
    corners = np.array(
        [
            [[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0]],
            [[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]],
        ]
    )
    view = build.View(
        sideways=0.0,
        above=0.0,
        tilt=0.0,
        length=0.5,
        shift=np.array([1 / 32, 0.0]),
        light=np.array([0.0, 0.0, 1.0]),
        body=np.full(3, 200.0),
        ground=np.full(3, 100.0),
    )
    row = build.drawn(_rasteriser.centred(corners), view, 16)[8, :, 0]
    assert row.tolist() == [100] * 4 + [150] + [200] * 7 + [150] + [100] * 3


def test_build_is_deterministic_and_the_loader_reads_it(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "VIEWS", 3)  # for speed
    for folder in ("one", "two"):
        build.main(["--out", str(tmp_path / folder), "--wheel", str(wheel)])
    one, two = ((tmp_path / f / "objects.zip").read_bytes() for f in ("one", "two"))
    assert one == two
    made = _embedded.read("objects", tmp_path / "one")
    kept = build.choose(build.models(wheel))
    assert list(made.class_names) == [f"random_urdfs/{number}" for number in kept]
    assert made.labels.tolist() == np.repeat(np.arange(3), build.VIEWS).tolist()
    number, model = next(iter(kept.items()))
    third = _rasteriser.shades(build.drawn(model, build.views(number)[2], 64), build.STEP)
    assert (made.images.read(2) == third).all()


def test_committed_images_are_in_sixteen_shades() -> None:
    pixels = pixels_of(objects.load())
    assert set(np.unique(pixels[::50])) <= set(range(0, 256, build.STEP))


def test_the_licence_names_source_and_version() -> None:
    text = (objects.HERE / "LICENSES.md").read_text(encoding="utf-8")
    assert f"`{build.PACKAGE}` {build.VERSION}" in text
    assert "This notice may not be removed or altered" in text
    assert "What was changed" in text
