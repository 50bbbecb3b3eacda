"""Cards: what they say is what was recorded and measured, their metadata holds, their lines run."""

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import datasets
import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPModel, AdaptCLIPProcessor, PromptBank
from adaptclip_hf.cli import main
from adaptclip_hf.data import load_data_set
from adaptclip_hf.evaluation.published import published_results
from adaptclip_hf.hub.cards import (
    check_card,
    data_set_card,
    model_card,
    prompt_bank_card,
    released_card,
)
from adaptclip_hf.hub.model_folders import save_model_folder
from adaptclip_hf.hub.staging import stage_model_folder
from adaptclip_hf.hub.thumbnails import thumbnail_sheet
from adaptclip_hf.synthetic import write_dataset

CARDS = Path(__file__).resolve().parents[2] / "hub_cards"
RELEASED = {"mvtec": "MVTec", "visa": "VisA"}
# of the Hub's list of tasks; library and data fields of it that our cards use
MODEL_FIELDS = {"license", "library_name", "tags", "base_model", "datasets", "model-index"}
DATA_FIELDS = {"license", "pretty_name", "task_categories", "tags", "size_categories"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run as a user has it: trained on procedural parts, then evaluated on others."""
    folder = tmp_path_factory.mktemp("trained")
    parts = write_dataset(folder / "parts", 2, size=96, train=2, good=2, bad=4)
    others = write_dataset(folder / "others", 1, size=96, train=4, good=2, bad=2)
    train = ["train", "--data", str(parts), "--output", str(folder / "model"), "--feature-cache", str(folder / "cache")]
    assert main([*train, "--num-train-epochs", "1", "--use-cpu", "--image-size", "84"]) == 0
    evaluate = [
        "evaluate",
        "--model",
        str(folder / "model"),
        "--data",
        str(others),
        "--output",
        str(folder / "results"),
    ]
    assert main([*evaluate, "--shots", "0", "1", "--seeds", "10", "20", "--quiet", "--device", "cpu"]) == 0
    return folder


@pytest.fixture
def workplace(photos, tmp_path, monkeypatch) -> Path:
    """The folder in which a card's lines run; `me/x` of a card is a folder in it."""
    monkeypatch.chdir(tmp_path)
    for name, photo in (("part", "bad"), ("good_1", "normal"), ("good_2", "normal")):
        shutil.copy(photos[photo][0], tmp_path / f"{name}.png")
    return tmp_path


def metadata(card: str) -> dict:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def assert_renders(card: str):
    """Nothing of the template is left over, and tables are tables: after a blank line, as many cells in every row."""
    assert "{{" not in card and "{%" not in card and "\n\n\n" not in card and "None" not in card
    body = card.split("---\n", 2)[2].splitlines()
    for above, line in pairwise(body):
        if line.startswith("|"):
            assert above == "" or (above.startswith("|") and above.count("|") == line.count("|")), line


def run_lines(card: str) -> int:
    """Runs every block of code of a card; gives how many there were."""
    assert_renders(card)
    blocks = re.findall(r"```(\w*)\n(.*?)```", card, re.DOTALL)
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "card", "exec"), {})
        else:
            for line in block.strip().splitlines():
                words = shlex.split(line)
                assert words[0] == "adaptclip" and main(words[1:]) == 0, line
    return len(blocks)


def test_a_trained_models_card_says_what_was_done_and_measured(trained, workplace):
    folder = shutil.copytree(trained / "model", workplace / "me" / "model")
    results = trained / "results" / "results.json"
    assert main(["card", str(folder), "me/model", "--results", str(results), "--license", "mit"]) == 0
    card = (folder / "README.md").read_text()
    record, measured = json.loads((folder / "training.json").read_text()), json.loads(results.read_text())
    assert f"{record['images']} images ({record['anomalous']} anomalous) of parts" in card
    for name in record["categories"]:
        assert name in card
    assert str(trained) not in card and "/tmp" not in card
    data = metadata(card)
    assert (
        set(data) <= MODEL_FIELDS
        and "pipeline_tag" not in data
        and data["license"] == "mit"
        and data["library_name"] == "transformers"
    )
    index = {
        (each.dataset_config, each.metric_name.partition(",")[0]): each.metric_value
        for each in model_index_to_eval_results(data["model-index"])[1]
    }
    for line in measured["summary"]:
        if line["category"] is None and line["metric"] == "pixel_auroc":
            assert index[f"{line['shots']}-shot", "Pixel AUROC"] == round(100 * line["mean"], 1)
            assert f"{100 * line['mean']:.1f}" in card
    seen = set(record["categories"]) & {each["category"] for each in measured["results"]}
    assert seen and f"It was trained on some of what is measured here ({', '.join(sorted(seen))})" in card
    assert "Not evaluated yet" not in card and "| others, 1-shot |" in card
    assert run_lines(card) == 2 and (workplace / "heatmap.png").is_file()


def test_another_models_figures_are_refused(trained, small_folder, tmp_path):
    with pytest.raises(ValueError, match="measured on other weights"):
        model_card(small_folder, "me/model", trained / "results" / "results.json")
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"results.json is not the results.json of `adaptclip evaluate`"):
        model_card(small_folder, "me/model", tmp_path / "results.json")


def test_nothing_recorded_nothing_claimed(small_folder, workplace, capsys):
    folder = shutil.copytree(small_folder, workplace / "me" / "model")
    card = model_card(folder, "me/model")
    assert "no record of how the adapters were trained" in card and "no figure is claimed" in card
    assert not {"license", "datasets", "base_model", "model-index"} & set(metadata(card))
    assert run_lines(card) == 2
    (folder / "README.md").write_text("mine")
    assert main(["card", str(folder), "me/model"]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main(["push", str(folder), "me/model", "--dry-run", "--results", "results.json"]) == 1
    assert "exists already, and results go only into a new card" in capsys.readouterr().err
    assert main(["push", str(folder), "me/model"]) == 1
    assert "has no metadata" in capsys.readouterr().err and (folder / "README.md").read_text() == "mine"


def test_another_flavour_gets_a_card_of_its_own(workplace):
    staged = {file.name: file for file in stage_model_folder(Path(DEFAULT_MODEL), workplace, "me/tiny", "remote-code")}
    assert 'model="me/tiny", trust_remote_code=True' in staged["README.md"].read_text()
    (workplace / "same").mkdir()
    staged = {file.name: file for file in stage_model_folder(Path(DEFAULT_MODEL), workplace / "same", "me/tiny")}
    assert staged["README.md"].read_bytes() == (Path(DEFAULT_MODEL) / "README.md").read_bytes()
    assert not list((workplace / "same").iterdir())  # nothing is copied or linked


@pytest.mark.parametrize("flavour", ["adapters", "remote-code"])
def test_the_lines_of_every_flavours_card_run(flavour, small_folder, clip_folder, workplace):
    parts = AdaptCLIPModel.from_pretrained(small_folder), AdaptCLIPProcessor.from_pretrained(small_folder)
    folder = workplace / "me" / "model"
    save_model_folder(*parts, folder, flavour, str(clip_folder) if flavour == "adapters" else None)
    assert run_lines(model_card(folder, "me/model")) == {"adapters": 2, "remote-code": 1}[flavour]


@pytest.mark.parametrize("name", RELEASED)
def test_finished_cards_of_the_released_models(name, small_folder, workplace):
    title = f"adaptclip-vit-large-patch14-336-{name}"
    card = (CARDS / f"{title}.md").read_text()
    assert card == released_card(RELEASED[name], title), "write it anew with released_card"
    check_card(CARDS / f"{title}.md")
    assert "the paper's figures, not measured with this conversion" in card
    tested = [data_set for data_set in published_results()["figures"] if f"| {data_set}, 0-shot |" in card]
    assert (tested == ["MVTec"]) if name == "visa" else (len(tested) >= 11 and "MVTec" not in tested)
    figures = published_results()["figures"][tested[0]]["4"]["AdaptCLIP"]["pixel_ap"]
    assert f"{figures['mean']:.1f} ± {figures['std']:.1f}" in card
    assert "model-index" not in metadata(card), "the paper's figures are no measurement of ours"
    shutil.copytree(small_folder, workplace / title)
    assert run_lines(card) == 2


def test_the_embedded_models_card(workplace):
    card = CARDS / "adaptclip-tiny.md"
    assert card.read_bytes() == (Path(DEFAULT_MODEL) / "README.md").read_bytes()
    check_card(card)
    assert set(metadata(card.read_text())) <= MODEL_FIELDS
    assert run_lines(card.read_text()) >= 1
    index = ModelCard(card.read_text()).data.eval_results
    table = card.read_text().partition("## What it scores")[2]
    for result in index:
        assert f"{result.metric_value:.1f}" in table, result


def test_a_prompt_banks_card(small_folder, workplace, photos):
    shutil.copytree(small_folder, workplace / "me" / "model")
    model = AdaptCLIPModel.from_pretrained(small_folder)
    processor = AdaptCLIPProcessor.from_pretrained(small_folder)
    pixel_values = processor(photos["normal"])["pixel_values"]
    bank = model.encode_prompts(pixel_values, processor.image_processor.fingerprint())
    bank.save_pretrained(workplace / "me" / "bank")
    card = prompt_bank_card(PromptBank.from_pretrained("me/bank"), "me/bank", "me/model")
    assert "4 normal images" in card and "normal_images.jpg" not in card and run_lines(card) == 1
    shown = prompt_bank_card(bank, "me/bank", "org/model", "normal_images.jpg")
    assert "![The normal images](normal_images.jpg)" in shown
    assert metadata(shown)["base_model"] == "org/model"
    sheet = thumbnail_sheet(photos["normal"] * 2)
    assert sheet.size == (6 * 168 + 8, 2 * 168 + 8) and sheet.getpixel((2, 2)) == (255, 255, 255)


def test_a_data_sets_card(trained, workplace, capsys):
    shutil.copytree(trained / "parts", workplace / "parts")
    assert main(["card", "parts", "me/parts", "--license", "cc-by-4.0"]) == 0
    card = (workplace / "parts" / "README.md").read_text()
    assert card == data_set_card(load_data_set("parts"), "me/parts", "cc-by-4.0")
    data = metadata(card)
    assert set(data) <= DATA_FIELDS and data["size_categories"] == "n<1K"
    assert data["task_categories"] == ["image-classification", "image-segmentation"]
    rows = load_data_set("parts")
    for category in rows.unique("category"):
        assert re.search(rf"^\| {category} \| 2 \| 2 \| 4 \| 4 \|", card, re.MULTILINE), category
    for split in ("train", "test"):
        part = rows.filter(lambda each, split=split: each["split"] == split)
        part.to_parquet(workplace / "me" / "parts" / f"{split}.parquet")
    datasets.disable_progress_bars()
    lines = card.replace("--output results", "--output results --shots 0 --quiet --device cpu")
    assert run_lines(lines) == 2


BROKEN = {
    "no metadata": ("# A card\n", "has no metadata"),
    "no yaml": ("---\na: [\n---\n", "cannot be read"),
    "license": ("---\nlicense: Apache License\n---\n", "license 'Apache License' is no identifier"),
    "base_model": ("---\nbase_model: /home/me/clip\n---\n", "base_model '/home/me/clip' is no Hub id"),
    "tags": ("---\ntags: [1, 2]\n---\n", "tags holds 1; expected text"),
    "model-index": ("---\nmodel-index:\n- name: x\n  results: [{task: {}}]\n---\n", "cannot be read"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_metadata_is_named_before_anything_is_sent(fault, tmp_path):
    text, message = BROKEN[fault]
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        check_card(tmp_path / "README.md")
