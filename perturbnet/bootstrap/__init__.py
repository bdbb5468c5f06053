"""Bootstrap: from nothing to data and weights that are complete, verified and named by one digest.

The way of a file
    pins      which repository, which commit, which files, and their digests once a download recorded them
    hub       what the hub holds at that commit, compared with the pins before a byte is fetched; then the
              file itself, put in place only if it is the right one (`perturbnet.hub`)
    verifying the same digests again, on the bytes as the disk has them now

A revision is a commit. A branch or tag could move, so it is refused.
"""
