"""The paper's experiments and Monte Carlo at scale: one file per study, one runner.

A study is a module with a frozen dataclass ``Config`` (first field ``seed``), ``study(config)``,
which says what is measured on each network as a pure function of a key and an index, and
``conclude(config, data) -> Result``, which looks at all of them; ``draw(data)`` draws what is
stored. Modules are imported when asked for, so that a plain ``import symjax`` needs neither
matplotlib nor scikit-learn.
"""

from ._result import Data as Data, Progress as Progress, Result as Result, Statement as Statement
from ._sampling import Study as Study

STUDIES: dict[str, str] = {
    "figure1": "The minimum of a three-layer linear net, with and without a skip connection",
    "figure2": "Two minima, the curve and the straight line between them, and the loss on both",
    "figure3a": "Eq. (6) changes the output by at most its norm: networks of many sizes",
    "figure3b": "Loss on the curves of eq. (5) and (6) and on their chords, small group elements",
    "figure3c": "The same with larger group elements",
    "figure4": "The barrier of a rescaled deep network grows without bound, as its closed form",
    "curvature": "Curvature of random linear networks' curves, and how tight Theorem 6.2 is",
    "components": "How many components minima have: formulas, labels, paths and the grid",
    "minima": "Which component of the minimum SGD ends in, and the pass to the next one",
    "digits": "A network trained on digits, moved along its symmetry: accuracy and loss",
    "merging": "Averaging two networks: what each group of symmetries buys, on four architectures",
}
"""Every study's name with one line about it; the module ``symjax.studies.<name>`` runs it."""

APART = ("merging",)
"""Studies that are not of the paper and take minutes: `reproduce` leaves them to `run`."""
