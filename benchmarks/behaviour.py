"""What users get, as bytes: shows that a change of the code changes nothing else.

    python benchmarks/behaviour.py dump before                        the code that python imports, into a new folder
    PYTHONPATH=OTHER python benchmarks/behaviour.py dump after        the same of another checkout
    python benchmarks/behaviour.py compare before after               names what differs; exit status 1 if anything does

Everything runs on the embedded model with one thread, by the command line and by public names only, so that it runs on
code of before and after a change. Times, versions and the current folder are taken out. Takes two minutes.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}  # before torch is imported

import argparse
import base64
import contextlib
import hashlib
import io
import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# fields that are others in each run
VOLATILE = {"modified", "time", "seconds", "versions", "version", "written", "made"}
TEXT = {".txt", ".json", ".jsonl", ".csv", ".md", ".yml", ".html"}
# of a text: seconds, rates, dates, progress
MOVING = re.compile(
    r"\d+(\.\d+)? (s\b|images/s)|, \d+ ?% of it (waiting for files|in the image encoder)|\d{4}-\d\d-\d\d( \d\d:\d\d)?"
)
RING, GOOD = "images/ring/test", "images/ring/normal"


def dump(folder: Path):
    """Does everything in a folder of its own, and writes what came out, and `digests.json` of it."""
    import torch

    torch.set_num_threads(1)
    sys.modules["ray"] = None  # as where it is not installed
    folder, work = folder.absolute(), folder.absolute() / "work"
    work.mkdir(parents=True)
    os.chdir(work)
    make_inputs()
    for step in (fit, detect, bulk, use_pipeline, serve, evaluate, export, publish):
        step()
        print(step.__name__, flush=True)
    digests = {}
    for file in sorted(path for path in Path("out").rglob("*") if path.is_file() and path.name != ".lock"):
        name, content = kept(file.relative_to("out").as_posix(), file)
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    (folder / "digests.json").write_text(json.dumps(digests, indent=1))
    os.chdir(folder)
    shutil.rmtree(work)


def kept(name: str, file: Path) -> tuple[str, bytes]:
    """A file's name and content without what is another in each run."""
    if file.suffix == ".parquet":
        from pyarrow import parquet

        rows = parquet.read_table(file).to_pylist()
        if file.name.startswith("part-"):  # whose rows did not always have them
            rows = [{key: row[key] for key in row if key not in ("bytes", "path_bytes")} for row in rows]
        return f"{name}.json", as_json(rows)
    if file.suffix == ".safetensors":  # whose metadata come in any order
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        return name, json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]
    if file.suffix not in TEXT:
        return name, file.read_bytes()
    text = MOVING.sub("#", file.read_text(encoding="utf-8").replace(str(Path.cwd()), "."))
    if file.suffix == ".jsonl":
        return name, b"\n".join(as_json(json.loads(line), None) for line in text.splitlines())
    return name, as_json(json.loads(text)) if file.suffix == ".json" else text.encode()


def as_json(value, indent: int | None = 1) -> bytes:
    def clean(each):
        if isinstance(each, dict):
            return {name: clean(one) for name, one in each.items() if name not in VOLATILE}
        if isinstance(each, bytes):
            return hashlib.sha256(each).hexdigest()
        return [clean(one) for one in each] if isinstance(each, list | tuple) else each

    return json.dumps(clean(value), indent=indent).encode()


def make_inputs():
    """Photos of the examples and procedural ones, a broken file, a list of addresses and a mask."""
    from PIL import Image, ImageDraw

    from adaptclip_hf.synthetic import make_category, render_sample, write_dataset

    shutil.copytree(ROOT / "examples" / "images", "images")
    category = make_category(5, "metal ring")
    for part, count, first in (("good", 20, 0), ("line", 6, 100)):
        Path(part).mkdir()
        for index in range(count):
            defect = "stain" if part == "line" and index % 2 else False
            Image.fromarray(render_sample(category, first + index, 120, defect)[0]).save(f"{part}/{index:02}.png")
    shutil.copy("good/03.png", "line/known.png")
    Path("line/broken.png").write_bytes(b"no image")
    Path("list.txt").write_text("line/01.png\nline/02.png\nline/01.png\ngone.png\n")
    mask = Image.new("L", (120, 120), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 40, 40), 255)
    mask.save("mask.png")
    write_dataset("data", {"a": make_category(1), "b": make_category(2)}, size=112, train=4, good=3, bad=4)


def command(name: str, *words):
    """Runs a command; keeps what it prints, and its exit status."""
    from adaptclip_hf.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main([str(word) for word in words])
    Path("out").mkdir(exist_ok=True)
    Path("out", f"{name}.txt").write_text(f"{printed.getvalue()}status {status}\n", encoding="utf-8")


def fit():
    tiles = ["good/0*.png", "--false-alarm-rate", "0.2", "--tile", "80"]
    for name, words in {
        "profile": ["good", "--false-alarm-rate", "0.1"],
        "profile-tiles": [*tiles, "--object-name", "ring", "--storage", "int8"],
        "profile-same-place": [*tiles, "--same-place"],
    }.items():
        command(name, "fit", "--normal", *words, "--output", f"out/{name}", "--quiet")


def detect():
    formats = ["--format", "jsonl", "csv", "parquet", "coco", "label-studio"]
    for name, words in {
        "zero-shot": [RING, "--save-maps", "--threshold", "0.37", "--batch-size", "2", *formats],
        "few-shot": [RING, "--normal", GOOD, "--save-prompt-bank", "out/bank.safetensors", *formats],
        "bank": [RING, "--prompt-bank", "out/bank.safetensors", "--object-name", "ring", "--no-heatmaps"],
        "tiles": [RING, "--normal", GOOD, "--tile", "200", "--overlap", "0.3", "--no-heatmaps", "--save-maps"],
        "same-place": ["line", "--normal", "good/0*.png", "--tile", "80", "--same-place", "--no-heatmaps"],
        "mask": ["line", "--normal", "good", "--ignore", "mask.png", "--roi", 10, 10, 100, 90, "--save-maps"],
        "profile": ["line", "--profile", "out/profile", *formats],
        "profile-tiles": ["line", "--profile", "out/profile-tiles", "--batch-size", "3", "--no-heatmaps", *formats],
        "profile-rate": ["line", "--profile", "out/profile", "--false-discovery-rate", "0.3", *formats],
    }.items():
        command(f"detect-{name}", "detect", *words, "--output", f"out/detect-{name}")
    command("detect-again", "detect", "line", "--profile", "out/profile", "--output", "out/detect-profile")
    command("detect-report", "report", "out/detect-profile")


def bulk():
    for name, words in {
        "profile": ["line", "--input", "list.txt", RING, "--profile", "out/profile", "--save-maps"],
        "tiles": ["line", "--normal", "good/00.png", "--tile", "80", "--threshold", "0.37", "--batch-size", "3"],
    }.items():
        command(f"bulk-{name}", "detect", "--engine", "ray", *words, "--output", f"out/bulk-{name}", "--quiet")


def use_pipeline():
    from transformers import pipeline

    from adaptclip_hf import DEFAULT_MODEL, View

    pipe = pipeline("anomaly-detection", model=DEFAULT_MODEL, device="cpu")
    images, normal = (sorted(map(str, Path(folder).iterdir())) for folder in (RING, GOOD))
    for name, options in {
        "zero-shot": {"threshold": 0.37, "object_name": "ring"},
        "few-shot": {"normal_images": normal, "batch_size": 2},
        "profile": {"profile": "out/profile"},
        "tiles": {"normal_images": normal, "view": View(tile=200), "batch_size": 3},
    }.items():
        answers = [
            {**each, "anomaly_map": each["anomaly_map"].tobytes(), "heatmap": each["heatmap"].tobytes()}
            for each in pipe(images, **options)
        ]
        Path(f"out/pipeline-{name}.json").write_bytes(as_json(answers))


def serve():
    from starlette.testclient import TestClient

    from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector
    from adaptclip_hf.serving import app
    from adaptclip_hf.serving.products import Products

    detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL, device="cpu")
    profiles = {"ring": "out/profile", "tiles": "out/profile-tiles", "places": "out/profile-same-place"}
    answers, sent = {}, Path("line/01.png").read_bytes()
    settings_class = getattr(app, "ServiceSettings", None) or app.Settings  # its name before 0.3
    settings = settings_class(workers=1)
    for known in ({}, profiles):
        with TestClient(app.make_app(detector, Products(detector, known), settings)) as client:
            for product in known or (None,):
                fields = {"include": ["map", "overlay"]} | ({"product": product} if product else {})
                body = {"image": base64.b64encode(sent).decode(), **fields}
                answers[f"{product} form"] = client.post("/detect", files={"image": ("a.png", sent)}, data=fields)
                answers[f"{product} json"] = client.post("/detect", json=body)
    wrong = {"image": base64.b64encode(Path("images/ring/test/hole.jpg").read_bytes()).decode(), "product": "places"}
    with TestClient(app.make_app(detector, Products(detector, profiles), settings)) as client:
        answers["other size"] = client.post("/detect", json=wrong)
        answers["no image"] = client.post("/detect", files={"image": ("a.png", b"no image")}, data={"product": "ring"})
        answers["no product"] = client.post("/detect", files={"image": ("a.png", sent)})
        answers["products"], answers["health"] = client.get("/products"), client.get("/health")
    found = {name: [answer.status_code, answer.json()] for name, answer in answers.items()}
    Path("out/serve.json").write_text(json.dumps(found), encoding="utf-8")


def evaluate():
    words = ["--shots", "0", "2", "--seeds", "10", "--output", "out/evaluate", "--save-maps"]
    command("evaluate", "evaluate", "--data", "data", *words)


def export():
    command("export", "export", "--output", "export", "--profile", "out/profile", "--quiet")
    Path("out/export").mkdir()
    shutil.copy("export/adaptclip_export.json", "out/export")
    command("detect-export", "detect", RING, "--model", "export", "--no-heatmaps", "--output", "out/detect-export")


def publish():
    """What would go to the Hub, in place of sending it."""
    from types import SimpleNamespace

    import huggingface_hub

    from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPModel, InspectionProfile, PromptBank

    def commit(self, repo_id, operations, **options):
        folder = Path("out/hub", repo_id.replace("/", "-"))
        for operation in operations:
            content, file = operation.path_or_fileobj, folder / operation.path_in_repo
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else Path(content).read_bytes())
        (folder / "commit.json").write_text(json.dumps(options))
        return SimpleNamespace(commit_url=f"commit of {repo_id}")

    huggingface_hub.HfApi.create_commit = commit
    huggingface_hub.HfApi.create_repo = lambda self, repo_id, **_: SimpleNamespace(repo_id=repo_id)
    model = AdaptCLIPModel.from_pretrained(DEFAULT_MODEL)
    model.push_to_hub("me/complete")
    model.push_to_hub("me/remote-code", flavour="remote-code")
    model.push_to_hub("me/adapters", flavour="adapters", clip="me/clip", clip_revision="0" * 40)
    PromptBank.from_pretrained("out/bank.safetensors").push_to_hub("me/bank", normal_images=[f"{GOOD}/normal_0.jpg"])
    InspectionProfile.from_pretrained("out/profile").push_to_hub("me/profile")


def compare(before: Path, after: Path) -> int:
    """Prints what is in one alone or differs; how many."""
    there, now = (json.loads((folder / "digests.json").read_text()) for folder in (before, after))
    differing = [name for name in sorted(there.keys() | now.keys()) if there.get(name) != now.get(name)]
    for name in differing:
        kind = "differs" if name in there and name in now else f"only in {before if name in there else after}"
        print(f"{name}: {kind}")
    print(f"{len(differing)} of {len(there.keys() | now.keys())} files differ")
    return len(differing)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dump", "compare"))
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    sys.exit(bool(compare(*args.folders)) if args.what == "compare" else dump(*args.folders))
