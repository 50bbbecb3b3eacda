"""Results as a card shows them: measured, and published."""

from ..evaluation.published import METHOD, published_figures, published_results

METRICS = {
    "image_auroc": "I-AUROC",
    "image_ap": "I-AP",
    "pixel_auroc": "P-AUROC",
    "pixel_ap": "P-AP",
    "pixel_aupro": "P-AUPRO",
}
SHOTS = (0, 1, 2, 4)


def results_note(evaluation: dict) -> str:
    model, protocol = evaluation["model"], evaluation["protocol"]
    seeds = ", ".join(map(str, protocol["seeds"]))
    return f"{model['image_size']} px, {model['dtype']}, seeds {seeds}, weights {model['weights'][:12]}"


def seen_categories(record: dict, evaluation: dict) -> list[str]:
    """What was both learned from and measured, by its name."""
    measured = {category for data_set in evaluation["data_sets"] for category in data_set["categories"]}
    return sorted(measured & {name.rpartition("/")[2] for name in record["categories"]})


def results_table(evaluation: dict) -> str:
    """The means over each data set's categories, the paper's figures beneath where there are any."""
    lines = table_head("data set", METRICS.values())
    summary = [each for each in evaluation["summary"] if each["category"] == "mean" and each["metric"] in METRICS]
    published_as = {each["name"]: each["published_as"] for each in evaluation["data_sets"]}
    for data_set, shots in dict.fromkeys((each["data_set"], each["shots"]) for each in summary):
        chosen = {each["metric"]: each for each in summary if (each["data_set"], each["shots"]) == (data_set, shots)}
        lines.append(
            table_row(
                f"{data_set}, {shots}-shot",
                {
                    name: {"mean": 100 * each["mean"], "std": None if each["std"] is None else 100 * each["std"]}
                    for name, each in chosen.items()
                },
            )
        )
        lines += published_rows(published_as[data_set], shots, f"*{published_as[data_set]}, {shots}-shot, published*")
    return "\n".join(lines)


def published_table(trained_on: str) -> str:
    """The paper's figures of the model trained on one data set: every other set (MVTec's for the one of VisA)."""
    tested = [name for name in published_results()["figures"] if (name == "MVTec") == (trained_on == "VisA")]
    lines = table_head("data set", METRICS.values())
    for name in tested:
        for shots in SHOTS:
            lines += published_rows(name, shots, f"{name}, {shots}-shot")
    return "\n".join(lines)


def published_rows(name: str | None, shots: int, title: str) -> list[str]:
    figures = published_figures(name, shots).get(METHOD)
    return [table_row(title, figures)] if figures else []


def table_head(first: str, titles) -> list[str]:
    titles = [first, *titles]
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def table_row(title: str, figures: dict[str, dict]) -> str:
    def cell(mean: float, std: float | None = None) -> str:
        return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"

    return f"| {title} | " + " | ".join(cell(**figures[name]) if name in figures else "-" for name in METRICS) + " |"
