"""The products set: views of textured models, by the rules of its build script, all credited."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocols.datasets import _embedded, products
from protocols.datasets._rasteriser import DISTANCE, turned
from protocols.datasets.products import build, catalogue, credits, models
from protocols.errors import DataError

# A flat square in the plane z = 0 with a picture on it, and a box around the middle.
SQUARE = "\n".join(
    [
        "mtllib square.mtl",
        "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0",
        "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1",
        "usemtl cloth",
        "f 1/1 2/2 3/3 4/4",
    ]
)
CLOTH = "newmtl cloth\nKd 0.5 0.25 0\nd 1\n"


def picture(pixels: list[list[tuple[int, ...]]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(files: dict[str, str | bytes]) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return zipfile.ZipFile(buffer)


def front() -> build.View:
    """Return a view from the front under full white light: colours come out as they are."""
    return build.View(
        sideways=0.0,
        above=0.0,
        length=1.0,
        shift=np.zeros(2),
        light=np.array([0.0, 0.0, 1.0]),
        tint=np.ones(3),
        ground=np.full(3, 250.0),
    )


def drawn(files: dict[str, str | bytes], view: build.View, side: int = 8) -> np.ndarray:
    model = models.read(archive(files), "a/square.obj")
    return build.drawn(build.upright(model, (1, 0, 0, 0, 1, 0, 0, 0, 1)), view, side)


def test_a_material_without_a_picture_has_its_colour() -> None:
    image = drawn({"a/square.obj": SQUARE, "a/square.mtl": CLOTH}, front())
    assert image == pytest.approx(np.broadcast_to([127.5, 63.75, 0], (8, 8, 3)))


def test_a_picture_lies_upright_and_not_mirrored() -> None:
    corners = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]]
    files = {
        "a/square.obj": SQUARE,
        "a/square.mtl": CLOTH + "map_Kd /somewhere/Cloth.PNG\n",
        "a/cloth.png": picture(corners),
    }
    image = drawn(files, front())
    assert image[1, 1].tolist() == [255, 0, 0]
    assert image[1, 6].tolist() == [0, 255, 0]
    assert image[6, 1].tolist() == [0, 0, 255]
    assert image[6, 6].tolist() == [255, 255, 255]


def test_what_is_clear_in_a_picture_is_a_hole() -> None:
    half = [[(9, 9, 9, 255), (9, 9, 9, 0)]]
    files = {"a/square.obj": SQUARE, "a/square.mtl": CLOTH + "map_Kd c.png\n"}
    image = drawn({**files, "a/c.png": picture(half)}, front())
    assert image[4, 1].tolist() == [9, 9, 9]
    assert image[4, 6].tolist() == [250, 250, 250], "the ground"


def test_a_picture_is_drawn_larger_where_it_is_nearer() -> None:
    """A floor seen from above: the line through its middle is where it is in space."""
    stripes = [[(200, 0, 0)], [(0, 0, 200)]]
    floor = SQUARE.replace(
        "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0", "v -1 0 1\nv 1 0 1\nv 1 0 -1\nv -1 0 -1"
    )
    files = {"a/square.obj": floor, "a/square.mtl": CLOTH + "map_Kd c.png\n"}
    view = replace(front(), above=30.0, light=np.array([0.0, 0.5, np.sqrt(0.75)]))
    column = drawn({**files, "a/c.png": picture(stripes)}, view, 64)[:, 32]
    red = ((column[:, 0] > 100) & (column[:, 2] < 50)).sum()
    blue = ((column[:, 2] > 100) & (column[:, 0] < 50)).sum()

    half = np.sqrt(0.5)
    line = turned(np.array([[0, 0, half], [0, 0, 0], [0, 0, -half]]), 0, 30)
    near, middle, far = line[:, 1] / (DISTANCE - line[:, 2])
    expected = (middle - near) / (far - near)
    assert expected > 0.6
    assert blue / (red + blue) == pytest.approx(expected, abs=0.04)


def test_glass_is_left_out_unless_all_is_glass() -> None:
    two = SQUARE + "\nv 0 0 5\nusemtl glass\nf 1 2 5\n"
    glass = CLOTH + "newmtl glass\nKd 1 1 1\nd 0.1\n"
    assert (
        len(models.read(archive({"a/s.obj": two, "a/square.mtl": glass}), "a/s.obj").corners) == 2
    )
    alone = SQUARE.replace("cloth", "glass")
    model = models.read(archive({"a/s.obj": alone, "a/square.mtl": glass}), "a/s.obj")
    assert len(model.corners) == 2


def test_corners_may_count_from_the_end_and_lack_a_place() -> None:
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0.5 0.5\nf -3/-1 -2//1 3\nv nan 0 0\nf 1 2 4\n"
    model = models.read(archive({"m.obj": text}), "m.obj")
    assert model.corners.tolist() == [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]]
    assert model.places.tolist() == [[[0.5, 0.5], [0, 0], [0, 0]]]
    assert model.materials[0].colour.tolist() == [204, 204, 204], "no material: grey"


def test_large_pictures_are_reduced() -> None:
    wide = picture([[(0, 0, 0)] * 512 + [(200, 200, 200)] * 512] * 2)
    files = {"s.obj": SQUARE, "square.mtl": CLOTH + "map_Kd c.png\n", "c.png": wide}
    made = models.read(archive(files), "s.obj").materials[0].picture
    assert made is not None
    assert made.shape == (1, 256, 4)
    assert (made[0, :128, 0] == 0).all()
    assert (made[0, 128:, 0] == 200).all()


def test_models_are_set_upright() -> None:
    model = models.read(archive({"s.obj": SQUARE}), "s.obj")
    lying = build.upright(model, (1, 0, 0, 0, 0, -1, 0, 1, 0))
    assert np.ptp(lying.corners[..., 1]) == pytest.approx(0)
    assert np.ptp(lying.corners[..., 2]) == pytest.approx(np.sqrt(2))


# Catalogues with two models of each maker, and all that is left out.

LICENCES = {
    "one": '<h1><a href="http://www.blendswap.com/blends/view/7">Blend #7: A &amp; B</a></h1>',
    "two": 'Thank you for downloading "Low Chair" by Ann\n'
    "Downloaded from http://www.blendswap.com/blends/view/12\n",
}


@pytest.fixture
def catalogues(tmp_path: Path) -> Path:
    unwanted = {name for names in catalogue.LEFT_OUT.values() for name in names}
    for number, library in enumerate(catalogue.LIBRARIES):
        mine = [name.split("/")[1] for name in unwanted if name.startswith(f"{library}/")]
        lines = ["id=Everything", "name=A catalogue"]
        with zipfile.ZipFile(tmp_path / f"{library}.sh3f", "w") as made:
            for n, word in enumerate(["one", "two", *sorted(mine)]):
                lines += [f"id#{n}={library}#{word}", f"model#{n}=/m/{word}/{word}.obj"]
                lines += [f"creator#{n} = Maker {'AB'[n % 2]}"]
                bar = SQUARE.replace("v 1 1 0", f"v 1 {1 + n + 3 * number} 0")
                made.writestr(f"m/{word}/{word}.obj", bar)
                if word in LICENCES:
                    made.writestr(f"m/{word}/LICENSE.html", LICENCES[word])
            lines.append("modelRotation#1=1 0 0 0 0 -1 0 1 0")
            made.writestr(catalogue.INDEX, "\n".join(lines))
    return tmp_path


def test_catalogues_are_read_without_what_is_left_out(catalogues: Path) -> None:
    entries = catalogue.entries(catalogues)
    assert set(entries) == {
        f"{lib}/{word}" for lib in catalogue.LIBRARIES for word in ("one", "two")
    }
    two = entries["Scopia/two"]
    assert (two.path, two.creator) == ("m/two/two.obj", "Maker B")
    assert two.rotation == (1, 0, 0, 0, 0, -1, 0, 1, 0)
    assert two.work == "Low Chair (http://www.blendswap.com/blends/view/12)"
    assert entries["Scopia/one"].work == "A & B (http://www.blendswap.com/blends/view/7)"


def test_other_catalogues_are_refused(catalogues: Path) -> None:
    (catalogues / "Scopia.sh3f").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"Scopia\.sh3f: cannot be read"):
        catalogue.entries(catalogues)
    with zipfile.ZipFile(catalogues / "Scopia.sh3f", "w") as made:
        made.writestr(catalogue.INDEX, "id#1=a#b\nmodel#1=/b.obj\ncreator#1=C\n")
    with pytest.raises(DataError, match=r"no \['Scopia/apple_pc'.*another version"):
        catalogue.entries(catalogues)


def test_every_class_has_its_maker_on_the_page(catalogues: Path) -> None:
    text = credits.page(catalogue.entries(catalogues).values())
    assert "- Maker A: `one` from A & B (http://www.blendswap.com/blends/view/7)\n" in text
    for library in catalogue.LIBRARIES.values():
        assert (
            f"[{library.licence}]({library.address}) | {library.credit or credits.EACH} | 2 |"
            in text
        )


def test_build_is_deterministic_and_the_loader_reads_it(
    catalogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "VIEWS", 2)  # for speed
    for folder in ("one", "two"):
        build.main(["--out", str(tmp_path / folder), "--catalogues", str(catalogues)])
    one, two = ((tmp_path / f / "products.zip").read_bytes() for f in ("one", "two"))
    assert one == two
    made = _embedded.read("products", tmp_path / "one")
    page = (tmp_path / "one" / "LICENSES.md").read_text()
    assert 2 <= len(made.class_names) <= 8
    assert made.labels.tolist() == np.repeat(np.arange(len(made.class_names)), 2).tolist()
    assert page.count("`one`") + page.count("`two`") == len(made.class_names)


def test_views_stay_in_their_bounds() -> None:
    every = [view for number in range(100) for view in build.views(f"x/{number}")]
    assert len(every) == 1000
    for view in every:
        assert 5 <= view.above <= 45
        assert view.light[1] >= 0
        assert view.light[2] > 0
        assert np.linalg.norm(view.light) == pytest.approx(1)
        assert 0.4 <= view.tint.min() <= view.tint.max() <= 1
    assert np.histogram([view.sideways for view in every], 4, (-180, 180))[0].min() > 200


def test_every_committed_class_is_credited_and_none_is_left_out() -> None:
    text = (products.HERE / "LICENSES.md").read_text(encoding="utf-8")
    listed = r"^## ([\w-]+): .*\n\n(?:\(C\) .*\n\n)?((?:- .*\n)+)"
    sections = dict(re.findall(listed, text, re.MULTILINE))
    credited = {
        f"{lib}/{word}" for lib, part in sections.items() for word in re.findall(r"`([^`]+)`", part)
    }
    names = set(products.load().class_names)
    assert credited == names
    assert not names & {name for unwanted in catalogue.LEFT_OUT.values() for name in unwanted}
    for name, library in catalogue.LIBRARIES.items():
        count = sum(each.startswith(f"{name}/") for each in names)
        assert f"{library.credit or credits.EACH} | {count} |" in text
        assert library.notice in text
    assert "What was changed" in text
