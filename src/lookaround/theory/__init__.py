"""An objective on a corpus before any training: counts, matrices, spectra, graphs, bounds."""

from lookaround.theory.graph import Connectivity, connectivity
from lookaround.theory.lags import LagCounts, count_lags
from lookaround.theory.matrices import Cooccurrence, cooccurrence
from lookaround.theory.spectrum import CooccurrenceSpectrum

__all__ = [
    "Connectivity",
    "Cooccurrence",
    "CooccurrenceSpectrum",
    "LagCounts",
    "connectivity",
    "cooccurrence",
    "count_lags",
]
