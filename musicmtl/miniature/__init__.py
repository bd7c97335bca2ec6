"""Miniature, a small musical world: rendered to real audio, its truth known."""

# Views register themselves when they are imported, in the order in which errors list them.
from .fma import FMA_SIZES
from .regional import REGIONAL, REGIONAL_SIZES, Language, RegionalSize, language_of
from .segments import SEGMENTS_SIZES, STYLES, SegmentsSize, styles
from .openmic import OPENMIC_SIZES, InstrumentsSize
from .ballroom import BALLROOM_SIZES, DANCES, DancesSize
from .tagatune import TAGATUNE_SIZES, TagatuneSize
from .render import miniature, render_track
from .score import score
from .sound import INSTRUMENTS, SR, listen
from .world import GENRES, VIEWS, Genre, Size, View, World, add_view, genre_counts, genres_of, world

__all__ = ["miniature", "world", "World", "render_track", "score", "listen", "SR"]
__all__ += ["VIEWS", "View", "add_view", "Size", "genre_counts"]
__all__ += ["GENRES", "DANCES", "INSTRUMENTS", "REGIONAL", "STYLES", "Genre", "Language"]
__all__ += ["genres_of", "language_of", "styles"]
__all__ += ["RegionalSize", "SegmentsSize", "InstrumentsSize", "DancesSize", "TagatuneSize"]
__all__ += ["FMA_SIZES", "REGIONAL_SIZES", "SEGMENTS_SIZES", "OPENMIC_SIZES", "BALLROOM_SIZES", "TAGATUNE_SIZES"]
