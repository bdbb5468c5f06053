"""Files of a model hub: listed, fetched, resumed, compared with their digests, and put in place.

    listing       what the hub holds at a commit: names, sizes, digests
    connection    requests with patience: what is tried again, and what ends at once
    download      one file's bytes, resumed and hashed while they are written
    fetching      one file, from listing to place; `layout` is where huggingface_hub looks for it
    digests, lock, disk

Rules
- A file is in place under its own digest or it is not in place. What has another digest goes to quarantine.
- A fault that may pass (429, 5xx, a cut, a short read) is tried again with patience; one that will not pass
  (wrong digest, refused token, revision gone) ends at once, by name.
- The token goes to the hub's own origin, nowhere else, and stands in no line and no error.
- Two at once on one file: one fetches, the other waits and finds it done.

Why huggingface_hub does not fetch for us. Read in 2.4.0, `file_download.py`: `_download_to_tmp_and_move`
writes to a name of its own for each process and removes it on failure, so nothing is resumed by the next run
(kill -9 leaves it behind for ever); nothing is hashed, only the size is compared; a reset while reading
(`ReadError`), a 5xx on the download itself and a short read end it; a full disk is a warning; nothing is
flushed to the disk. Its Xet path (`xet_get`) resumes nothing between runs and cannot be shown on loopback.
What is used of it: its session (proxies, certificates, offline mode), its URLs, its lock file under its name
and its folder layout, so that `datasets`, timm and huggingface_hub open offline what was fetched here, and
wait for us as we wait for them.
"""
