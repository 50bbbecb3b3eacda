"""Where an evaluation stands, on disk: what it is of, the finished categories, what has been counted of the others."""

import json
import os
from pathlib import Path
from urllib.parse import quote

from .protocol import Category, Setting
from .tally import CategoryTally


class Progress:
    """The folder that several processes share and that a later run goes on from.

    `settings.json` says what is evaluated, `DATA_SET/CATEGORY.json` is the record of a finished category, and
    `DATA_SET/CATEGORY.N.safetensors` the tally of process N of one that is not.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, settings: dict):
        """Notes what is evaluated, or checks that the folder is of the same evaluation.

        Raises:
            ValueError: it is of another one; names what differs.
        """
        file, settings = self.folder / "settings.json", json.loads(json.dumps(settings))
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(file, settings)
            return
        found = read_json(file)
        if differing := [name for name in settings if settings[name] != found.get(name)]:
            name = differing[0]
            raise ValueError(
                f"{self.folder.parent} holds another evaluation, which differs in {', '.join(differing)} ({name}: "
                f"{str(found.get(name))[:80]} there, {str(settings[name])[:80]} now). Name another --output, or remove "
                "it with --overwrite."
            )

    def record_file(self, category: Category) -> Path:
        return self.folder / quote(category.data_set, safe="") / f"{quote(category.name, safe='')}.json"

    def tally_file(self, category: Category, process: int) -> Path:
        return self.record_file(category).with_suffix(f".{process}.safetensors")

    def tally_files(self, category: Category) -> list[Path]:
        name = self.record_file(category).stem
        files = self.record_file(category).parent.glob("*.safetensors")
        return sorted(file for file in files if file.stem.rpartition(".")[0] == name)

    def record(self, category: Category) -> dict | None:
        """Of a finished category."""
        file = self.record_file(category)
        return read_json(file) if file.is_file() else None

    def tally(self, category: Category, settings: list[Setting], shown_setting: Setting) -> CategoryTally:
        """Everything that any process counted, together."""
        merged = CategoryTally(settings, shown_setting)
        found = [CategoryTally.load(file, settings, shown_setting) for file in self.tally_files(category)]
        for tally in sorted(found, key=lambda each: -len(each.done)):
            # one that was merged into another before is still there if the run ended just then
            if not tally.done <= merged.done:
                merged.merge(tally)
        return merged

    def keep(self, category: Category, tally: CategoryTally):
        """Writes the tally of all processes as the first one's, in place of theirs."""
        first = self.tally_file(category, 0)
        tally.save(first)
        for file in self.tally_files(category):
            if file != first:
                file.unlink()

    def finish(self, category: Category, record: dict):
        """Writes the record; the tallies go."""
        write_json(self.record_file(category), record)
        for file in self.tally_files(category):
            file.unlink()


def read_json(file: Path) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error}): remove it.") from error


def write_json(file: Path, content: dict):
    """Writes a JSON file, which appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, file)  # noqa: PTH105
