"""The S3 on loopback refuses what the real one does: its verifier makes the signatures Amazon published."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.s3_protocol import Call

EMPTY = hashlib.sha256(b"").hexdigest()
COMMON = {
    "host": "examplebucket.s3.amazonaws.com",
    "x-amz-content-sha256": EMPTY,
    "x-amz-date": "20130524T000000Z",
}
# Amazon S3 API reference, "Authenticating requests: using the Authorization header", examples 1, 2, 3 and 4.
PUT_HASH = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
EXAMPLES = {
    "get": (
        Call("GET", "/test.txt", [], COMMON | {"range": "bytes=0-9"}),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put": (
        Call(
            "PUT",
            "/test$file.text",
            [],
            COMMON
            | {
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-content-sha256": PUT_HASH,
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
        ),
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "lifecycle": (
        Call("GET", "/", [("lifecycle", "")], COMMON),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list": (
        Call("GET", "/", [("prefix", "J"), ("max-keys", "2")], COMMON),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_amazon_s_own_examples(name: str) -> None:
    call, signature = EXAMPLES[name]
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert call.signature(secret, "20130524", "us-east-1", ";".join(sorted(call.headers))) == signature
