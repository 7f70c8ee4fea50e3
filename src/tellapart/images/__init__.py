"""The one decode and the one resize."""

from tellapart.images.decode import Pixels, decode, sixteen_bit_peak
from tellapart.images.guarded import decode_guarded, prepare_guarded
from tellapart.images.header import Header, read_header
from tellapart.images.parallel import default_threads, map_in_runs, map_ordered
from tellapart.images.preprocess import DecodePolicy, Preprocess
from tellapart.images.resize import at_least_for, prepare, resize, thumbnail_jpeg
from tellapart.images.sniff import FORMATS

__all__ = [
    "FORMATS",
    "DecodePolicy",
    "Header",
    "Pixels",
    "Preprocess",
    "at_least_for",
    "decode",
    "decode_guarded",
    "default_threads",
    "map_in_runs",
    "map_ordered",
    "prepare",
    "prepare_guarded",
    "read_header",
    "resize",
    "sixteen_bit_peak",
    "thumbnail_jpeg",
]
