"""The one decode and the one resize."""
