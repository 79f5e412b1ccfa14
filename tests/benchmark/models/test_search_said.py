"""What a search says: of its gallery's model, of what it printed, and what to type next."""

import shlex
import shutil

from benchmark.cli import main


def test_the_command_that_searches_can_be_pasted(exported, photos, tmp_path, capsys):
    one, gallery = next(photos.rglob("*.png")), tmp_path / "it's a gallery"
    assert main(["index", str(exported(".safetensors")), str(one), "--to", str(gallery)]) == 0
    words = capsys.readouterr().out.partition("python -m benchmark ")[2]
    assert shlex.split(words) == ["search", str(gallery), "IMAGES"]


def test_of_a_model_that_was_moved_its_option_is_said(
    exported, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    for end in ("", ".json"):
        made = exported(".safetensors")
        shutil.copy(made.with_name(made.name + end), tmp_path / "old" / f"winner.safetensors{end}")
    one = str(next(photos.rglob("*.png")))
    assert main(["index", "old/winner.safetensors", one, "--to", "gallery"]) == 0
    (tmp_path / "old").rename(tmp_path / "new")
    capsys.readouterr()
    assert main(["search", "gallery", one]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/old/winner.safetensors" in said
    assert "say where it is now: --model FILE" in said
    assert "JSON" not in said
    assert main(["search", "gallery", one, "--model", "new/winner.safetensors"]) == 0
    assert main(["search", "gallery", one, "--model", "old/winner.safetensors"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_mistyped_model_is_not_told_of_its_description(photos, capsys):
    assert main(["embed", "nothing.onnx", str(photos), "--to", "nothing.npy"]) == 2
    said = capsys.readouterr().err
    assert "model nothing.onnx: it does not exist. Give a file made by export" in said
    assert "JSON" not in said


def test_it_says_how_many_answers_are_printed(exported, photos, tmp_path, capsys):
    images = sorted(photos.rglob("*.png"))
    words = ["index", str(exported(".safetensors")), str(photos), "--to", str(tmp_path / "g")]
    assert main(words) == 0
    capsys.readouterr()
    asked = ["search", str(tmp_path / "g"), *map(str, images[:2]), "--to", str(tmp_path / "a")]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "the first 5 of 10 answers each; all are in answers.csv" in printed
    assert printed.count("\n   5 ") == 2
    assert main([*asked, "--top", "5"]) == 0
    assert "the first 5" not in capsys.readouterr().out
