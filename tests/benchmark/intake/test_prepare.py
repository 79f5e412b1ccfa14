import io
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from benchmark.intake.inspect import check
from benchmark.intake.prepare import prepare
from benchmark.intake.unpack import Limits, unpack
from protocols import discovery, manifest
from protocols.dataset import Dataset
from protocols.datasets import cars196, cub200, inshop, sop
from protocols.datasets._official import Published
from protocols.datasets._own import Reading
from protocols.errors import DataError, InvalidInputError

Tree = dict[str, bytes]
CARS = cars196.NAMES.read_text("utf-8").splitlines()[:4]


def picture(number: int) -> bytes:
    """Return a JPEG of one colour that no other number has."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 7 % 256, number % 256, 40)).save(out, "JPEG")
    return out.getvalue()


def cub(classes: int = 4, each: int = 3) -> Tree:
    tree, lists = {"attributes.txt": b"1 colour\n"}, {name: "" for name in cub200.LISTS}
    for label in range(classes):
        lists["classes.txt"] += f"{label + 1} {label + 1:03}.Bird_{label}\n"
        for k in range(each):
            image = label * each + k + 1
            path = f"{label + 1:03}.Bird_{label}/Bird_{image:04}.jpg"
            tree[f"CUB_200_2011/images/{path}"] = picture(image)
            lists["images.txt"] += f"{image} {path}\n"
            lists["image_class_labels.txt"] += f"{image} {label + 1}\n"
            lists["train_test_split.txt"] += f"{image} {int(k == 0)}\n"
    return tree | {f"CUB_200_2011/{name}": text.encode() for name, text in lists.items()}


def sop_tree() -> Tree:
    tree, lists = {}, {"train": "", "test": ""}
    for image in range(12):
        class_id, part = image // 3 + 1, "train" if image < 6 else "test"
        path = f"{'bicycle' if image < 6 else 'chair'}_final/{class_id}_{image}.JPG"
        tree[f"Stanford_Online_Products/{path}"] = picture(image)
        lists[part] += f"{image + 1} {class_id} 1 {path}\n"
    for part, text in lists.items():
        name = f"Stanford_Online_Products/Ebay_{part}.txt"
        tree[name] = b"image_id class_id super_class_id path\n" + text.encode()
    return tree


def inshop_tree(images: str = "Img/img") -> Tree:
    tree, lines = {}, []
    for image in range(12):
        item = (10, 2, 33, 4)[image // 3]  # not in order in the list
        part = "train" if item in (10, 2) else ("query", "gallery", "gallery")[image % 3]
        path = f"WOMEN/Dresses/id_{item:08}/{image:02}_1_front.jpg"
        tree[f"{images}/{path}"] = picture(image)
        lines.append(f"img/{path}     id_{item:08} {part}")
    text = "\n".join([str(len(lines)), "image_name item_id evaluation_status", *lines])
    return tree | {"Eval/list_eval_partition.txt": text.encode() + b"\n"}


def mat(rows: list[dict[str, object]], **more: object) -> bytes:
    """Return a .mat file with a struct array, as MATLAB writes it."""
    annotations = np.zeros((1, len(rows)), [(key, object) for key in rows[0]])
    for number, row in enumerate(rows):
        annotations[0, number] = tuple(row.values())
    out = io.BytesIO()
    savemat(out, {"annotations": annotations, **more})
    return out.getvalue()


def car_rows() -> list[tuple[int, int, str]]:
    return [(image, image // 3 + 1, "train" if image % 3 else "test") for image in range(12)]


def cars_in_one() -> Tree:
    box = dict.fromkeys(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), np.uint16(1))
    rows = [
        {"relative_im_path": f"car_ims/{image + 1:06}.jpg", **box}
        | {"class": np.uint8(class_id), "test": np.uint8(part == "test")}
        for image, class_id, part in car_rows()
    ]
    tree = {f"car_ims/{image + 1:06}.jpg": picture(image) for image, _, _ in car_rows()}
    return tree | {"cars_annos.mat": mat(rows, class_names=np.array([CARS], object))}


def cars_devkit() -> Tree:
    tree: Tree = {}
    for part, name in (("train", cars196.TRAIN), ("test", cars196.TEST)):
        rows = []
        for image, class_id, where in car_rows():
            if where == part:
                rows.append({"bbox_x1": 1, "class": np.uint8(class_id), "fname": f"{image:05}.jpg"})
                tree[f"cars_{part}/{image:05}.jpg"] = picture(image)
        tree["devkit/" * (part == "train") + name] = mat(rows)
    out = io.BytesIO()
    savemat(out, {"class_names": np.array([CARS], object)})
    return tree | {"devkit/cars_meta.mat": out.getvalue()}


def cars_in_folders() -> Tree:
    return {
        f"car_data/car_data/{part}/{CARS[class_id - 1]}/{image:05}.jpg": picture(image)
        for image, class_id, part in car_rows()
    } | {"names.csv": "\n".join(CARS).encode()}


def lay_out(tree: Tree, folder: Path) -> Path:
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tarred(tree: Tree, path: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix != ".tar" else "w") as archive:
        for name, content in tree.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(tree: Tree, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in tree.items():
            archive.writestr(name, content)
    return path


def few(module, **parts: tuple[int, int]):
    return replace(module.OFFICIAL, published=Published(12, 4, first_half=6, parts=parts))


def loaded(name: str, root: Path) -> Dataset:
    dataset: Dataset = discovery.load("dataset", name).load(root)
    return dataset


CUB = few(cub200, train=(4, 4), test=(8, 4))
SOP = few(sop, train=(6, 2), test=(6, 2))
INSHOP = few(inshop, train=(6, 2), query=(2, 2), gallery=(4, 2))
CARS_FEW = few(cars196, train=(8, 4), test=(4, 4))


# --- the four datasets in all their layouts -----------------------------------------------------


def as_cub_tgz(folder: Path) -> Path:
    return tarred(cub(), folder / "CUB_200_2011.tgz")


def as_cub_folder(folder: Path) -> Path:
    return lay_out(cub(), folder / "birds")


def as_cub_inner_folder(folder: Path) -> Path:
    return lay_out(cub(), folder) / "CUB_200_2011"


def as_sop_zip(folder: Path) -> Path:
    return zipped(sop_tree(), folder / "Stanford_Online_Products.zip")


def as_folder_with_sop_zip(folder: Path) -> Path:
    return as_sop_zip(folder).parent


def as_inshop_folder(folder: Path) -> Path:
    return lay_out(inshop_tree(), folder / "In-shop Clothes Retrieval Benchmark")


def as_inshop_flat(folder: Path) -> Path:
    tree = inshop_tree("img")
    tree["list_eval_partition.txt"] = tree.pop("Eval/list_eval_partition.txt")
    return lay_out(tree, folder / "inshop")


def as_inshop_with_img_zip(folder: Path) -> Path:
    tree = inshop_tree("img")
    base = lay_out(
        {"Eval/list_eval_partition.txt": tree.pop("Eval/list_eval_partition.txt")}, folder
    )
    (base / "Img").mkdir()
    zipped(tree, base / "Img" / "img.zip")
    return base


def as_inshop_zip_in_zip(folder: Path) -> Path:
    base = as_inshop_with_img_zip(folder / "x")
    tree = {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*.*")}
    return zipped({f"In-shop/{k}": v for k, v in tree.items()}, folder / "drive-download.zip")


def as_car_ims_tgz_beside_its_list(folder: Path) -> Path:
    tree = cars_in_one()
    lay_out({cars196.ONE: tree.pop(cars196.ONE)}, folder)
    return tarred(tree, folder / "car_ims.tgz")


def as_cars_unpacked(folder: Path) -> Path:
    return lay_out(cars_in_one(), folder / "cars")


def as_devkit_unpacked(folder: Path) -> Path:
    return lay_out(cars_devkit(), folder / "cars")


def as_devkit_archives(folder: Path) -> Path:
    tree = cars_devkit()
    for name, start in (
        ("cars_train", "cars_train/"),
        ("cars_test", "cars_test/"),
        ("car_devkit", "devkit/"),
    ):
        tarred({k: v for k, v in tree.items() if k.startswith(start)}, folder / f"{name}.tgz")
    return lay_out({cars196.TEST: tree[cars196.TEST]}, folder)


def as_devkit_nested_twice(folder: Path) -> Path:
    tree = {
        k.replace("cars_train/", "cars_train/cars_train/").replace(
            "cars_test/", "cars_test/cars_test/"
        ): v
        for k, v in cars_devkit().items()
    }
    return lay_out(tree, folder / "cars")


def as_reupload_zip(folder: Path) -> Path:
    return zipped(cars_in_folders(), folder / "archive.zip")


def as_reupload_folder(folder: Path) -> Path:
    return lay_out(cars_in_folders(), folder / "cars")


LAYOUTS = [
    ("cub200", CUB, as_cub_tgz),
    ("cub200", CUB, as_cub_folder),
    ("cub200", CUB, as_cub_inner_folder),
    ("sop", SOP, as_sop_zip),
    ("sop", SOP, as_folder_with_sop_zip),
    ("inshop", INSHOP, as_inshop_folder),
    ("inshop", INSHOP, as_inshop_flat),
    ("inshop", INSHOP, as_inshop_with_img_zip),
    ("inshop", INSHOP, as_inshop_zip_in_zip),
    ("cars196", CARS_FEW, as_car_ims_tgz_beside_its_list),
    ("cars196", CARS_FEW, as_cars_unpacked),
    ("cars196", CARS_FEW, as_devkit_unpacked),
    ("cars196", CARS_FEW, as_devkit_archives),
    ("cars196", CARS_FEW, as_devkit_nested_twice),
    ("cars196", CARS_FEW, as_reupload_zip),
    ("cars196", CARS_FEW, as_reupload_folder),
]
NAMES = {
    "cub200": [f"{n + 1:03}.Bird_{n}" for n in range(4)],
    "sop": ["bicycle 1", "bicycle 2", "chair 3", "chair 4"],
    "inshop": ["id_00000002", "id_00000004", "id_00000010", "id_00000033"],
    "cars196": CARS,
}
DIGESTS: dict[str, set[str]] = {}


@pytest.mark.parametrize(
    ("name", "official", "build"), LAYOUTS, ids=lambda v: getattr(v, "__name__", "")
)
def test_every_layout_gives_the_same_dataset(tmp_path: Path, name, official, build) -> None:
    (tmp_path / "source").mkdir()
    source, root = build(tmp_path / "source"), tmp_path / "root"
    done = prepare(name, root, source, official=official)
    assert done.fresh
    dataset = loaded(name, root)
    assert dataset.name == name
    assert dataset.class_names == NAMES[name]
    assert dataset.labels.tolist() == sorted([0, 1, 2, 3] * 3)
    assert dataset.parts is not None
    met = {part: int((dataset.parts == part).sum()) for part in set(dataset.parts)}
    assert met == {part: images for part, (images, _) in official.published.parts.items()}
    assert [dataset.images.read(n).shape for n in range(12)] == [(8, 8, 3)] * 12
    assert dataset.digest == done.header.digest == discovery.load("dataset", name).digest(root)
    DIGESTS.setdefault(name, set()).add(dataset.digest)
    assert len(DIGESTS[name]) == 1, "a layout must not change what the dataset is"
    assert not list((root / name).glob(".*")), "nothing unfinished is left behind"


def test_labels_belong_to_their_images(tmp_path: Path) -> None:
    prepare("sop", tmp_path / "root", as_sop_zip(tmp_path), official=SOP)
    dataset = loaded("sop", tmp_path / "root")
    assert dataset.class_groups == ["bicycle", "bicycle", "chair", "chair"]
    reds = {int(dataset.images.read(n)[0, 0, 0]) for n in np.flatnonzero(dataset.labels == 1)}
    assert all(min(abs(red - image * 7) for image in (3, 4, 5)) <= 3 for red in reds)


@pytest.mark.parametrize("name", ["cub200", "cars196", "sop", "inshop"])
def test_a_wrong_count_is_refused_by_default(tmp_path: Path, name: str) -> None:
    _, _, build = next(layout for layout in LAYOUTS if layout[0] == name)
    (tmp_path / "source").mkdir()
    with pytest.raises(DataError, match=r"met 12 images \(published: [0-9,]{6,7}\), 4 classes"):
        prepare(name, tmp_path / "root", build(tmp_path / "source"))
    assert not (tmp_path / "root" / name).exists()


def test_published_counts_are_those_of_the_papers() -> None:
    counts = {
        "cub200": (11_788, 200),
        "cars196": (16_185, 196),
        "sop": (120_053, 22_634),
        "inshop": (52_712, 7_982),
    }
    for name, (images, classes) in counts.items():
        published = discovery.load("dataset", name).OFFICIAL.published
        assert (published.images, published.classes) == (images, classes)
        assert sum(count for count, _ in published.parts.values()) == images
    assert cars196.OFFICIAL.published.first_half == 16_185 - 8_131
    assert len(cars196.NAMES.read_text().splitlines()) == 196


def test_a_second_time_is_nothing_to_do(tmp_path: Path) -> None:
    source = as_cub_tgz(tmp_path)
    first = prepare("cub200", tmp_path, source, official=CUB)
    written = (first.folder / manifest.FILE).stat().st_mtime_ns
    source.unlink()
    again = prepare("cub200", tmp_path, official=CUB)
    assert not again.fresh
    assert again.header == first.header
    assert (first.folder / manifest.FILE).stat().st_mtime_ns == written


@pytest.mark.parametrize("build", [as_cub_tgz, as_cub_folder])
def test_an_edited_manifest_is_made_again_from_the_files(tmp_path: Path, build: Callable) -> None:
    first = prepare("cub200", tmp_path, build(tmp_path), official=CUB)
    path = first.folder / manifest.FILE
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b",1,", b",2,"))
    with pytest.raises(DataError, match="edited by hand"):
        loaded("cub200", tmp_path)
    assert prepare("cub200", tmp_path, official=CUB).fresh
    assert path.read_bytes() == whole


def test_a_missing_file_is_brought_back(tmp_path: Path) -> None:
    source = as_cub_tgz(tmp_path)
    first = prepare("cub200", tmp_path, source, official=CUB)
    next(first.folder.rglob("*.jpg")).unlink()
    with pytest.raises(DataError, match=r"1 of 12 listed images are missing"):
        prepare("cub200", tmp_path, official=CUB)
    assert prepare("cub200", tmp_path, source, official=CUB).header == first.header
    assert len(list(first.folder.rglob("*.jpg"))) == 12


def spoil(folder: Path) -> Path:
    """Give a prepared image another content, without touching what it may be a link to."""
    path = next(folder.rglob("*.jpg"))
    path.unlink()
    path.write_bytes(picture(99))
    return path


def unreadable(folder: Path, name: str) -> list[str]:
    return [found.path for found in check(folder, name) if found.kind == "unreadable"]


def test_a_damaged_file_is_brought_back_by_the_command_that_the_error_names(tmp_path: Path) -> None:
    source = as_cub_tgz(tmp_path)
    first = prepare("cub200", tmp_path, source, official=CUB)
    whole = (first.folder / manifest.FILE).read_bytes()
    path = spoil(first.folder)
    assert unreadable(first.folder, "cub200")
    with pytest.raises(DataError, match=rf"not what was prepared: .*{path.name}.*--archive"):
        prepare("cub200", tmp_path, official=CUB)
    again = prepare("cub200", tmp_path, source, official=CUB)
    assert (again.fresh, again.notes) == (True, ())
    assert (first.folder / manifest.FILE).read_bytes() == whole
    assert unreadable(first.folder, "cub200") == []
    # An archive that lies in the dataset's own folder is found without being named.
    (first.folder / "downloads").mkdir()
    source.rename(first.folder / "downloads" / source.name)
    spoil(first.folder)
    assert prepare("cub200", tmp_path, official=CUB).header.digest == first.header.digest
    assert unreadable(first.folder, "cub200") == []


def test_it_is_said_where_the_source_is_as_damaged(tmp_path: Path) -> None:
    source = as_cub_folder(tmp_path)
    first = prepare("cub200", tmp_path, source, official=CUB)
    next(first.folder.rglob("*.jpg")).write_bytes(picture(99))  # one file under two names
    again = prepare("cub200", tmp_path, source, official=CUB)
    assert again.header.digest != first.header.digest
    assert "not all those that were prepared here before" in again.notes[0]


def test_own_images_are_mended_and_follow_the_names_of_their_folders(tmp_path: Path) -> None:
    tree = {f"{name}/{n}.jpg": picture(k * 10 + n) for k, name in enumerate("ab") for n in range(2)}
    name = f"folder:{lay_out(tree, tmp_path / 'mine')}"
    first = prepare(name, tmp_path / "root")
    spoil(first.folder)
    assert unreadable(first.folder, name)
    assert prepare(name, tmp_path / "root").fresh
    assert unreadable(first.folder, name) == []
    assert not prepare(name, tmp_path / "root").fresh
    (tmp_path / "mine" / "b").rename(tmp_path / "mine" / "c")
    assert prepare(name, tmp_path / "root").header.digest == first.header.digest
    assert list(loaded(name, tmp_path / "root").class_names) == ["a", "c"]
    assert unreadable(first.folder, name) == []


def test_files_in_their_place_stay_there(tmp_path: Path) -> None:
    lay_out(cub(), tmp_path / "cub200")
    done = prepare("cub200", tmp_path, official=CUB)
    assert not (done.folder / "files").exists()
    assert loaded("cub200", tmp_path).images.read(0).shape == (8, 8, 3)


def test_a_link_to_the_files_is_followed(tmp_path: Path) -> None:
    shared = lay_out(cub(), tmp_path / "shared")
    (shared / "circle").symlink_to(shared)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cub200").mkdir()
    (tmp_path / "root" / "cub200" / "data").symlink_to(shared)
    prepare("cub200", tmp_path / "root", official=CUB)
    assert loaded("cub200", tmp_path / "root").images.read(11).shape == (8, 8, 3)


def test_what_a_killed_run_left_does_not_count(tmp_path: Path) -> None:
    tree = cub()
    lay_out(tree, tmp_path / "cub200" / ".files.part" / "CUB_200_2011")
    with pytest.raises(DataError, match=r"no folder holds images\.txt"):
        prepare("cub200", tmp_path, official=CUB)
    assert prepare("cub200", tmp_path, as_cub_tgz(tmp_path), official=CUB).fresh


def test_nothing_there_says_where_to_get_it(tmp_path: Path) -> None:
    for name, page in (
        ("cub200", "data.caltech.edu"),
        ("cars196", "kaggle"),
        ("sop", "cvgl.stanford.edu"),
        ("inshop", "InShopRetrieval"),
    ):
        with pytest.raises(DataError, match=f"(?i){page}.*data prepare {name} --root") as caught:
            prepare(name, tmp_path)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / name).exists()
    with pytest.raises(DataError, match="no such file or folder"):
        prepare("cub200", tmp_path, tmp_path / "none.tgz")
    with pytest.raises(DataError, match="no address of it is known"):
        prepare("cars196", tmp_path, download=True)
    with pytest.raises(InvalidInputError, match="ships with the code"):
        prepare("toy", tmp_path)


@pytest.mark.parametrize(
    ("name", "official", "edit", "says"),
    [
        ("cub200", CUB, ("classes.txt", b"2 002.Bird_1\n", b""), "the lists are damaged"),
        ("cub200", CUB, ("images.txt", b"3 001", b"three"), "the lists are damaged"),
        ("cub200", CUB, ("images.txt", b"2.jpg", b"x.jpg"), r"2 of 12 listed images are missing"),
        ("cub200", CUB, ("images.txt", b"0002.jpg", b"0001.jpg"), "listed more than once"),
        ("sop", SOP, ("Ebay_test.txt", b"7 3 1 ", b"7 x 1 "), "the lists are damaged"),
        ("inshop", INSHOP, ("partition.txt", b"12\n", b"13\n"), "announces 13 images and lists 12"),
        (
            "inshop",
            INSHOP,
            ("partition.txt", b" gallery", b" query"),
            "6 query images .published: 2",
        ),
        ("cars196", CARS_FEW, ("cars_annos.mat", b"MATLAB", b"MATRIX" * 99), "cars_annos.mat"),
    ],
)
def test_damaged_lists_are_explained(tmp_path: Path, name, official, edit, says) -> None:
    tree = {"cub200": cub, "sop": sop_tree, "inshop": inshop_tree, "cars196": cars_in_one}[name]()
    key = next(key for key in tree if key.endswith(edit[0]))
    tree[key] = tree[key].replace(*edit[1:])
    with pytest.raises(DataError, match=says):
        prepare(name, tmp_path, lay_out(tree, tmp_path / "x"), official=official)


def test_cars_without_labels_of_the_test_images_is_explained(tmp_path: Path) -> None:
    tree = cars_devkit()
    del tree[cars196.TEST]
    with pytest.raises(DataError, match=r"no cars_test_annos_withlabels\.mat"):
        prepare("cars196", tmp_path, lay_out(tree, tmp_path / "x"), official=CARS_FEW)


def test_cars_folders_of_other_names_are_named(tmp_path: Path) -> None:
    tree = cars_in_folders() | {"car_data/car_data/train/Trabant 601/1.jpg": picture(99)}
    with pytest.raises(DataError, match="Trabant 601"):
        prepare("cars196", tmp_path, lay_out(tree, tmp_path / "x"), official=CARS_FEW)


# --- archives that are damaged or hostile -------------------------------------------------------

SMALL = Limits(members=50, total_bytes=100_000, ratio=5, free_bytes=20_000)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def evil_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member("good.txt", size=2), io.BytesIO(b"ok"))
        for info in members:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def evil_zip(path: Path, name: str, content: bytes = b"x", mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.txt", "ok")
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, content)
    return path


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([member("../evil", size=1)], "points out"),
        ([member("a/../../evil", size=1)], "points out"),
        ([member("/evil", size=1)], "points out"),
        ([member("..")], "points out"),
        ([member("link", tarfile.SYMTYPE, "/etc/passwd")], "link or a device"),
        ([member("link", tarfile.SYMTYPE, ".."), member("link/evil", size=1)], "link or a device"),
        ([member("hard", tarfile.LNKTYPE, "good.txt")], "link or a device"),
        ([member("dev", tarfile.CHRTYPE)], "link or a device"),
        ([member("fifo", tarfile.FIFOTYPE)], "link or a device"),
        ([member("good.txt", size=1)], "twice"),
        ([member("./good.txt", size=1)], "twice"),
        ([member("good.txt/below", size=1)], "cannot be unpacked"),
        ([member(f"{n}", size=1) for n in range(60)], "more than 50 members"),
        ([member("bomb", size=90_000)], "unpacks to more than"),
        ([member("n" * 300, size=1)], "cannot be unpacked"),
    ],
)
def test_hostile_tars_are_refused(tmp_path: Path, members, says: str) -> None:
    archive = evil_tar(tmp_path / "evil.tgz", *members)
    refused(archive, tmp_path, says)


def pax_record(name: str, value: str) -> bytes:
    """Return "LENGTH NAME=VALUE", where the length counts its own digits."""
    rest = f" {name}={value}\n".encode()
    length = next(n for n in range(len(rest), len(rest) + 9) if n == len(str(n)) + len(rest))
    return str(length).encode() + rest


def pax_tar(path: Path, records: Sequence[tuple[str, str]], times: int = 1) -> Path:
    """Write a tar of one file behind ``times`` pax headers that hold ``records``."""
    body = b"".join(pax_record(*record) for record in records)
    head = member("pax", tarfile.XHDTYPE, size=len(body)).tobuf(tarfile.USTAR_FORMAT)
    last = member("x.jpg", size=512).tobuf(tarfile.USTAR_FORMAT) + b"a" * 512
    path.write_bytes((head + body + bytes(-len(body) % 512)) * times + last + bytes(1024))
    return path


SPARSE = "GNU.sparse."


@pytest.mark.parametrize(
    ("records", "times", "says"),
    [
        ([(f"{SPARSE}size", "zz")], 1, "a header of a member"),
        ([(f"{SPARSE}map", "1,a"), (f"{SPARSE}size", "3")], 1, "a header of a member"),
        ([(f"{SPARSE}major", "1"), (f"{SPARSE}minor", "0")], 1, "a header of a member"),
        ([("size", "-5")], 1, "of -5 bytes"),
        ([("comment", "z" * 100_000)], 40, "headers of more than 1,048,576 bytes"),
        ([("comment", "1" * 60_000)], 1, "a number of more than 300 digits"),
        ([(f"k{n}", "v") for n in range(40_000)], 40, "headers of more than 1,048,576 bytes"),
    ],
)
def test_headers_of_tars_are_bounded(tmp_path: Path, records, times: int, says: str) -> None:
    archive, started = pax_tar(tmp_path / "evil.tar", records, times), time.perf_counter()
    with pytest.raises(DataError) as error:
        unpack(archive, tmp_path / "out")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert time.perf_counter() - started < 2  # the digits alone took minutes


def test_a_tar_with_ordinary_pax_headers_is_unpacked(tmp_path: Path) -> None:
    records = [("path", "ü" * 100), ("mtime", "1.5"), ("SCHILY.xattr.user.note", "z" * 60_000)]
    unpack(pax_tar(tmp_path / "good.tar", records), tmp_path / "out")
    assert (tmp_path / "out" / ("ü" * 100)).read_bytes() == b"a" * 512


@pytest.mark.parametrize(
    ("name", "content", "mode", "says"),
    [
        ("../evil", b"x", 0, "points out"),
        ("/evil", b"x", 0, "points out"),
        ("a/../../evil", b"x", 0, "points out"),
        ("link", b"/etc/passwd", 0o120777, "link or a device"),
        ("dev", b"", 0o020666, "link or a device"),
        ("bomb", bytes(90_000), 0, "unpacks to more than"),
        ("good.txt/below", b"x", 0, "cannot be unpacked"),
    ],
)
def test_hostile_zips_are_refused(tmp_path: Path, name, content, mode, says) -> None:
    refused(evil_zip(tmp_path / "evil.zip", name, content, mode), tmp_path, says)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    refused(evil_zip(tmp_path / "evil.zip", "good.txt"), tmp_path, "twice")


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = evil_zip(tmp_path / "bomb.zip", "bomb", bytes(90_000))
    content = archive.read_bytes()
    archive.write_bytes(content.replace(struct.pack("<I", 90_000), struct.pack("<I", 9)))
    refused(archive, tmp_path, "damaged|not of the size")


def test_a_tar_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    info = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=0)
    info.size = 80 << 20
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "x.tar").write_bytes(header + bytes(1024))
    refused(tmp_path / "x.tar", tmp_path, "headers of")


def test_zeros_without_end_are_refused(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "x.tgz").write_bytes(
        gzip.compress(tarred({"a": b"1"}, tmp_path / "a.tar").read_bytes() + bytes(2_000_000))
    )
    refused(tmp_path / "x.tgz", tmp_path, "more bytes than the bound")


def refused(archive: Path, tmp_path: Path, says: str) -> None:
    before = sorted(p for p in tmp_path.rglob("*") if "inside" not in p.parts)
    with pytest.raises(DataError, match=says) as caught:
        unpack(archive, tmp_path / "inside" / "target", SMALL)
    assert str(archive) in str(caught.value)
    after = sorted(p for p in tmp_path.rglob("*") if "inside" not in p.parts)
    assert after == before, "something was written outside the target"
    assert not [p for p in (tmp_path / "inside").rglob("*") if p.is_symlink()]
    assert [p.name for p in (tmp_path / "inside").iterdir()] == ["target"]
    used = sum(p.stat().st_size for p in (tmp_path / "inside").rglob("*") if p.is_file())
    assert used <= 20_000 + 5 * archive.stat().st_size


def test_a_refused_archive_prepares_nothing(tmp_path: Path) -> None:
    tree = cub() | {"../evil": b"x"}
    with pytest.raises(DataError, match="points out"):
        prepare("cub200", tmp_path / "root", tarred(tree, tmp_path / "cub.tgz"), official=CUB)
    assert not (tmp_path / "root" / "cub200").exists()


@pytest.mark.parametrize("kind", ["tgz", "tar", "zip"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_cut_off_archive_prepares_nothing(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / f"cub.{kind}"
    whole = (zipped if kind == "zip" else tarred)(cub(), path).read_bytes()
    if kind == "tar":
        whole = whole[: len(whole) - 10_000]  # it ends in that many zeros
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match=r"Get CUB_200_2011\.tgz from"):
        prepare("cub200", tmp_path / "root", path, official=CUB)
    assert not (tmp_path / "root" / "cub200").exists()


def test_a_password_is_explained(tmp_path: Path) -> None:
    path = zipped({"a.jpg": b"x"}, tmp_path / "img.zip")
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the member's header
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="password"):
        unpack(path, tmp_path / "target")


def test_what_is_no_archive_is_explained(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"neither zip nor tar, it begins with b'<html>"):
        prepare("cub200", tmp_path / "root", tmp_path / "CUB_200_2011.tgz", official=CUB)


@given(
    at=st.integers(0, 1 << 20),
    noise=st.binary(min_size=1, max_size=6),
    kind=st.sampled_from(["tar", "tgz", "zip"]),
)
def test_damage_anywhere_is_unpacked_or_a_data_error(tmp_path_factory, at, noise, kind) -> None:
    folder = tmp_path_factory.mktemp("x")
    tree = {"a/b.txt": b"hello" * 99, "c.bin": bytes(range(256))}
    path = folder / f"x.{kind}"
    content = (zipped if kind == "zip" else tarred)(tree, path).read_bytes()
    at %= len(content)
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    try:
        unpack(path, folder / "target")
    except DataError as error:
        met = str(error)
    else:
        met = ""
    assert not met or str(path) in met
    assert {p.name for p in folder.iterdir()} <= {path.name, "target"}


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_odd_names_and_folders_are_unpacked(tmp_path: Path, kind: str) -> None:
    tree = {"ä ö/new\nline.txt": b"1", "a\\b": b"2", "deep/er/empty.txt": b""}
    unpack((zipped if kind == "zip" else tarred)(tree, tmp_path / f"x.{kind}"), tmp_path / "t")
    assert {
        p.relative_to(tmp_path / "t").as_posix(): p.read_bytes()
        for p in (tmp_path / "t").rglob("*")
        if p.is_file()
    } == tree


# --- a user's own images ------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    tree = {
        f"{name}/{part}/{n}.jpg": picture(number * 10 + n)
        for number, name in enumerate(["b", "Ä", "a"])
        for part in "xy"
        for n in range(2)
    } | {"a/Thumbs.db": b"", ".hidden/x.jpg": b""}
    tree = {k: v + k.encode() for k, v in tree.items()}
    name = f"folder:{lay_out(tree, tmp_path / 'mine')}"
    with pytest.raises(DataError, match=r"2 folders deep.*--class-level 1: 3, --class-level 2: 2"):
        prepare(name, tmp_path / "root")
    first = prepare(name, tmp_path / "root", reading=Reading(class_level=1))
    assert first.notes == (
        "folders below the classes are not told apart",
        "passed over 1 .db: no pictures",
    )
    dataset = loaded(name, tmp_path / "root")
    assert dataset.name == name
    assert list(dataset.class_names) == ["a", "b", "Ä"]
    assert dataset.parts is None
    assert dataset.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.images.read(3).shape == (8, 8, 3)
    assert not prepare(name, tmp_path / "root", reading=Reading(class_level=1)).fresh
    (tmp_path / "mine" / "a" / "x" / "new.jpg").write_bytes(picture(77))
    second = prepare(name, tmp_path / "root", reading=Reading(class_level=1))
    assert second.fresh
    assert second.header.images == first.header.images + 1
    assert str(tmp_path).encode() not in (second.folder / manifest.FILE).read_bytes()


def test_faults_of_class_folders_are_told_at_once(tmp_path: Path) -> None:
    lay_out({"a/1.jpg": b"", "loose.png": b"", "b/readme.txt": b""}, tmp_path / "mine")
    (tmp_path / "mine" / "c").mkdir()
    with pytest.raises(DataError, match=r"loose\.png.*'b', 'c'.*1 class folders"):
        prepare(f"folder:{tmp_path / 'mine'}", tmp_path / "root")
    with pytest.raises(DataError, match="no such folder"):
        prepare("folder:nowhere", tmp_path / "root")


def test_csv_of_own_images(tmp_path: Path) -> None:
    base = lay_out({f"img/{n}.jpg": picture(n) for n in range(6)}, tmp_path / "mine")
    outside = lay_out({"o.jpg": picture(50)}, tmp_path / "other") / "o.jpg"
    lines = ["path,label,note,part"] + [
        f"img/{n}.jpg,{(10, 9, 2)[n // 2]},x,train" for n in range(6)
    ]
    text = "\r\n".join([*lines, f"{outside},9,,test", ""])
    (base / "list.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    name = f"csv:{base / 'list.csv'}"
    prepare(name, tmp_path / "root")
    dataset = loaded(name, tmp_path / "root")
    assert list(dataset.class_names) == ["2", "9", "10"]
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert dataset.parts is not None
    assert sorted(dataset.parts) == ["test"] + ["train"] * 6
    assert [dataset.images.read(n).shape for n in range(7)] == [(8, 8, 3)] * 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label\na,b\n", "expected columns path,label"),
        ("path,label\n", "lists no image"),
        (
            "path,label\nx.jpg,a\n1.jpg,\n1.jpg,b\n,c\n",
            r"without a path.*without a label.*more than once.*no such file: '.*x\.jpg'",
        ),
        (
            "path,label,part\n1.jpg,a,train\n2.jpg,a,Val\n3.jpg,b,\n",
            r"no part, but others have one: '.*3\.jpg'",
        ),
        ("path,label,part\n1.jpg,a,tran\n", r"part 'tran'.*Did you mean 'train'"),
        ('path,label\n"1.jpg,a\n', "line"),
    ],
)
def test_faults_of_a_csv_are_told_at_once(tmp_path: Path, text: str, says: str) -> None:
    lay_out({f"{n}.jpg": picture(n) for n in (1, 2, 3)} | {"l.csv": text.encode()}, tmp_path)
    with pytest.raises(DataError, match=says):
        prepare(f"csv:{tmp_path / 'l.csv'}", tmp_path / "root")


def test_a_full_or_closed_disk_is_a_data_error(tmp_path: Path, monkeypatch) -> None:
    source = as_cub_tgz(tmp_path)
    (tmp_path / "root").write_text("a file")
    with pytest.raises(DataError, match="run the same command again"):
        prepare("cub200", tmp_path / "root", source, official=CUB)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("benchmark.intake.unpack.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"10 are free.*Make room"):
        unpack(source, tmp_path / "t")
