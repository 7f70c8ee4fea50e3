"""The page a person reads."""

from tellapart.report.check_page import CheckPage, render_check
from tellapart.report.found import Found, FoundPicture
from tellapart.report.render import render
from tellapart.report.suggest_page import SuggestedGroup, SuggestedPicture, SuggestPage, render_suggestions
from tellapart.report.summary import (
    AnswerName,
    AnswerShare,
    ClassRow,
    Folds,
    LadderRow,
    PictureCard,
    ReliabilityBin,
    SplitReport,
    Summary,
)
from tellapart.report.variations import Strip, Variations
from tellapart.report.verdict import Verdict, verdict

__all__ = [
    "AnswerName",
    "AnswerShare",
    "CheckPage",
    "ClassRow",
    "Folds",
    "Found",
    "FoundPicture",
    "LadderRow",
    "PictureCard",
    "ReliabilityBin",
    "SplitReport",
    "Strip",
    "SuggestPage",
    "SuggestedGroup",
    "SuggestedPicture",
    "Summary",
    "Variations",
    "Verdict",
    "render",
    "render_check",
    "render_suggestions",
    "verdict",
]
