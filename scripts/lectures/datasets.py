"""The lecture's tables: its CSV files, if available, and the few rows contained in its code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lectures.report import Report
from supervised import DataError
from supervised.data import Table, read_csv
from supervised.download import cache, download

MIRROR = "https://raw.githubusercontent.com/hunkim/DeepLearningZeroToAll/master"
FILES = {  # SHA-256
    "data-01-test-score.csv": "4414f6016807913c412b64885cf2939e988d4564f002d363181be20ac622a0e5",
    "data-02-stock_daily.csv": "a0ebd202da621b20c04253178714ca05147ffd8f712f8adafd38cee78e38a334",
    "data-03-diabetes.csv": "89e33de71cd5afdcd4fe8a722b60c4d69eb8f9b96446cea9347d735ff2df395e",
    "data-04-zoo.csv": "cbf109a391118676bb76a5b0174573c295aed8561cc223abb4c3463990f2c476",
}
ROWS: dict[str, list[Any]] = {
    # Three exams and the final one.
    "exam-scores": [[73, 80, 75, 152], [93, 88, 93, 185], [89, 91, 90, 180], [96, 98, 100, 196], [73, 66, 70, 142]],
    # Two numbers, and pass or fail.
    "pass-or-fail": [[1, 2, 0], [2, 3, 0], [3, 1, 0], [4, 3, 1], [5, 3, 1], [6, 2, 1]],
    # Four numbers, and which of three classes.
    "three-classes": [
        *([1, 2, 1, 1, 2], [2, 1, 3, 2, 2], [3, 1, 3, 4, 2], [4, 1, 5, 5, 1]),
        *([1, 7, 5, 5, 1], [1, 2, 5, 6, 1], [1, 6, 6, 6, 0], [1, 7, 7, 7, 0]),
    ],
    # Three numbers, and which of three classes.
    "learning-rates": [
        *([1, 2, 1, 2], [1, 3, 2, 2], [1, 3, 4, 2], [1, 5, 5, 1]),
        *([1, 7, 5, 1], [1, 2, 5, 1], [1, 6, 6, 0], [1, 7, 7, 0]),
    ],
    # Eight days of a share: open, high, volume, low, close.
    "shares": [
        [828.659973, 833.450012, 908100, 828.349976, 831.659973],
        [823.02002, 828.070007, 1828100, 821.655029, 828.070007],
        [819.929993, 824.400024, 1438100, 818.97998, 824.159973],
        [816, 820.958984, 1008100, 815.48999, 819.23999],
        [819.359985, 823, 1188100, 818.469971, 818.97998],
        [819, 823, 1198100, 816, 820.450012],
        [811.700012, 815.25, 1098100, 809.780029, 813.669983],
        [809.51001, 816.659973, 1398100, 804.539978, 809.559998],
    ],
}


@dataclass
class FromFiles:
    """An experiment on the CSV files of the lecture."""

    data_dir: Path | None = None
    """Folder of the lecture's CSV files. Default: this user's cache, or a download."""

    def table(self, report: Report, name: str) -> Table | None:
        """Return one of the lecture's files; None, with a note, if it is unavailable. Raise DataError for another file."""
        try:
            path = self._find(name)
        except DataError as error:
            if self.data_dir is not None:
                raise
            report.console.print(f"{name} is not available: {error}", style="yellow")
            report.facts.setdefault("missing", []).append(name)
            return None
        return read_csv(path)

    def _find(self, name: str) -> Path:
        if self.data_dir is not None:
            if not (self.data_dir / name).is_file():
                raise DataError(f"There is no {name} in {self.data_dir}.")
            check(self.data_dir / name)
            return self.data_dir / name
        path = cache() / name
        if not path.is_file():
            download(path, [f"{MIRROR}/{name}"], lambda found: check(found, name), "Give its folder with --data-dir.")
        return path


def check(path: Path, name: str | None = None) -> None:
    """Raise DataError if a file is not the lecture's."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != FILES[name or path.name]:
        raise DataError(f"{path} is not the lecture's {name or path.name}: its checksum differs.")


def rows_of(name: str) -> list[list[float]]:
    """Return the rows of one of the lecture's small tables."""
    return [[float(value) for value in row] for row in ROWS[name]]
