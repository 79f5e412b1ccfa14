"""Which images a model is shown."""

from PIL import Image

from benchmark.models.images import gather


def test_what_programs_leave_beside_pictures_is_not_embedded(tmp_path):
    for name in ("a/1.png", "a/@eaDir/1.png", "@eaDir/2.png", "__MACOSX/3.png", ".git/4.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    assert [item.path for item in gather([tmp_path])] == [tmp_path / "a" / "1.png"]
