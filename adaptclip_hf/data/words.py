"""The one list of words by which the name of a folder or a label means good, or bad."""

import re
from functools import cache

# in lower case, without separators
GOOD = (
    *("good", "ok", "normal", "okay", "pass", "passed", "accept", "accepted", "healthy", "intact", "undamaged"),
    *("unbroken", "flawless", "faultless", "conforming", "0", "gut", "io", "bon", "conforme", "良品", "合格", "正常"),
)
BAD = (
    *(
        "bad",
        "ng",
        "ko",
        "nok",
        "defect",
        "defects",
        "defective",
        "def",
        "anomaly",
        "anomalies",
        "anomalous",
        "abnormal",
    ),
    *("fail", "failed", "failure", "reject", "rejects", "rejected", "broken", "damage", "damaged", "fault", "faults"),
    *("faulty", "flaw", "flaws", "flawed", "scrap", "ungood", "unhealthy", "nonconforming", "1", "schlecht", "nio"),
    *("defekt", "ausschuss", "mauvais", "不良", "不良品", "不合格", "异常", "異常", "缺陷"),
)
NOT = ("no", "non", "not", "without")
FREE = "free"
# beside a word for good they leave it in doubt
OF_DAMAGE = ("missing", "lost", "but", "almost", "scratch", "scratched", "crack", "cracked", "dent", "hole", "stain")
# say nothing about what is shown
NEUTRAL = (
    *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "part", "parts", "sample", "samples"),
    *("data", "raw", "rgb", "all", "train", "test", "unknown", "unlabeled", "unlabelled", "unsorted", "misc", "new"),
)
MASKS = ("mask", "masks", "gt", "groundtruth", "label", "labels", "annotation", "annotations", "segmentation", "xyz")
NORMAL_MAPS = ("normalmap", "normalmaps")


@cache
def words_in(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: `okFront_2` has ok, front and 2."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " ", name)
    return tuple(re.split(r"[\W_]+", apart.lower().strip(" _.-")))


@cache
def label_of_name(name: str) -> int | None:
    """0 where a name means good, 1 where it means bad; `None` where it says neither, or both.

    `ok_front` and `Non-Defective` are good, `def_front` and `not ok` bad; `missing_ok` and `front` are neither.
    """
    words, whole = words_in(name), "".join(words_in(name))
    if is_of_masks(name):
        return None
    if whole in GOOD or whole in BAD:
        return int(whole in BAD)
    labels: list[int | None] = []
    for before, word, after in zip(("", *words), words, (*words[1:], ""), strict=False):
        label = 0 if word in GOOD and not word.isdigit() else 1 if word in BAD and not word.isdigit() else None
        if label is not None and (before in NOT or after == FREE):
            label = 1 - label
        if label is not None or word not in (*NEUTRAL, *NOT, FREE):
            labels.append(label)
    found = set(labels) - {None}
    if found == {1}:
        return 1
    in_doubt = labels[:1] != [0] or any(word in OF_DAMAGE for word in words)
    return 0 if found == {0} and not in_doubt else None


def is_neutral(name: str) -> bool:
    """Whether a name says nothing about what is shown."""
    return all(word in NEUTRAL for word in words_in(name))


def is_of_masks(name: str) -> bool:
    """Whether a folder of this name holds masks, or other pictures that are no photos."""
    words = words_in(name)
    return words[-1] in MASKS or "".join(words) in (*MASKS, *NORMAL_MAPS)
