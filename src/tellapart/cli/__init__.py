"""Faces: the command line. It holds no logic."""
