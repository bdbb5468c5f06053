"""The rules of the network, pure: what a verdict, a score, a weight, a draw and a view of an image are.

Validator, auditor, miner and evaluation call these functions; nothing here reads a file, a clock, a socket or
a model. What a rule needs from the world is a value that is handed in.

    classification   what a classifier says to an image, and what an engine is
    verification     the numbered checks, from a response's bytes to a verdict
    distortion       exact L-inf, RMSE, PSNR and SSIM on uint8
    scoring          from a verdict to a score
    selection        which miners are asked, from a snapshot of the subnet
    weights          from histories to a weight vector
    traversal        the order of images in an epoch
    freshness        the view of an image that is sent

Imports: `errors` and `wire`; of `config` the type of the settings, in `from_settings`.
"""
