"""Checkpoints: a file of weights as a flat dictionary of arrays, and back into such a file.

`load` and `save` know safetensors, PyTorch, NumPy, Flax, Orbax and Keras files by their names, and
`load` GGUF too; the packages that read and write them are imported when they are asked for. `put`
brings the arrays into the parameters of a model.
"""

from ._door import load as load, save as save
from ._put import put as put
