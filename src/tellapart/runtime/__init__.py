"""Bundle and predictor: onnxruntime, numpy, pillow."""

from tellapart.runtime.bundle import Bundle
from tellapart.runtime.card import Card, Thresholds
from tellapart.runtime.predictor import Failure, Prediction, Predictor, Source
from tellapart.runtime.session import Session
from tellapart.runtime.setting import predictor_for

__all__ = ["Bundle", "Card", "Failure", "Prediction", "Predictor", "Session", "Source", "Thresholds", "predictor_for"]
