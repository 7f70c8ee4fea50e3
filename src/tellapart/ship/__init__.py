"""Anything trained becomes a bundle, through a parity gate."""
