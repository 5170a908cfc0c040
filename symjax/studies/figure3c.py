"""Figure 3(c): figure 3(b) with larger group elements."""

import dataclasses

from . import figure3b
from .figure3b import conclude as conclude, draw as draw, look as look, study as study


@dataclasses.dataclass(frozen=True)
class Config(figure3b.Config):
    """Options of figure3c."""

    scale: float = 1.0
    """Size of log g: its entries have standard deviation scale / sqrt(32)."""
