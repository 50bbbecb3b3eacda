"""Cards of models, prompt banks and data sets, from the templates in `hub_cards/` and what runs recorded."""

import json
import re
from importlib.resources import files
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..conversion import RELEASED_CLIP
from ..model_files import COMPLETE, DEFAULT_NAME, TRAINING_RECORD
from ..modeling import AdaptCLIPConfig, AdaptCLIPModel, PromptBank
from .model_folders import folder_kind

TAGS = ["anomaly-detection", "anomaly-segmentation", "zero-shot", "few-shot", "clip", "adaptclip"]
NUMBER_OF_IMAGES = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M"}


def model_card(
    folder: str | Path,
    repo_id: str,
    results: str | Path | None = None,
    license: str | None = None,
    record_folder: str | Path | None = None,
) -> str:
    """The card of a model folder: what it is, code to run, the recorded training, the measured results.

    Args:
        folder: a model folder of any kind.
        repo_id: `OWNER/NAME`, which the card's code loads.
        results: results.json of an evaluation of these weights.
        record_folder: where `training.json` lies, in which the run recorded itself; the folder by default.
        license: the Hub's identifier, such as "apache-2.0"; none by default.

    Raises:
        ValueError: the results are of other weights.
    """
    folder = Path(folder)
    config = AdaptCLIPConfig.from_pretrained(folder)
    record_file = Path(record_folder or folder) / TRAINING_RECORD
    record = json.loads(record_file.read_text(encoding="utf-8")) if record_file.is_file() else None
    evaluation = read_results(results, folder) if results is not None else None
    kind = folder_kind(folder)
    return render_model_card(config, repo_id, kind, record=record, evaluation=evaluation, license=license)


def released_card(trained_on: str, repo_id: str, config: AdaptCLIPConfig | None = None) -> str:
    """The card of a converted ViT-L/14@336 model of the authors, with the paper's figures marked as the paper's.

    Args:
        trained_on: "MVTec" or "VisA".
        config: of the model; the released one's by default.
    """
    config = config or AdaptCLIPConfig(clip_name=RELEASED_CLIP)
    return render_model_card(config, repo_id, COMPLETE, trained_on=trained_on)


def render_model_card(
    config: AdaptCLIPConfig,
    repo_id: str,
    flavour: str,
    record: dict | None = None,
    evaluation: dict | None = None,
    trained_on: str | None = None,
    license: str | None = None,
) -> str:
    # these import scipy, which importing the package need not wait for
    from ..evaluation.model_index import eval_results
    from .tables import published_table, results_note, results_table, seen_categories

    name, vision = repo_id.rpartition("/")[2], config.clip_config.vision_config
    adapters = [
        each.replace("_", "-") for each in ("visual", "textual", "prompt_query") if getattr(config, f"{each}_adapter")
    ]
    data = ModelCardData(
        license=license,
        library_name="transformers",
        # no pipeline_tag: the Hub's list of tasks has none for anomaly detection, and by another one
        # `pipeline(model=...)` would choose a class that cannot load such a model
        tags=TAGS,
        base_model=config.clip_name,
        datasets=record["hub_data_sets"] or None if record else None,
        model_name=name if evaluation else None,
        eval_results=eval_results(evaluation) if evaluation else None,
    )
    return fill_template(
        "model",
        data,
        repo_id,
        flavour=flavour,
        clip_name=config.clip_name,
        clip_revision=config.clip_revision,
        clip_size=f"image tower: {vision.num_hidden_layers} layers of width {vision.hidden_size}, patches of "
        f"{vision.patch_size} px",
        patch_size=vision.patch_size,
        adapters=adapters,
        few_shot=config.prompt_query_adapter,
        image_size=config.image_size,
        feature_layers=", ".join(map(str, config.feature_layers)),
        score_fusion=config.score_fusion,
        trained_on=trained_on,
        record=record,
        results_table=published_table(trained_on) if trained_on else results_table(evaluation) if evaluation else None,
        seen=seen_categories(record, evaluation) if record and evaluation else [],
        results_note=results_note(evaluation) if evaluation else None,
    )


def prompt_bank_card(bank: PromptBank, repo_id: str, model: str | None = None, sheet: str | None = None) -> str:
    """The card of a prompt bank.

    Args:
        model: folder or Hub id of the model that made it.
        sheet: name of a picture of its images.
    """
    base_model = model if model is not None and is_hub_id(model) else None
    data = ModelCardData(tags=["anomaly-detection", "adaptclip", "prompt-bank"], base_model=base_model)
    settings = {key: value.replace("|", "/")[:80] for key, value in (bank.fingerprint | bank.preprocessing).items()}
    return fill_template("prompt_bank", data, repo_id, count=len(bank), model=model, sheet=sheet, settings=settings)


def profile_card(profile, repo_id: str) -> str:
    """The card of an inspection profile."""
    base_model = profile.model if is_hub_id(profile.model) else None
    return fill_template(
        "profile",
        ModelCardData(tags=["anomaly-detection", "adaptclip", "inspection-profile"], base_model=base_model),
        repo_id,
        good=len(profile.good_photos),
        model=profile.model,
        embedded=profile.model == DEFAULT_NAME,
        description=profile.describe().splitlines(),
        verdict=(profile.verdict_text or "").splitlines(),
    )


def data_set_card(dataset, repo_id: str, license: str | None = None) -> str:
    """The card of a data set that [`load_data_set`] has read."""
    from ..data.summary import count_categories

    rows = [{"category": name, **counts} for name, counts in count_categories(dataset).items()]
    size = next((name for limit, name in NUMBER_OF_IMAGES.items() if len(dataset) < limit), "n>1M")
    masks = any(row["masks"] for row in rows)
    data = DatasetCardData(
        license=license,
        pretty_name=repo_id.rpartition("/")[2],
        task_categories=["image-classification", *(["image-segmentation"] if masks else [])],
        tags=["anomaly-detection"],
        size_categories=size,
    )
    return fill_template("data_set", data, repo_id, rows=rows, masks=masks)


def is_hub_id(model: str) -> bool:
    return "/" in model and not Path(model).exists()


def fill_template(template: str, data: ModelCardData | DatasetCardData, repo_id: str, **fields) -> str:
    """A card: the metadata, and a template of `hub_cards/` filled in."""
    text = files("adaptclip_hf.hub_cards").joinpath(f"{template}_template.md").read_text(encoding="utf-8")
    card_class = DatasetCard if isinstance(data, DatasetCardData) else ModelCard
    card = card_class.from_template(data, template_str=text, name=repo_id.rpartition("/")[2], repo_id=repo_id, **fields)
    return f"{card}\n"


def read_results(file: str | Path, folder: Path) -> dict:
    """The content of a results.json, which must be of the folder's weights."""
    try:
        evaluation = json.loads(Path(file).read_text(encoding="utf-8"))
        measured = evaluation["model"]["weights"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not the results.json of `adaptclip evaluate`: {error}") from error
    weights = AdaptCLIPModel.from_pretrained(folder, text_tower=False).weights_digest()
    if weights != measured:
        raise ValueError(
            f"{file} was measured on other weights ({measured[:12]}) than those of {folder} ({weights[:12]}): evaluate "
            "this model; a card must not show another model's figures."
        )
    return evaluation


def check_card(file: str | Path):
    """Refuses a card whose metadata the Hub would refuse, before anything is sent.

    Raises:
        ValueError: names the file, the field and what was expected.
    """
    text = Path(file).read_text(encoding="utf-8")
    if not text.startswith("---\n"):
        raise ValueError(f"{file} has no metadata: expected it to begin with a YAML block between lines of ---.")
    try:
        data = ModelCard(text).data.to_dict()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: the metadata cannot be read: {error}") from error
    for field in ("tags", "datasets", "base_model"):
        values = data.get(field) or []
        for value in [values] if isinstance(values, str) else values:
            if not isinstance(value, str):
                raise ValueError(f"{file}: {field} holds {value!r}; expected text.")
            if field != "tags":
                try:
                    validate_repo_id(value)
                except HFValidationError as error:
                    raise ValueError(f"{file}: {field} {value!r} is no Hub id: {error}") from error
    license = data.get("license")
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", str(license)):
        raise ValueError(f"{file}: license {license!r} is no identifier of the Hub's list, such as apache-2.0 or mit.")
