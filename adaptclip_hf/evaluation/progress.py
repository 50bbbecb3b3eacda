"""The progress of an evaluation on disk: what it evaluates, finished categories, and counts of unfinished ones."""

from pathlib import Path

from ..files import as_json, file_name, read_json, write_json
from ..resume import keep_or_match
from .category_counts import CategoryCounts
from .category_record import merge_records
from .protocol import EvaluatedCategory, Setting

ADVICE = "name another --output, or remove it with --overwrite"


class Progress:
    """A folder that several processes share, and from which a later run continues, also with more data sets, shots or
    seeds.

    `settings.json` says which model is evaluated and how, `data_sets.json` on which data sets. `DATA_SET/CATEGORY.json`
    is the record of a category's finished settings, and `DATA_SET/CATEGORY.N.safetensors` holds what process N has
    counted for unfinished ones.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, settings: dict):
        """Writes down what is evaluated, or checks that the folder belongs to the same evaluation.

        Raises:
            ValueError: it belongs to another one; names what differs.
        """
        keep_or_match(self.folder / "settings.json", settings, ADVICE)

    def is_begun(self) -> bool:
        """Whether an evaluation began here."""
        return (self.folder / "settings.json").is_file()

    def data_sets(self) -> list[dict]:
        """The records of all data sets so far."""
        file = self.folder / "data_sets.json"
        return read_json(file) if file.is_file() else []

    def add_data_sets(self, data_sets: list[dict]):
        """Adds data sets; they replace those of the same names."""
        known = {each["name"]: each for each in self.data_sets()} | {each["name"]: each for each in data_sets}
        write_json(self.folder / "data_sets.json", as_json(list(known.values())))

    def record_file(self, data_set: str, category: str) -> Path:
        return self.folder / file_name(data_set) / f"{file_name(category)}.json"

    def record(self, data_set: str, category: str) -> dict | None:
        """The record of a category's finished settings; `None` before there is one."""
        file = self.record_file(data_set, category)
        return read_json(file) if file.is_file() else None

    def records(self) -> list[dict]:
        """The records of all categories that any run finished."""
        names = [(each["name"], category) for each in self.data_sets() for category in each["categories"]]
        return [record for each in names if (record := self.record(*each)) is not None]

    def unfinished(self, category: EvaluatedCategory, settings: list[Setting]) -> list[Setting]:
        """The settings that have not been tried."""
        record = self.record(category.data_set, category.name)
        tried = [Setting(*each) for each in record["settings"]] if record else []
        return [setting for setting in settings if setting not in tried]

    def counts_file(self, category: EvaluatedCategory, process: int) -> Path:
        file = self.record_file(category.data_set, category.name)
        return file.with_name(f"{file.stem}.{process}.safetensors")

    def counts_files(self, category: EvaluatedCategory) -> list[Path]:
        first = self.counts_file(category, 0)
        name = first.name.removesuffix(".0.safetensors")
        return sorted(file for file in first.parent.glob("*.safetensors") if file.stem.rpartition(".")[0] == name)

    def counts(self, category: EvaluatedCategory, settings: list[Setting], shown_setting: Setting) -> CategoryCounts:
        """Everything that any process counted in these settings, together."""
        merged = CategoryCounts(settings, shown_setting)
        found = [CategoryCounts.load(file, settings, shown_setting) for file in self.counts_files(category)]
        for counts in sorted((each for each in found if each is not None), key=lambda each: -len(each.done)):
            # counts that were already merged are still there if the run ended at that moment
            if not counts.done <= merged.done:
                merged.merge(counts)
        return merged

    def keep(self, category: EvaluatedCategory, counts: CategoryCounts):
        """Writes the counts of all processes into the first one's file, and removes the other files."""
        first = self.counts_file(category, 0)
        counts.save(first)
        for file in self.counts_files(category):
            if file != first:
                file.unlink()

    def finish(self, category: EvaluatedCategory, record: dict):
        """Writes the record, merged with that of settings finished before, and removes the counts."""
        before = self.record(category.data_set, category.name)
        file = self.record_file(category.data_set, category.name)
        write_json(file, merge_records(before, record) if before else record)
        for counts in self.counts_files(category):
            counts.unlink()
