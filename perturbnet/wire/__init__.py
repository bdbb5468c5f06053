"""Bytes in and out: what validators, miners and auditors exchange, and how it is read and signed.

Everything that is read here may come from somebody hostile: sizes, counts and depth are bounded before
anything is built, and whatever does not fit is a named error.

    messages         AttackChallenge, AttackResponse, Acknowledgement
    target           a miner as the metagraph announces it
    addresses        which announced addresses are dialled
    images           strict PNG and base64; the digest of pixels
    deltas           what an adversarial image changed, compressed
    canonical_json   RFC 8785, for everything that is hashed or signed
    untrusted_json   JSON with bounded depth and token count
    keys             what is signed under a domain, and how an sr25519 signature is verified
    digests          SHA-256 as lower-case hex
    units            parts per 10^9

Imports: `errors`. No transport, no chain client and no torch.
"""
