"""Which rungs, in what order, for how long; selection. No torch."""
