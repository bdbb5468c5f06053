"""What each code means to a reader who never saw the protocol."""

from __future__ import annotations

from perturbnet.errors import Reject

ENDINGS: dict[str, str] = {
    Reject.OK: "accepted: within the limits, and the model was wrong",
    Reject.NOT_SERVING: "the miner announced no address",
    Reject.ADDRESS_REFUSED: "the miner announced an address that is not public",
    Reject.OFFLINE: "nobody answered at the miner’s address",
    Reject.TIMEOUT: "no answer in time",
    Reject.HTTP_ERROR: "the miner’s server answered with an error",
    Reject.INTERRUPTED: "the validator itself stopped; not counted",
    Reject.BODY_TOO_LARGE: "an answer that is too long",
    Reject.BAD_MESSAGE: "an answer in another form, or to another task",
    Reject.BAD_SIGNATURE: "an answer that its miner did not sign",
    Reject.NO_IMAGE: "the miner found no image that fools the model",
    Reject.BAD_BASE64: "an image in a malformed encoding",
    Reject.PNG_SIGNATURE: "not a PNG",
    Reject.PNG_HEADER: "a PNG of another kind",
    Reject.PNG_SIZE: "an image of another size",
    Reject.PNG_CHUNK: "a PNG with parts that are not allowed",
    Reject.PNG_CRC: "a damaged PNG",
    Reject.PNG_DATA: "a PNG that does not unpack to its size",
    Reject.PNG_BOMB: "a PNG that unpacks to more than its size",
    Reject.PNG_TRAILING: "a PNG with bytes behind its end",
    Reject.PIXELS_MISMATCH: "other pixels than the miner signed",
    Reject.LINF_LOW: "too small a change to count",
    Reject.LINF_HIGH: "some value was changed too much",
    Reject.SSIM_LOW: "the image does not look alike any more",
    Reject.PSNR_LOW: "too much noise",
    Reject.CLEAN_MISLABELLED: "the clean image’s label does not hold; not counted",
    Reject.LABEL_UNCHANGED: "the model was not fooled",
    Reject.INDETERMINATE: "the model’s arithmetic overflowed; no verdict",
}
"""One for each `Reject`."""

EXCLUSIONS: dict[str, str] = {
    "cut_off": "not everybody who was asked has a receipt",
    "other_model": "judged by another model",
    "nobody_served": "nobody was there to be asked",
    "interrupted": "the validator itself stopped",
    "clean_mislabelled": "the clean image’s label does not hold",
}
"""Why a round does not count: one for each of `statistics.EXCLUSIONS`."""
