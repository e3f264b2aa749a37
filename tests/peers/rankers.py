"""What MLServer runs as a ranker of films: a user's row times all films' columns, less what the user has seen.

It is imported by MLServer alone, whose messages have the same names as tritonclient's.
"""

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

SHOWN = 10


class Ranker(MLModel):
    """Its file holds the three matrices."""

    async def load(self) -> bool:
        data = np.load(self.settings.parameters.uri)
        self.users, self.films, self.seen = data["users"], data["films"], data["seen"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        user = int(np.asarray(payload.inputs[0].data.root).ravel()[0])
        scores = np.where(self.seen[user], -1e9, self.users[user] @ self.films).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:SHOWN]
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                ResponseOutput(name="items", shape=[SHOWN], datatype="INT64", data=best.tolist()),
                ResponseOutput(name="scores", shape=[SHOWN], datatype="FP32", data=scores[best].tolist()),
            ],
        )
