"""Model folders, profiles, exports, results and lists that are no longer what they were: made from the fixtures of an
earlier version, which hold no digest that would refuse them before anything is read."""

import json
import random
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

from hostile_images import mutated

FIXTURE = Path(__file__).resolve().parent / "fixtures" / "v0_2"
KINDS = ("models", "profiles", "exports", "results", "lists")
DEEP = "@deep@"  # becomes brackets within brackets, which no parser of JSON writes
HUGE = "@huge@"  # becomes a number that no float holds

# whatever imports `canary` or loads the library `canary.so` leaves a file `RAN` in the current folder
MODULE, LIBRARY, RAN = "canary.py", "canary.so", "canary-ran"
SOURCE = f"""
#include <stdio.h>
__attribute__((constructor)) static void ran(void) {{ FILE *file = fopen("{RAN}", "w"); if (file) fclose(file); }}
"""


def set_canaries(folder: Path):
    """A module, a library (where there is a compiler) and a program `gs` that tell if they are ever run."""
    (folder / MODULE).write_text(f"open({RAN!r}, 'w')\nclass X: pass\n")
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {RAN}\n")
    (folder / "gs").chmod(0o755)
    if shutil.which("cc"):
        (folder / "canary.c").write_text(SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", LIBRARY, "canary.c"], cwd=folder, check=True)


CODE = (
    {"__enum__": True, "fqn": "canary:X", "name": "X"},
    {"__enum__": True, "fqn": "ctypes:cdll", "name": f"./{LIBRARY}"},
    {"__class__": "canary.X"},
    "canary:X",
    "canary.X",
    f"./{LIBRARY}",
    {"AutoConfig": "canary.X", "AutoModel": "canary.X", "AutoProcessor": "canary.X", "AutoTokenizer": "canary.X"},
    {"quant_method": "canary"},
    "kernels-community/canary:X",
)
VALUES = (
    *CODE, None, True, False, 0, -1, 1, 3, 10**12, -(10**12), 2**63, 0.5, -0.5, float("nan"), float("inf"), HUGE, DEEP,
    "", "x", "0.5", "é\ud800", "a" * 5000, "../../victim.txt", "/etc/passwd", "http://127.0.0.1:9/x", "file:///etc/passwd",
    [], [0], [[]], [None], ["x"] * 3, {}, {"x": 1}, {"": {}},
)  # fmt: skip
# fields that name code where other programs write them
NAMES = (
    "auto_map", "_attn_implementation", "attn_implementation", "custom_pipelines", "quantization_config",
    "architectures",
    "tokenizer_class", "processor_class", "image_processor_type", "model_type", "transformers_version",
    "trust_remote_code",
    "torch_dtype", "dtype", "plugins", "adapter_variants", "extra",
)  # fmt: skip


def mutated_json(content, chance: random.Random) -> bytes:
    """A JSON file with one to three values replaced, removed or added."""
    content = json.loads(json.dumps(content))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not isinstance(content, dict | list):
            break
        place = somewhere(content, chance)
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        way = chance.randrange(8)
        if way == 0 and keys:
            del place[chance.choice(keys)]
        elif way == 1 and isinstance(place, dict):
            place[chance.choice(NAMES)] = deepcopy(chance.choice(VALUES))
        elif keys:
            place[chance.choice(keys)] = deepcopy(chance.choice(VALUES))
    text = json.dumps(content).replace(json.dumps(DEEP), "[" * 20_000 + "]" * 20_000).replace(json.dumps(HUGE), "1e999")
    return text.encode(errors="surrogatepass")


def somewhere(content: dict | list, chance: random.Random) -> dict | list:
    """An object or list of a JSON value: itself, or more and more seldom one that lies deeper."""
    inner = [each for each in (content.values() if isinstance(content, dict) else content) if each]
    inner = [each for each in inner if isinstance(each, dict | list)]
    return somewhere(chance.choice(inner), chance) if inner and chance.random() < 0.6 else content


def hostile_file(file: Path, chance: random.Random):
    """Changes a file: most JSON files by their values, others and some of these by their bytes."""
    content = file.read_bytes()
    if file.suffix == ".json" and chance.random() < 0.85:
        file.write_bytes(mutated_json(json.loads(content), chance))
    elif file.suffix == ".jsonl" and chance.random() < 0.85:
        lines = content.splitlines()
        place = chance.randrange(len(lines) - 1)  # the last one was cut off by a kill
        lines[place] = mutated_json(json.loads(lines[place]), chance)
        file.write_bytes(b"\n".join(lines) + b"\n")
    elif file.suffix in (".txt", ".csv") and chance.random() < 0.5:
        ways = (b"\xef\xbb\xbf" + content, content.decode().encode("utf-16"), content.replace(b"a", b"\xe4"))
        file.write_bytes(chance.choice((*ways, content.replace(b"\n", b"\r\n"), content.replace(b"1", b"nan"))))
    else:
        file.write_bytes(mutated(content, chance))


def make_items(kind: str, count: int, folder: Path):
    """Folders `folder/000`, ... of a kind, each with one file that was changed; the same ones in every run."""
    chance = random.Random(f"{kind} 27")
    for number in range(count):
        item = folder / f"{number:03}"
        FILES[kind](item, chance)


def copied(name: str):
    """Makes an item of a folder of the fixture; JSON files, which say how the rest is read, are changed most often."""

    def make(item: Path, chance: random.Random):
        shutil.copytree(FIXTURE / name, item)
        files = sorted(file for file in item.iterdir() if file.is_file() and file.suffix != ".py")
        weights = [4 if file.suffix in (".json", ".jsonl") else 1 for file in files]
        hostile_file(*chance.choices(files, weights), chance)

    return make


def make_results(item: Path, chance: random.Random):
    """A folder of lines, or of Parquet parts."""
    copied(chance.choice(("detect", "detect", "detect", "bulk")))(item, chance)


def make_list(item: Path, chance: random.Random):
    """A list of images, a data set with a `meta.json`, or maps with their scores."""
    images = FIXTURE.resolve() / "images"
    item.mkdir(parents=True)
    way = chance.randrange(4)
    if way == 0:
        file = item / "list.txt"
        file.write_text(f"{images}/a/0.png\n{images}/a/1.png\n")
    elif way == 1:
        file = item / "list.csv"
        file.write_text(f"path,part\n{images}/a/0.png,1\n{images}/a/1.png,2\n")
    elif way == 2:
        shutil.copytree(images, item / "images")
        row = {"cls_name": "a", "anomaly": 0, "specie_name": "good", "mask_path": "", "img_path": "images/a/0.png"}
        bad = row | {"anomaly": 1, "specie_name": "crack", "img_path": "images/a/1.png"}
        file = item / "meta.json"
        file.write_text(json.dumps({"train": {"a": [row]}, "test": {"a": [row, bad]}}))
    else:
        shutil.copytree(FIXTURE / "detect" / "maps", item / "maps")
        file = item / "maps" / "scores.csv"
        file.write_text("data_set,category,image,score\nx,a,images/a/0.png,0.1\nx,a,images/a/1.png,0.2\n")
    hostile_file(file, chance)


FILES = {
    "models": copied("model"),
    "profiles": copied("profile"),
    "exports": copied("export"),
    "results": make_results,
    "lists": make_list,
}
