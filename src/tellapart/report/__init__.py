"""The page a person reads."""

from tellapart.report.render import render
from tellapart.report.summary import (
    AnswerName,
    AnswerShare,
    ClassRow,
    LadderRow,
    PictureCard,
    ReliabilityBin,
    SplitReport,
    Summary,
)
from tellapart.report.verdict import Verdict, verdict

__all__ = [
    "AnswerName",
    "AnswerShare",
    "ClassRow",
    "LadderRow",
    "PictureCard",
    "ReliabilityBin",
    "SplitReport",
    "Summary",
    "Verdict",
    "render",
    "verdict",
]
