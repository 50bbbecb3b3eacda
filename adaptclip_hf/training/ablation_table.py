"""The paper's table 5, computed again: every row is trained on one data set and evaluated on others."""

from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import PartialState

from ..ablations import TABLE_5
from ..detector import AnomalyDetector
from ..evaluation.evaluate import evaluate
from ..evaluation.markdown import summary_cell, table_head, table_row
from ..files import write_json, write_whole
from ..reporting import print_line, print_lines
from .train import TrainingRun

SHOTS, SEEDS = (0, 1), (10, 20, 30)
METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
TABLE_FILE, FIGURES_FILE = "ablations.md", "ablations.json"
FINISHED = "model.safetensors"


def train_all_rows(
    train_row: Callable[[str, Path, bool], TrainingRun], eval_data: Sequence[str], output: Path, resume: bool
) -> int:
    """Trains and evaluates the rows, each in a folder of its own, and writes and prints the table.

    Args:
        train_row: (row, its folder, whether to resume) trains one row.
        eval_data: specs of the data sets to evaluate on.
        output: folder for `ROW/`, `ROW/evaluation/`, ablations.md and ablations.json.
        resume: keep finished rows, and resume an unfinished one.

    Returns:
        `int`: the number of images that could not be read.
    """
    found, unreadable = {}, 0
    for row in TABLE_5:
        folder = output / row
        if not (resume and (folder / FINISHED).is_file()):
            print_line(f"row {row}")
            begun = resume and any(folder.glob("checkpoint-*"))
            unreadable = max(unreadable, train_row(row, folder, begun).unreadable)
        detector = AnomalyDetector.from_pretrained(folder)
        results = evaluate(detector, eval_data, folder / "evaluation", SHOTS, SEEDS, model_name=row)
        unreadable = max(unreadable, len(results["failures"]))
        found[row] = results["summary"]
    table = ablation_table(found)
    if PartialState().is_main_process:
        write_whole(output / TABLE_FILE, table.encode())
        write_json(output / FIGURES_FILE, found)
    print_lines(f"\n{table}\nwritten: {output / TABLE_FILE}, {FIGURES_FILE}, and the model and evaluation of each row")
    return unreadable


def ablation_table(found: dict[str, list[dict]]) -> str:
    """A table for each data set and number of shots: the rows of the paper's table 5, means over the categories."""
    lines = [
        "# The adapters one by one (rows of the paper's table 5)",
        "",
        "Per cent, mean ± sample standard deviation over the seeds of the prompt draws. With normal images, rows "
        "without the prompt-query adapter compare by alignment alone. Rows without the other adapters score by CLIP's "
        "static prompts.",
    ]
    first = next(iter(found.values()))
    names = list(dict.fromkeys(line["data_set"] for line in first if line["data_set"] is not None))
    for name in names:
        for shots in SHOTS:
            lines += ["", *table_head(f"{name}, {shots}-shot", METRICS)]
            for row, summary in found.items():
                cells = {
                    line["metric"]: summary_cell(line)
                    for line in summary
                    if (line["data_set"], line["category"], line["shots"]) == (name, None, shots)
                }
                lines.append(table_row(row, METRICS, cells))
    return "\n".join(lines) + "\n"
