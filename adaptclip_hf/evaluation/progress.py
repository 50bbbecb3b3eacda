"""Where an evaluation stands, on disk: what it is of, the finished categories, what has been counted of the others."""

from pathlib import Path

from ..files import as_json, file_name, read_json, write_json
from ..resume import keep_or_match
from .category_record import merge_records
from .protocol import EvaluatedCategory, Setting
from .tally import CategoryTally

ADVICE = "name another --output, or remove it with --overwrite"


class Progress:
    """The folder that several processes share and that a later run goes on from, perhaps with more data sets, shots or
    seeds.

    `settings.json` says what model is evaluated and how, `data_sets.json` on what, `DATA_SET/CATEGORY.json` is the
    record of a category's finished settings, and `DATA_SET/CATEGORY.N.safetensors` the tally of process N of those that
    are not finished.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, settings: dict):
        """Notes what is evaluated, or checks that the folder is of the same evaluation.

        Raises:
            ValueError: it is of another one; names what differs.
        """
        keep_or_match(self.folder / "settings.json", settings, ADVICE)

    def data_sets(self) -> list[dict]:
        """Those that any run so far was of."""
        file = self.folder / "data_sets.json"
        return read_json(file) if file.is_file() else []

    def add_data_sets(self, data_sets: list[dict]):
        """Notes more data sets, in place of those of the same names."""
        known = {each["name"]: each for each in self.data_sets()} | {each["name"]: each for each in data_sets}
        write_json(self.folder / "data_sets.json", as_json(list(known.values())))

    def record_file(self, data_set: str, category: str) -> Path:
        return self.folder / file_name(data_set) / f"{file_name(category)}.json"

    def tally_file(self, category: EvaluatedCategory, process: int) -> Path:
        file = self.record_file(category.data_set, category.name)
        return file.with_name(f"{file.stem}.{process}.safetensors")

    def tally_files(self, category: EvaluatedCategory) -> list[Path]:
        first = self.tally_file(category, 0)
        name = first.name.removesuffix(".0.safetensors")
        return sorted(file for file in first.parent.glob("*.safetensors") if file.stem.rpartition(".")[0] == name)

    def record(self, data_set: str, category: str) -> dict | None:
        """Of a category's finished settings."""
        file = self.record_file(data_set, category)
        return read_json(file) if file.is_file() else None

    def unfinished(self, category: EvaluatedCategory, settings: list[Setting]) -> list[Setting]:
        """Which of the settings have not been tried."""
        record = self.record(category.data_set, category.name)
        tried = [Setting(*each) for each in record["settings"]] if record else []
        return [setting for setting in settings if setting not in tried]

    def tally(self, category: EvaluatedCategory, settings: list[Setting], shown_setting: Setting) -> CategoryTally:
        """Everything that any process counted in these settings, together."""
        merged = CategoryTally(settings, shown_setting)
        found = [CategoryTally.load(file, settings, shown_setting) for file in self.tally_files(category)]
        for tally in sorted((each for each in found if each is not None), key=lambda each: -len(each.done)):
            # one that was merged into another before is still there if the run ended just then
            if not tally.done <= merged.done:
                merged.merge(tally)
        return merged

    def keep(self, category: EvaluatedCategory, tally: CategoryTally):
        """Writes the tally of all processes as the first one's, in place of theirs."""
        first = self.tally_file(category, 0)
        tally.save(first)
        for file in self.tally_files(category):
            if file != first:
                file.unlink()

    def finish(self, category: EvaluatedCategory, record: dict):
        """Writes the record, together with that of settings finished before; the tallies go."""
        before = self.record(category.data_set, category.name)
        file = self.record_file(category.data_set, category.name)
        write_json(file, merge_records(before, record) if before else record)
        for tally in self.tally_files(category):
            tally.unlink()
