"""A profile's life: what its digest covers, one step back, who changed it, decisions of a review, golden photos."""

import io
import json
import shutil
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf import InspectionProfile, View
from adaptclip_hf.cli import main
from adaptclip_hf.demo.session import profile_members
from adaptclip_hf.inspection import Acceptance, profile_files
from adaptclip_hf.inspection.calibration import Calibration
from adaptclip_hf.inspection.decisions_file import Decisions
from adaptclip_hf.inspection.history import Change
from adaptclip_hf.modeling.prompt_bank import PromptBank
from adaptclip_hf.reporting import in_red
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def fitted(detector, good, small_folder) -> InspectionProfile:
    options = {"augment": "none", "verdict": False, "model": str(small_folder), "by": "anna"}
    return InspectionProfile.fit(detector, good[:12], 0.1, **options)


@pytest.fixture
def folder(fitted, tmp_path) -> Path:
    return fitted.save_pretrained(tmp_path / "profile")


@pytest.fixture(scope="module")
def updated(fitted, detector, good) -> InspectionProfile:
    return fitted.update(detector, confirmed=[good[20]], drop=[Path(good[3]).name], by="bert")


def opened(folder: Path) -> InspectionProfile:
    return InspectionProfile.from_pretrained(folder)


DECIDES_NOTHING = {"moved", "model", "settings", "method", "bank_rows", "pasted", "history"}  # beside what they made


def test_profiles_that_decide_differently_have_different_digests(fitted, detector, good):
    variation = PromptBank.with_variation(fitted.prompt_bank).variation
    other_photos = fitted.features.keep([*fitted.features.photos[1:]])
    changes = {
        "made_by": fitted.made_by | {"weights": "0" * 64},
        "view": View(ignore=np.eye(90, dtype=bool)),
        "features": other_photos,
        "calibration": Calibration(fitted.calibration.scores, fitted.calibration.threshold + 0.001),
        "pixel_threshold": fitted.pixel_threshold + 0.001,
        "variation": variation,
        "variations": (variation,),
        "acceptance": Acceptance(min_area=40, usual=(0.5,)),
        "inspectable": replace(fitted.inspectable, light=fitted.inspectable.light - 1),
    }
    assert {each.name for each in fields(fitted)} == changes.keys() | DECIDES_NOTHING  # a new field belongs to one
    seen = {fitted.digest()}
    for name, value in changes.items():
        more = {"bank_rows": tuple(range(11))} if name == "features" else {}
        seen.add(replace(fitted, **{name: value}, **more).digest())
    assert len(seen) == len(changes) + 1
    assert replace(fitted, history=()).digest() == fitted.digest()


def test_a_bank_with_a_variation_is_another_bank(fitted):
    bank = replace(fitted.prompt_bank, variation=None)
    knowing = bank.with_variation()
    assert knowing != bank and knowing.digest() != bank.digest()
    assert knowing == bank.with_variation() and knowing.digest() == bank.with_variation().digest()


def test_one_step_back_and_forth(fitted, updated, folder):
    assert not (folder / "earlier").exists()
    with pytest.raises(FileNotFoundError, match="keeps no earlier profile"):
        InspectionProfile.go_back(folder)
    updated.save_pretrained(folder)
    [kept] = (folder / "earlier").iterdir()
    assert opened(kept).digest() == fitted.digest()  # a profile's folder of its own
    assert InspectionProfile.go_back(folder, "carl").digest() == fitted.digest() == opened(folder).digest()
    assert len(list((folder / "earlier").iterdir())) == len(list(folder.glob("*.safetensors"))) == 1
    assert InspectionProfile.go_back(folder).digest() == updated.digest() == opened(folder).digest()
    assert [(each.what, each.by) for each in opened(folder).history] == [
        *(("fitted", "anna"), ("updated", "bert"), ("went back", "carl"), ("went back", None))
    ]
    digests = [(each.before, each.after) for each in opened(folder).history]
    assert [before for before, _ in digests[1:]] == [after for _, after in digests[:-1]]


def test_what_is_saved_again_as_it_was_replaces_nothing(updated, folder):
    updated.save_pretrained(folder)
    [kept] = (folder / "earlier").iterdir()
    opened(folder).save_pretrained(folder)
    assert [kept] == list((folder / "earlier").iterdir())


@pytest.mark.parametrize("number", range(6))
def test_a_kill_leaves_the_older_profile_or_the_new_one_each_with_its_earlier_one(
    number, fitted, updated, detector, folder, monkeypatch
):
    updated.save_pretrained(folder)
    third = replace(updated, pixel_threshold=updated.pixel_threshold).changed("updated", "dora", updated)
    third = replace(third, calibration=Calibration(third.calibration.scores, third.calibration.threshold + 1e-3))
    left = [number]

    def killed(do):
        def step(*args, **options):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return do(*args, **options)

        return step

    for name in ("write_whole", "write_json", "whole_file"):
        monkeypatch.setattr(profile_files, name, killed(getattr(profile_files, name)))
    monkeypatch.setattr(profile_files.shutil, "rmtree", killed(shutil.rmtree))
    with suppress(KeyboardInterrupt):
        third.save_pretrained(folder)
    monkeypatch.undo()
    now = opened(folder).digest()
    assert now == updated.digest() if number < 4 else third.digest()
    before = {updated.digest(): fitted.digest(), third.digest(): updated.digest()}
    assert InspectionProfile.go_back(folder).digest() == before[now]


def test_an_earlier_folder_that_leads_out_is_refused(updated, folder, tmp_path):
    (tmp_path / "elsewhere" / ("a" * 16)).mkdir(parents=True)
    (folder / "earlier").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of"):
        updated.save_pretrained(folder)
    assert (tmp_path / "elsewhere" / ("a" * 16)).is_dir()


def test_an_archive_with_the_earlier_profile_holds_one_profile(updated, folder):
    import zipfile

    updated.save_pretrained(folder)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in filter(Path.is_file, folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    with zipfile.ZipFile(packed) as archive:
        members = profile_members(archive)
        assert json.loads(archive.read(members["profile.json"]))["threshold"] == updated.calibration.threshold


def test_a_history_that_is_none_is_refused(folder):
    content = json.loads((folder / "profile.json").read_text())
    content["history"][0]["time"] = "yesterday"
    (folder / "profile.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"history\.0\.time"):
        opened(folder)


def test_who_did_what_is_shown(updated, folder, capsys):
    updated.save_pretrained(folder)
    assert main(["fit", "--show", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "fitted by anna" in said and "updated by bert: 1 confirmed as good (20.png), 1 dropped (03.png)" in said
    assert main(["fit", "--undo", str(folder), "--by", "carl"]) == 0
    assert main(["fit", "--show", str(folder)]) == 0
    assert "went back by carl" in capsys.readouterr().out


def test_a_photo_is_dropped_by_its_file_name_where_one_has_it(fitted, detector, good):
    name = Path(good[5]).name
    with pytest.raises(ValueError, match=f"no photo 0{name}; near it: .*{name}"):
        fitted.update(detector, drop=["0" + name])
    photos = fitted.features.photos
    twice = (replace(photos[0], name=f"/other/{name}"), *photos[1:])
    doubled = replace(fitted, features=replace(fitted.features, photos=twice))
    with pytest.raises(ValueError, match=f"has 2 photos {name}: name one of .*, /other/{name}|/other/{name}, .*{name}"):
        doubled.update(detector, drop=[name])
    dropped = doubled.update(detector, drop=[f"other/{name}"])
    assert photos[0].digest not in {photo.digest for photo in dropped.features.photos}


def decisions_file(file: Path, digest: str | None, *decisions: dict, **other) -> Path:
    told = {"reviewer": "eva", "time": "2026-11-27T08:00:00.000Z", "chosen": "worst-first"}
    content = {"format": "adaptclip-decisions", "version": 1, "profile": digest}
    content |= {"decisions": [told | each for each in decisions]} | other
    file.write_text(json.dumps(content))
    return file


def test_decisions_of_a_review_make_the_profile_of_tomorrow(fitted, folder, good, tmp_path, capsys):
    shutil.copy(good[20], tmp_path / "beside.png")
    file = decisions_file(
        tmp_path / "decisions.json",
        fitted.digest(),
        {"path": "beside.png", "verdict": "defect"},
        {"path": "beside.png", "verdict": "good part", "time": "2026-11-27T09:00:00.000Z"},  # the latest counts
        {"path": good[21], "verdict": "defect", "reviewer": None},
        {"path": "gone.png", "verdict": "defect"},
    )
    call = ["fit", "--update", str(folder), "--decisions", str(file), "--quiet", "--by", "anna"]
    assert main(call) == 1  # a photo is gone
    said = capsys.readouterr().out
    assert "left out, it is gone: gone.png" in said and "updated by anna: 1 confirmed as good" in said
    profile = opened(folder)
    roles = {Path(photo.name).name: photo.role for photo in profile.features.photos}
    assert roles["beside.png"] == "confirmed" and roles[Path(good[21]).name] == "defect"
    reviewed = {Path(each.name).name: (each.reviewer, each.reviewed) for each in profile.history[-1].photos}
    assert reviewed["beside.png"] == ("eva", "2026-11-27T09:00:00.000Z")
    assert main(call) == 1  # decisions on the profile before: they are told, and taken
    assert "its decisions are of this profile before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"profile": "0" * 64}, "profile: its decisions are on results of another profile (000000000000"),
        ({"format": "coco"}, "format: "),
        ({"version": 2}, "version: "),
        ({"strange": 1}, "strange: "),
        ({"decisions": []}, "it holds no decision"),
        ({"decisions": [{"path": "a.png"}]}, "decisions.0.verdict: "),
        ({"decisions": [{"path": "a.png", "verdict": "maybe"}]}, "decisions.0.verdict: "),
    ],
)
def test_decisions_that_cannot_be_taken_are_refused_in_a_line(change, said, fitted, folder, tmp_path, capsys):
    file = decisions_file(tmp_path / "d.json", fitted.digest(), {"path": "a.png", "verdict": "defect"}, **change)
    before = (folder / "profile.json").read_bytes()
    assert main(["fit", "--update", str(folder), "--decisions", str(file), "--quiet"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"adaptclip: {file}") and said in line
    assert (folder / "profile.json").read_bytes() == before


def test_golden_photos_are_checked_again(fitted, updated, detector, folder, good, tmp_path, capsys):
    category = make_category(5, "metal ring")
    golden = tmp_path / "golden"
    for name in ("good", "bad"):
        (golden / name).mkdir(parents=True)
    for index in range(40, 44):
        Image.fromarray(render_sample(category, index, 90, defect=False)[0]).save(golden / f"{index}.png")
        [result] = detector.detect(str(golden / f"{index}.png"), profile=fitted)
        place = "good" if result.label == "normal" else "bad"
        (golden / f"{index}.png").rename(golden / place / f"{index}.png")
    assert main(["check", str(folder), str(golden), "--quiet", "--by", "anna"]) == 0
    assert "4 golden photos: 4 as expected" in capsys.readouterr().out
    strict = replace(fitted, calibration=Calibration(fitted.calibration.scores, 0.0)).changed("updated", "bert", fitted)
    strict.save_pretrained(folder)
    [kind, *_] = [each for each in ("good", "bad") if list((golden / each).iterdir())]
    wrong = len(list((golden / "good").iterdir()))
    assert main(["check", str(folder), str(golden), "--quiet"]) == (1 if wrong else 0)
    said = capsys.readouterr().out
    assert said.count("expected normal; normal (") == wrong and f"4 golden photos: {4 - wrong} as expected" in said
    moved = next((golden / kind).iterdir())
    moved.unlink()  # a golden photo that vanished is told
    assert main(["check", str(folder), str(golden), "--quiet"]) == 1
    assert f"{kind}/{moved.name}: it is gone" in capsys.readouterr().out
    assert len((folder / "checks.jsonl").read_text().splitlines()) == 3
    assert main(["fit", "--show", str(folder)]) == 0 and "last check:" in capsys.readouterr().out


def test_golden_photos_that_prove_nothing(folder, good, tmp_path, capsys):
    listed = tmp_path / "golden.csv"
    listed.write_text(f"path,label\n{good[0]},ok\n{tmp_path / 'gone.png'},ng\n")
    assert main(["check", str(folder), str(listed), "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "is one of the profile's own photos" in said and "2 golden photos: 0 as expected, 2 not" in said
    listed.write_text(f"path,label\n{good[0]},sideways\n")
    assert main(["check", str(folder), str(listed)]) == 1
    assert f"{listed}, line 2: expected a path and a label" in capsys.readouterr().err
    (tmp_path / "parts").mkdir()
    shutil.copy(good[0], tmp_path / "parts" / "a.png")
    assert main(["check", str(folder), str(tmp_path / "parts")]) == 1
    assert "no folder above it says good or bad" in capsys.readouterr().err


def test_a_threshold_by_defects_that_costs_most_good_parts_warns(fitted, detector, good):
    scores = np.sort([photo.score for photo in fitted.features.photos])
    found = fitted.update(detector, defects=[good[21], good[22]], choice="f1")
    low = replace(found, calibration=Calibration(scores, float(scores[1])))
    assert low.warning.startswith("WARNING: at this threshold about 84.6 % of good parts are false alarms")
    assert low.warning in low.describe() and "of 2 known defects are found; without --choose" in low.warning
    assert fitted.warning is None


def test_red_is_for_terminals_that_show_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert in_red("no", Terminal()) == "\x1b[31mno\x1b[0m" and in_red("no", io.StringIO()) == "no"
    monkeypatch.setenv("NO_COLOR", "1")
    assert in_red("no", Terminal()) == "no"


def test_changes_are_values(updated):
    change = updated.history[-1]
    assert Change.of(json.loads(json.dumps(change.model_dump()))) == change


def test_of_two_decisions_on_a_photo_the_later_counts_however_it_is_named(good, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(good[20]).parent)
    name = Path(good[20]).name
    names = [name, f"../{Path.cwd().name}/{name}", good[20]]
    decided = [
        decision(each, "defect" if each == names[-1] else "good part", f"2026-01-0{day}T00:00:00Z")
        for day, each in enumerate(names, start=1)
    ]
    found, _ = Decisions.read(decisions_file(tmp_path / "decisions.json", None, *decided))
    assert (found.confirmed, found.defects) == ([], [names[-1]])


def test_decisions_that_contradict_the_command_are_refused(folder, good, tmp_path, capsys):
    file = decisions_file(tmp_path / "a.json", None, decision(good[20], "good part", "2026-01-01T00:00:00Z"))
    words = ["fit", "--update", folder, "--decisions", file, "--defects", good[20], "--quiet"]
    assert main(list(map(str, words))) == 1
    assert "judges it otherwise than --defects" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_no_zone_can_show_is_refused(good, tmp_path, time):
    with pytest.raises(ValueError, match=r"decisions.0.time: expected a time between"):
        Decisions.read(decisions_file(tmp_path / "a.json", None, decision(good[20], "defect", time)))


def decision(path: str, verdict: str, time: str) -> dict:
    return {"path": path, "verdict": verdict, "time": time}
