"""What a data set holds, as counts."""

import datasets

LONGEST_LIST = 60  # characters


def count_categories(dataset: datasets.Dataset) -> dict[str, dict]:
    """For each category: normal training images, normal and anomalous test images, masks, kinds of defect."""
    masks = [mask is not None for mask in dataset.with_format("arrow")["mask"].to_pylist()]
    columns = {name: dataset[name] for name in ("category", "split", "label", "defect")}
    table: dict[str, dict] = {}
    for category, split, label, defect, mask in zip(*columns.values(), masks, strict=True):
        row = table.setdefault(category, {"train": 0, "good": 0, "bad": 0, "masks": 0, "defects": set()})
        row["train" if split == "train" else "bad" if label else "good"] += 1
        row["masks"] += mask
        if label:
            row["defects"].add(defect)
    return table


def describe(dataset: datasets.Dataset) -> str:
    """The counts of [`count_categories`] as a table to print."""
    table = count_categories(dataset)
    lines = [f"{'category':20} {'train good':>10} {'test good':>10} {'anomalous':>10} {'masks':>7}  kinds of defect"]
    for category, row in table.items():
        kinds = shortened(", ".join(sorted(row["defects"])))
        lines.append(f"{category:20} {row['train']:10} {row['good']:10} {row['bad']:10} {row['masks']:7}  {kinds}")
    sums = [sum(row[name] for row in table.values()) for name in ("train", "good", "bad", "masks")]
    lines.append(f"{f'{len(table)} in all':20} {sums[0]:10} {sums[1]:10} {sums[2]:10} {sums[3]:7}")
    return "\n".join(lines)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_LIST else f"{text[: LONGEST_LIST - 4].rpartition(',')[0]}, ..."
