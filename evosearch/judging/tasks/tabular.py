"""tabular: tables of scikit-learn: breast cancer (2 classes), wine (3 classes), diabetes (a number). Small: seeds differ much.

Variants: `cancer` (default) 569x30, `wine` 178x13, `diabetes` 442x10, 60 / 20 / 20 by a fixed permutation, scaled by the
training part only. No row is there twice. License: UCI tables CC BY 4.0; diabetes (Efron et al. 2004) is stated nowhere.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from evosearch.judging.tasks import Data, Task
from evosearch.judging.tasks.supervised import loss, scaled, score


@cache
def load(variant: str = "") -> Data:
    """Columns `(N, D)` and classes `(N,)` or standardized numbers `(N, 1)`."""
    from sklearn import datasets

    readers = {"cancer": datasets.load_breast_cancer, "wine": datasets.load_wine, "diabetes": datasets.load_diabetes}
    columns, answers = readers[variant or "cancer"](return_X_y=True)
    inputs, targets = torch.from_numpy(np.asarray(columns)).float(), torch.from_numpy(np.asarray(answers))
    if variant == "diabetes":
        targets = targets.float()[:, None]
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    sixty, eighty = int(0.6 * len(order)), int(0.8 * len(order))
    train, validation, test = scaled(*((inputs[part], targets[part]) for part in (order[:sixty], order[sixty:eighty], order[eighty:])))
    return Data(train, validation, test, outputs=1 if variant == "diabetes" else int(targets.max()) + 1)


TASK = Task(
    name="tabular",
    what="breast cancer, wine and diabetes tables of scikit-learn",
    license="UCI breast cancer and wine, by way of scikit-learn: CC BY 4.0; diabetes (Efron et al. 2004): not stated",
    load=load,
    loss=loss,
    score=score,
    batch_size=64,
    rates={"mlp": 3e-3, "deep-mlp": 3e-3},
)
