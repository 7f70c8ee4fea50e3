"""Bundle and predictor: onnxruntime, numpy, pillow."""
