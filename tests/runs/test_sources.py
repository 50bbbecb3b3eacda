"""Which files are taken for photos, which are passed over, and what is said of it."""

import os
import shutil
import subprocess
from pathlib import Path

import fsspec
import pytest
from layouts import picture

from adaptclip_hf import image_files
from adaptclip_hf.cli import main
from adaptclip_hf.image_files import LINKED, NOT_READ, OURS, SYSTEM, TWICE, ImageFiles, find_images
from adaptclip_hf.own_files import PICTURES
from adaptclip_hf.passed_over import PassedOver
from adaptclip_hf.runs.folder_content import HEATMAP_FOLDER, MAP_FOLDER, SETTINGS_FILE
from adaptclip_hf.runs.sources import Source, Sources


class Told(PassedOver):
    """Keeps what is passed over: {name: reason}."""

    def __init__(self):
        super().__init__(lambda line: None)
        self.reasons = {}

    def __call__(self, name: str, reason: str):
        super().__call__(name, reason)
        self.reasons[Path(name).name] = reason


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


def make_store_folder(good: Path):
    """Photos as a network store keeps them."""
    for index in range(3):
        picture(good / f"{index}.jpg")
        for size in ("XL", "M", "SM"):
            picture(good / "@eaDir" / f"{index}.jpg" / f"SYNOPHOTO_THUMB_{size}.jpg")
        picture(good / ".AppleDouble" / f"{index}.jpg")
        picture(good / "#recycle" / f"{index}.jpg")
        (good / f"._{index}.jpg").write_bytes(b"resource fork")
    for folder in ("@Recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", ".@__thumb", "lost+found"):
        picture(good / folder / "x.jpg")
    picture(good / "SYNOPHOTO_THUMB_XL.jpg")
    (good / "Thumbs.db").write_bytes(b"thumbnails")


def test_thumbnails_and_waste_of_stores_are_no_photos(tmp_path):
    make_store_folder(tmp_path / "good")
    told = Told()
    assert names(find_images([tmp_path / "good"], passed_over=told)) == ["0.jpg", "1.jpg", "2.jpg"]
    stores = ("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found")
    assert all(told.reasons[name] == SYSTEM for name in (*stores, "Thumbs.db", "SYNOPHOTO_THUMB_XL.jpg"))
    assert told.counts["hidden"] == 5 and told.counts.total() == 14


@pytest.mark.parametrize("pattern", ["good/*", "good/**/*.jpg", "good/**", "**/*.jpg", "g*/*.jpg"])
def test_thumbnails_that_a_pattern_names_are_no_photos(pattern, tmp_path, monkeypatch):
    make_store_folder(tmp_path / "good")
    monkeypatch.chdir(tmp_path)
    expected = ["good/0.jpg", "good/1.jpg", "good/2.jpg"]
    assert list(map(str, find_images([pattern]))) == expected
    shell = [str(each) for each in sorted(Path("good").rglob("*")) if not each.name.startswith(".")]
    shell = [each for each in shell if ".AppleDouble" not in each and ".@__thumb" not in each]
    told = Told()
    assert list(map(str, find_images([each for each in shell if Path(each).is_file()], passed_over=told))) == expected
    assert told.counts == {SYSTEM: 3 * 3 + 3 + 5 + 1 + 1}


def test_stores_at_other_addresses_keep_thumbnails_too(tmp_path):
    make_store_folder(tmp_path / "good")
    picture(tmp_path / "out" / "heatmaps" / "0.png")
    (tmp_path / "out" / "detect.json").write_text("{}")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/line", recursive=True)
    told = Told()
    found = [each.path for each in Sources(addresses=("memory://line",), passed_over=told)]
    memory.rm("/line", recursive=True)
    assert names(found) == ["0.jpg", "1.jpg", "2.jpg"] and told.reasons["@eaDir"] == SYSTEM
    assert told.reasons["heatmaps"] == OURS


def test_whatever_is_passed_over_is_named_and_the_rest_goes_on(tmp_path, monkeypatch):
    line = tmp_path / "line"
    picture(line / "below" / "a.png")
    picture(tmp_path / "elsewhere" / "b.png")
    (line / "linked").symlink_to(tmp_path / "elsewhere")
    (line / "circle").symlink_to(line)
    (line / "loop.png").symlink_to("loop.png")
    (line / "loop").symlink_to("loop")
    (line / "gone.png").symlink_to("nowhere.png")
    (line / "c.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    os.mkfifo(line / "pipe.png")
    for name in ("d.HEIC", "e.cr2", "f.pdf", "g.ico", "notes.txt", "more.txt", "README"):
        (line / name).write_bytes(b"x")
    (line / "locked").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(image_files.os, "scandir", refuse)
    told = Told()
    assert names(find_images([line], passed_over=told)) == ["a.png", "c.png"]
    assert all(told.reasons[name] == NOT_READ for name in ("d.HEIC", "e.cr2", "f.pdf", "g.ico"))
    assert told.reasons["linked"] == told.reasons["circle"] == LINKED
    assert "Too many levels" in told.reasons["loop.png"] and "Too many levels" in told.reasons["loop"]
    assert told.reasons["gone.png"] == "links to nothing" and told.reasons["pipe.png"] == image_files.SPECIAL
    assert told.reasons["locked"] == "cannot be listed (Permission denied)"
    assert told.counts["no images (.txt)"] == 2 and told.counts["no images (no ending)"] == 1
    assert len(told.reasons) == 4 + 4 + 2 + 1 + 3
    assert names(ImageFiles([f"{line}/**/*.png"])) == ["a.png", "c.png"]  # and not forty times through the circle
    with pytest.raises(OSError, match="Permission denied"):
        find_images([line / "locked"])


@pytest.mark.parametrize("length", [1, 60])
def test_a_folder_nested_1500_deep(length, tmp_path):
    """With longer names its paths are longer than the system takes: what is beyond is named."""
    picture(tmp_path / "a.png")
    picture(tmp_path / "z" / "b.png")
    here = os.open(tmp_path, os.O_RDONLY)
    for level in range(1500):
        os.mkdir("d" * length, dir_fd=here)
        above, here = here, os.open("d" * length, os.O_RDONLY, dir_fd=here)
        os.close(above)
        if level in (5, 1499):
            os.close(os.open("c.png", os.O_CREAT, dir_fd=here))
    os.close(here)
    told = Told()
    try:
        found = names(find_images([tmp_path], passed_over=told))
        if length == 1:
            assert sorted(names(ImageFiles([f"{tmp_path}/**/*.png"]))) == sorted(found)
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / ("d" * length))], check=True)  # Python's own way recurses
    assert found == ["a.png", *["c.png"] * (2 if length == 1 else 1), "b.png"]
    assert dict(told.counts) == ({} if length == 1 else {"cannot be listed (File name too long)": 1})


def test_the_names_of_our_folders_are_those_that_are_written():
    assert PICTURES[HEATMAP_FOLDER] == PICTURES[MAP_FOLDER] == (SETTINGS_FILE,)


def test_pictures_of_ours_are_never_photos_wherever_they_lie(tmp_path, monkeypatch):
    good = tmp_path / "good"
    for index in range(3):
        picture(good / f"{index}.png")
        picture(good / "out" / "heatmaps" / f"{index}.png")
    picture(good / "results" / "plots" / "parts" / "a_curves.png")
    picture(good / "heatmaps" / "of a thermal camera.png")  # a folder of somebody else's
    (good / "out" / "detect.json").write_text("{}")
    (good / "results" / "prompts.json").write_text("{}")
    (good / "drawn.png").symlink_to("out/heatmaps/0.png")
    (tmp_path / "link").symlink_to(good / "out" / "heatmaps")
    expected = ["0.png", "1.png", "2.png", "of a thermal camera.png"]
    told = Told()
    assert names(find_images([good], passed_over=told)) == expected
    assert {name for name, reason in told.reasons.items() if reason == OURS} == {"heatmaps", "plots", "drawn.png"}
    assert (
        names(find_images([good, good / "out" / "heatmaps", *sorted((good / "out" / "heatmaps").iterdir())]))
        == expected
    )
    monkeypatch.chdir(good)
    for path in (
        "out/heatmaps",
        "../good/out/heatmaps",
        "../link",
        "out/heatmaps/../heatmaps/0.png",
        "results/plots/parts",
    ):
        with pytest.raises(ValueError, match="pictures that adaptclip drew"):
            find_images([path])
        with pytest.raises(ValueError, match="pictures that adaptclip drew"):
            list(Sources(addresses=(path,)))
    with pytest.raises(
        ValueError, match=r"holds no image file, 2 files and folders passed over \(.*pictures that adaptclip drew: 1"
    ):
        find_images(["out"])
    assert names(find_images(["o*/heatmaps/*.png", "0.png"])) == ["0.png"]
    (good / "list.txt").write_text("0.png\nout/heatmaps/0.png\n")
    assert [each.path for each in Sources(addresses=("list.txt",))] == ["0.png"]


def test_detect_in_the_folder_of_good_photos_and_then_fit(small_folder, photos, tmp_path, monkeypatch, capsys):
    good = tmp_path / "good"
    good.mkdir()
    for index, photo in enumerate((*photos["normal"], *photos["good"])):
        shutil.copy(photo, good / f"{index}.png")
    (good / "a.heic").write_bytes(b"x")
    monkeypatch.chdir(good)
    model = ["--model", str(small_folder)]
    for output in ("adaptclip-output", "."):
        assert main(["detect", ".", *model, "--output", output]) == 0
        captured = capsys.readouterr()
        assert (
            "6 images" in captured.out
            and "photos in a format that is not read (convert them to PNG or TIFF): 1" in captured.out
        )
        assert "passed over, photos in a format that is not read" in captured.err and "a.heic" in captured.err
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good / "heatmaps", good / "copied")  # no name tells what they are, their content does
    fit = [
        "fit",
        "--no-verdict",
        "--normal",
        "good",
        "good/../good",
        "--false-alarm-rate",
        "0.2",
        *model,
        "--output",
        "profile",
        "--quiet",
    ]
    assert main(fit) == 1
    captured = capsys.readouterr()
    assert "copied/0.png is a picture that adaptclip drew" in captured.out
    assert "pictures that adaptclip drew: good/heatmaps, good/adaptclip-output/heatmaps, " in captured.err
    assert "6 good photos in the bank" in captured.out
    shutil.copy("good/0.png", "defect.png")
    fit = [
        "fit",
        "--no-verdict",
        "--normal",
        "good/0.png",
        "good/1.png",
        "--defects",
        "defect.png",
        *model,
        "--output",
        "few",
    ]
    assert main(fit) == 1
    assert "good/0.png (a good part) and defect.png (a defect) hold the same bytes" in capsys.readouterr().err
    assert main(["detect", "good/heatmaps", *model]) == 1
    assert "pictures that adaptclip drew" in capsys.readouterr().err


def test_output_of_an_earlier_version_is_recognised(tmp_path):
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "v0_2" / "detect", tmp_path / "old")
    picture(tmp_path / "a.png")
    assert names(find_images([tmp_path])) == ["a.png"]


def test_a_file_under_several_names_is_one_photo(tmp_path, monkeypatch):
    picture(tmp_path / "day" / "a.png")
    os.link(tmp_path / "day" / "a.png", tmp_path / "day" / "b.png")
    (tmp_path / "day" / "c.png").symlink_to("a.png")
    monkeypatch.chdir(tmp_path)
    told = Told()
    assert names(find_images(["day", tmp_path / "day", "day/*.png"], passed_over=told)) == ["a.png"]
    assert told.counts == {TWICE: 8}


def test_what_is_passed_over_is_told_once_and_briefly():
    lines = []
    passed_over = PassedOver(lines.append)
    for index in range(9):
        passed_over(f"{index}.txt", "no images (.txt)")
    passed_over("a" * 5000, "hidden")
    passed_over.tell()
    passed_over.tell()
    assert lines[0] == "passed over, no images (.txt): 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more"
    assert len(lines) == 2 and len(lines[1]) < 250
    passed_over("new.txt", "no images (.txt)")
    passed_over.tell()
    assert lines[2] == "passed over, no images (.txt): new.txt"
    assert passed_over.describe() == "11 files and folders passed over (no images (.txt): 10; hidden: 1)"


LISTS = {
    "utf-16": ("a.png\nb.png\n".encode("utf-16"), "line 1: it is in UTF-16"),
    "utf-16 without mark": ("a.png\nb.png\n".encode("utf-16-le"), "line 1: it holds a NUL"),
    "latin-1": ("a.png\nprüfling.png\n".encode("latin-1"), "line 2: it is not in UTF-8"),
    "NUL": (b"a.png\nb\0.png\n", "line 2: it holds a NUL"),
    "itself": (b"a.png\nlist.KIND\n", "line 2: list.KIND is a list"),
    "empty": (b"", "names no image|holds no image|expected a column"),
    "blank": (b"\n \n", "holds no image|expected the path of an image"),
}


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_lists_that_are_refused(kind, case, tmp_path, monkeypatch):
    content, message = LISTS[case]
    monkeypatch.chdir(tmp_path)
    content = content.replace(b"KIND", kind.encode())
    if kind == "csv":
        encoding = case.split()[0] if "utf-16" in case else "utf-8"
        head = "path\n".encode({"utf-16 without mark": "utf-16-le"}.get(case, encoding)) if content else b""
        content = head + content if "without" in case or case != "utf-16" else "path\na.png\n".encode("utf-16")
        message = message.replace("line 2", "line 3") if case != "utf-16 without mark" else message
    Path(f"list.{kind}").write_bytes(content)
    with pytest.raises(ValueError, match=message.replace("KIND", kind)) as error:
        list(Sources(addresses=(f"list.{kind}",)))
    assert f"list.{kind}" in str(error.value) and len(str(error.value).splitlines()) == 1


def test_lists_as_programs_write_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "mark.txt": b"\xef\xbb\xbfa.png\r\nb c.png\r\n",
        "quotes.txt": b'"a.png"\n"b c.png"\n\n',
        "end.txt": b"a.png\n\nb c.png",
        "mark.csv": b"\xef\xbb\xbfpath,label\r\na.png,0\r\nb c.png,1\r\n",
        "quotes.csv": b'"n","path"\n1,"a.png"\n2,"b c.png"\n',
    }.items():
        Path(name).write_bytes(content)
        assert [each.path for each in Sources(addresses=(name,))] == ["a.png", "b c.png"], name
    Path("ours.csv").write_bytes(b"path,score\n'=1+1.png,0.5\n'a.png,0.1\n")  # the first cell is escaped by us
    assert [each.path for each in Sources(addresses=("ours.csv",))] == ["=1+1.png", "'a.png"]
    for name, content, message in (
        ("none.csv", b"a.png\nb.png\n", "expected a column `path`, found a.png"),
        ("missing.csv", b"label,path\n1,a.png\n0\n", "line 3: expected the path of an image"),
        ("list.parquet", b"no parquet", "list.parquet cannot be read as Parquet"),
    ):
        Path(name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            list(Sources(addresses=(name,)))


def test_a_list_is_refused_before_anything_is_scored(small_folder, photos, tmp_path, capsys):
    file = tmp_path / "list.txt"
    file.write_bytes(f"{photos['good'][0]}\nprüfling.png\n".encode("latin-1"))
    call = ["detect", "--input", str(file), "--model", str(small_folder), "--output", str(tmp_path / "out")]
    assert main(call) == 1
    assert f"{file}, line 2: it is not in UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.jsonl").exists() or not (tmp_path / "out" / "results.jsonl").read_bytes()


def test_paths_that_are_none_are_named_and_not_read(tmp_path):
    for path in ("a" * 5000, "a/" * 3000 + "b.png", "nul\0.png"):
        assert Source(path).stamp()[:2] == (None, None)
