"""From what a model puts out to the log-odds of label 1."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from sourcematters.audit.model.choice import ModelChoice
from sourcematters.errors import StudyError

CLIPPED = 1e-7  # probabilities end so far from 0 and 1; in 32 bits the next number below 1 is 1 - 6e-8
LIMIT = float(logit(1 - CLIPPED))  # log-odds of a probability that was clipped
SUM = 1e-3  # by which the sum of a softmax in 16 bits may differ from 1
Outputs = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """How the outputs (N, K) of a model are read: which is label 1, which label 0, and whether they are probabilities.

    `negative` None is a sigmoid of its own. `how` says it in words.
    """

    outputs: int
    positive: int
    negative: int | None
    probabilities: bool
    how: str

    def log_odds(self, values: Outputs) -> NDArray[np.float64]:
        """Log-odds of label 1, (N,). Raises StudyError for values that cannot be what they are read as."""
        if values.shape[1] != self.outputs:
            raise StudyError(f"it makes {values.shape[1]} outputs of some images and {self.outputs} of others.")
        if not np.isfinite(values).all():
            raise StudyError(
                f"its outputs are not finite for {(~np.isfinite(values)).any(axis=1).sum()} of {len(values)} images. "
                "Check mean, std and size, or use another checkpoint."
            )
        if not self.probabilities:
            return values[:, self.positive] - (values[:, self.negative] if self.negative is not None else 0.0)
        if (wrong := (values < 0) | (values > 1)).any():
            raise StudyError(
                f"its outputs are read as probabilities ({self.how}), but {values[wrong][0]:.4g} is none. Give "
                "kind_of_output: logits."
            )
        p = np.clip(values, CLIPPED, 1 - CLIPPED)
        if self.negative is None:
            return logit(p[:, self.positive])
        return np.log(p[:, self.positive]) - np.log(p[:, self.negative])

    def clipped(self, log_odds: NDArray[np.float64]) -> int:
        """How many of these log-odds stand for a probability of 0 or 1, but for 1e-7: such images tie."""
        return int((np.abs(log_odds) >= LIMIT * (1 - 1e-9)).sum()) if self.probabilities else 0


def read_outputs(choice: ModelChoice, values: Outputs, ends_in: str) -> Reading:
    """Which of the outputs is what, from the `values` (N, K) of test patterns and the operator that the graph ends in.

    `ends_in` is Sigmoid, Softmax, Linear (nothing follows the last layer) or "" where that is not known. Raises
    StudyError where the choice does not say which output is meant.
    """
    outputs = values.shape[1]
    for index in (choice.output, choice.negative_output):
        if index is not None and index >= outputs:
            raise StudyError(f"this model has {outputs} outputs, numbered from 0: there is no output {index}.")
    if outputs > 2 and choice.output is None:
        raise StudyError(
            f"this model has {outputs} outputs: give output: 0..{outputs - 1}, the index of label 1 among them."
        )
    probabilities, why = _probabilities(choice, values, ends_in)
    sums_to_one = probabilities and bool((np.abs(values.sum(axis=1) - 1) < SUM).all())
    what = "probabilities" if probabilities else "logits"
    positive = choice.output if choice.output is not None else outputs - 1
    reading = Reading(outputs, positive, choice.negative_output, probabilities, "")
    if outputs == 1:
        said = "one output, the " + ("probability" if probabilities else "logit") + " of label 1"
    elif choice.negative_output is not None:
        said = f"output {positive} against output {choice.negative_output} of {outputs}, {what}"
    elif outputs == 2 and choice.output in (None, 0, 1) and (not probabilities or sums_to_one):
        reading = replace(reading, negative=1 - positive)
        said = f"two outputs, {what} of a softmax, of which output {positive} is label 1"
    elif choice.output is None:
        raise StudyError(
            "this model has two outputs, which are probabilities but do not add up to 1: give output: 0 or 1, the "
            "index of label 1."
        )
    elif probabilities:
        said = f"output {positive} of {outputs}, the probability of label 1"
    else:
        said = f"output {positive} of {outputs}, read as the logit of a sigmoid (of a softmax give negative_output)"
    return replace(reading, how=f"{said} ({why})")


def _probabilities(choice: ModelChoice, values: Outputs, ends_in: str) -> tuple[bool, str]:
    """Whether outputs are probabilities, and why that is thought."""
    if choice.kind_of_output != "auto":
        return choice.kind_of_output == "probabilities", "as kind_of_output says"
    if ends_in:
        return ends_in in ("Sigmoid", "Softmax"), f"the network ends in {ends_in}"
    low, high = values.min(), values.max()
    return bool(low >= 0 and high <= 1), f"they lie in {low:.3g}..{high:.3g} for {len(values)} test patterns"
