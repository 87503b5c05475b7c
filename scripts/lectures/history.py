"""ImageNet's classification contest, year by year: what the notes say, and the published results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lectures.experiment import Experiment
from lectures.report import Report


class Entry(NamedTuple):
    """One entry of a contest (ILSVRC, classification). error: top-5 error in percent of the test images."""

    year: int
    who: str
    place: str
    layers: int | None
    error: float
    source: str
    notes: str = ""


HISTORY = (
    Entry(2012, "AlexNet", "first", 8, 15.3, "Krizhevsky et al. (2012); 16.4 % without additional images to train on"),
    Entry(
        2013,
        "Clarifai, by Zeiler, in the line of ZFNet",
        "first",
        8,
        11.2,
        "ILSVRC2013 results; 11.7 % without additional images; Zeiler and Fergus (2014)",
        "VGG-16 was not there",
    ),
    Entry(2014, "GoogLeNet", "first", 22, 6.7, "Szegedy et al. (2015)"),
    Entry(2014, "VGG", "second", 19, 7.3, "Simonyan and Zisserman (2015)", '"VGG-16, winner of 2013"'),
    Entry(2015, "ResNet", "first", 152, 3.57, "He et al. (2016)", '"fast forward": its skip connection'),
    Entry(2016, "Trimps-Soushen, an ensemble", "first", None, 2.99, "ILSVRC2016 results", "2.99 %"),
    Entry(
        2017,
        "SENet",
        "first",
        154,
        2.25,
        "Hu et al. (2018)",
        '"2017 NUIST 0.61": mean average precision of detection in 2016, where NUIST\'s entry has .609',
    ),
)
HUMAN = 5.1  # percent: one trained annotator on 1 500 images (Russakovsky et al. 2015, section 6.4)


@dataclass
class ImageNet(Experiment):
    """ImageNet's winners and their errors, as text; trains nothing."""

    def run(self, report: Report) -> None:
        for entry in HISTORY:
            report.row(f"{entry.year}, {entry.place}: {entry.who}: top-5 error in percent", entry.error, entry.notes, 2)
            if entry.place == "first":
                report.logger.scalars(entry.year, {"top_5_error_percent": entry.error})
        report.row("a trained human: top-5 error in percent", HUMAN, "", 1)
        first = next(entry for entry in HISTORY if entry.error < HUMAN)
        report.row("the first entry below the human's error", f"{first.who}, {first.year}")
