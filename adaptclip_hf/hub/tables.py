"""Results as a card shows them: measured, and published."""

from ..evaluation.markdown import cell, summary_cell, table_head, table_row
from ..evaluation.published import METHOD, published_figures, published_results

METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro")
SHOTS = (0, 1, 2, 4)


def results_note(evaluation: dict) -> str:
    model, protocol = evaluation["model"], evaluation["protocol"]
    seeds = ", ".join(map(str, protocol["seeds"]))
    return f"{model['image_size']} px, {model['dtype']}, seeds {seeds}, weights {model['weights'][:12]}"


def seen_categories(record: dict, evaluation: dict) -> list[str]:
    """The names of the categories that were both trained on and measured."""
    measured = {category for data_set in evaluation["data_sets"] for category in data_set["categories"]}
    return sorted(measured & {name.rpartition("/")[2] for name in record["categories"]})


def results_table(evaluation: dict) -> str:
    """The means over each data set's categories, each above the paper's figures if there are any."""
    lines = table_head("data set", METRICS)
    means = [each for each in evaluation["summary"] if each["data_set"] and each["category"] is None]
    summary = [each for each in means if each["metric"] in METRICS]
    published_as = {each["name"]: each["published_as"] for each in evaluation["data_sets"]}
    for data_set, shots in dict.fromkeys((each["data_set"], each["shots"]) for each in summary):
        lines_of_it = [each for each in summary if (each["data_set"], each["shots"]) == (data_set, shots)]
        cells = {each["metric"]: summary_cell(each) for each in lines_of_it}
        lines.append(table_row(f"{data_set}, {shots}-shot", METRICS, cells))
        lines += published_rows(published_as[data_set], shots, f"*{published_as[data_set]}, {shots}-shot, published*")
    return "\n".join(lines)


def published_table(trained_on: str) -> str:
    """The paper's figures of the model trained on one data set: every other set (MVTec's for the one of VisA)."""
    tested = [name for name in published_results()["figures"] if (name == "MVTec") == (trained_on == "VisA")]
    lines = table_head("data set", METRICS)
    for name in tested:
        for shots in SHOTS:
            lines += published_rows(name, shots, f"{name}, {shots}-shot")
    return "\n".join(lines)


def published_rows(name: str | None, shots: int, title: str) -> list[str]:
    figures = published_figures(name, shots).get(METHOD)
    if not figures:
        return []
    return [table_row(title, METRICS, {metric: cell(**figure) for metric, figure in figures.items()})]
