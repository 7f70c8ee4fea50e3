"""Features, heads, backbones, the loop."""
